"""Which reader reads which kind of file."""

from __future__ import annotations

from collections.abc import Iterator

from defect_mf_flows.importing.reading import Reading
from defect_mf_flows.importing.walk import Kind, Source


def read(source: Source) -> Iterator[Reading]:
    """Read the calculations of a file, one in memory at a time.

    Parameters
    ----------
    source
        The file.

    Yields
    ------
    Reading
        One for VASP; files of ASE may hold many.

    Raises
    ------
    ImportingError
        If the file is not what it looks like, or holds no complete step.
    """
    if source.kind in (Kind.OUTCAR, Kind.VASPRUN):
        from defect_mf_flows.importing.vasp import read_vasp

        yield read_vasp(source)
        return
    from defect_mf_flows.importing.ase_files import read_ase

    yield from read_ase(source)
