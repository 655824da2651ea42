"""VASP: settings, charge and steps of one run, from its files alone."""

from __future__ import annotations

from typing import Any

from defect_mf_flows.engines.vasp.method import accuracy_of, imposed_moment, method_of
from defect_mf_flows.engines.vasp.outcar import RunHead
from defect_mf_flows.engines.vasp.runs import Run, completed, read_outcar, read_vasprun
from defect_mf_flows.errors import ImportingError
from defect_mf_flows.importing.reading import Reading
from defect_mf_flows.importing.walk import Kind, Source
from defect_mf_flows.schemas.calculation import BandEdges

_RELAXING = ("1", "2", "3")
_OTHER_MOTION = {"0": "molecular dynamics", "5": "finite differences", "6": "finite differences"}


def read_vasp(source: Source) -> Reading:
    """Read one run of VASP.

    Parameters
    ----------
    source
        Its vasprun.xml or OUTCAR.

    Returns
    -------
    Reading
        With the complete ionic steps, also of a file that was cut off.

    Raises
    ------
    ImportingError
        If the file, and its twin, hold no complete ionic step.
    """
    try:
        return _read(source)
    except ImportingError as error:
        if source.other is None:
            raise
        found = _read(source.other)
        found.notes.insert(0, f"read from {source.other.path.name}, because {error}")
        return found


def _read(source: Source) -> Reading:
    run = (read_outcar if source.kind is Kind.OUTCAR else read_vasprun)(source.path)
    head, steps, name = run.head, run.steps, source.path
    if not head.version and not steps:
        why = f" ({head.broken})" if head.broken else ""
        raise ImportingError(f"{name}: is no {source.kind} of VASP{why}; leave it out.")
    if not steps:
        raise ImportingError(
            f"{name}: no complete ionic step{_cut(head)}; let VASP continue, or leave it out."
        )
    if len(head.species) != len(steps[0].positions):
        raise ImportingError(
            f"{name}: the header tells {len(head.species)} atoms, the steps have "
            f"{len(steps[0].positions)}; the file was altered or put together."
        )
    if source.other is not None:
        run = completed(run, source.other.path)
    return _reading(source, run)


def _reading(source: Source, run: Run) -> Reading:
    head, steps, tags = run.head, run.steps, run.head.tags
    relaxation = tags.get("IBRION") in _RELAXING and tags.get("NSW", "0") != "0"
    found = Reading(
        source=source,
        label=source.label,
        program="vasp",
        version=head.version or "unknown",
        digest=head.digest,
        symbols=head.species,
        steps=steps,
        nelect=head.nelect,
        charge=run.charge,
        zval=dict(zip(head.elements, head.zval, strict=False)),
        spin=imposed_moment(tags),
        method=method_of(tags, head.elements) | _potcars(head),
        accuracy=accuracy_of(tags),
        kpoints=_kpoints(head),
        relaxation=relaxation,
        relaxed=relaxation and (head.relaxed or _small_forces(tags, steps[-1])),
        ended=head.ended,
        magnetization=head.magnetization,
        seconds=head.seconds,
        settings={"tags": dict(sorted(tags.items())), "potcars": head.titles},
        notes=list(run.notes),
    )
    if not head.ended:
        found.notes.append(f"cut off after {len(steps)} complete ionic steps{_cut(head)}")
    if motion := _OTHER_MOTION.get(tags.get("IBRION", "")):
        found.notes.append(f"{motion} (IBRION = {tags['IBRION']}), no relaxation")
    return found


def _cut(head: RunHead) -> str:
    return f" ({head.broken})" if head.broken else ""


def _potcars(head: RunHead) -> dict[str, str]:
    pairs = zip(head.elements, head.titles, strict=False)
    return {f"POTCAR {element}": title for element, title in pairs}


def _kpoints(head: RunHead) -> str:
    if head.grid is not None:
        shift = head.kpoints and any(abs(x) > 1e-6 for x in head.kpoints[0][:3])
        return "x".join(map(str, head.grid)) + (" shifted" if shift else "")
    if len(head.kpoints) == 1 and not any(abs(x) > 1e-6 for x in head.kpoints[0][:3]):
        return "1x1x1"
    return f"{len(head.kpoints)} points" if head.kpoints else ""


def _small_forces(tags: dict[str, str], last: Any) -> bool:
    import numpy as np

    try:
        limit = -float(tags.get("EDIFFG", "0"))
    except ValueError:
        return False
    # VASP compares before it rounds its output.
    largest = np.linalg.norm(last.forces, axis=1).max()
    return limit > 0 and bool(largest <= limit * 1.001 + 1e-4)


def band_edges(source: Source) -> BandEdges | None:
    """Band edges of the last step of a run.

    Parameters
    ----------
    source
        Its vasprun.xml or OUTCAR.

    Returns
    -------
    BandEdges or None
        None where the file does not tell, or the occupations leave no gap.
    """
    run = (read_outcar if source.kind is Kind.OUTCAR else read_vasprun)(source.path)
    return run.edges
