"""What an import would do: one row per calculation, decided before anything is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.errors import ImportingError
from defect_mf_flows.importing.comparable import Comparable, Reference
from defect_mf_flows.importing.identify import (
    SAME_CELL,
    Host,
    choose_host,
    contradictions,
    folder_claim,
    identify,
)
from defect_mf_flows.importing.rows import Row, State, rows_of
from defect_mf_flows.importing.walk import Kind, Source, recognise


class Known(Protocol):
    """What a store already holds under the fidelity's name."""

    def methods(self) -> list[Comparable]:
        """Settings of the imported calculations."""

    def hosts(self) -> list[Host]:
        """Pristine cells."""

    def has(self, uuid: str) -> bool:
        """Tell whether a calculation is there."""


@dataclass
class Plan:
    """What an import would do.

    Attributes
    ----------
    fidelity
        Name of the fidelity.
    rows
        Calculations in the order in which they were found.
    hosts
        Pristine cells that defects were told from.
    messages
        Folders that could not be opened.
    """

    fidelity: str
    rows: list[Row]
    hosts: list[Host]
    messages: list[str] = field(default_factory=list)

    def of(self, state: State) -> list[Row]:
        """Rows of one state."""
        return [row for row in self.rows if row.state is state]

    @property
    def n_frames(self) -> int:
        """Frames that are new."""
        return sum(row.n_frames for row in self.of(State.NEW))


def make_plan(
    sources: Iterable[Source],
    fidelity: str,
    *,
    known: Known | None = None,
    bulk: Host | None = None,
    progress: Callable[[Row], None] | None = None,
) -> Plan:
    """Read every file once and decide about each calculation.

    Parameters
    ----------
    sources
        Files that :func:`~defect_mf_flows.importing.walk.walk` found.
    fidelity
        Name under which the calculations are to be stored.
    known
        What the store holds already.
    bulk
        The pristine cell, where it is not among the calculations.
    progress
        Called with every row as it is read.

    Returns
    -------
    Plan
        Nothing has been stored; of the arrays only first geometries are in memory.
    """
    rows = []
    for source in sources:
        for row in rows_of(source):
            rows.append(row)
            if progress is not None:
                progress(row)
    hosts = [*([bulk] if bulk else []), *(known.hosts() if known else [])]
    hosts += _hosts(rows, hosts)
    for row in _open(rows):
        _recognise(row, hosts)
        if row.fidelity not in (None, fidelity):
            row.refuse(
                f"the file says fidelity {row.fidelity!r}, not {fidelity!r}; import it with "
                f"--fidelity {row.fidelity}"
            )
    _compare(rows, known)
    _count_once(rows, fidelity, known)
    return Plan(fidelity, rows, hosts)


def _open(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row.state is State.NEW]


def _hosts(rows: list[Row], given: list[Host]) -> list[Host]:
    """Pristine cells among the rows, one per lattice without a given one."""
    lattices: list[tuple[np.ndarray, dict[str, Row]]] = []
    for row in _open(rows):
        if row.charge not in (0, None) or any(host.fits(row.cell) for host in given):
            continue
        formula = " ".join(sorted(row.symbols))
        for cell, formulas in lattices:
            if np.allclose(cell, row.cell, atol=SAME_CELL):
                formulas.setdefault(formula, row)
                break
        else:
            lattices.append((row.cell, {formula: row}))
    found = []
    for _, formulas in lattices:
        candidates = list(formulas.values())
        chosen = choose_host([(row.label, row.structure) for row in candidates])
        if chosen is not None:
            row = candidates[chosen]
            found.append(Host(row.structure, row.zval, str(row.source.path)))
    return found


def _recognise(row: Row, hosts: list[Host]) -> None:
    """Find charge, defect and site, and compare them with the folder's name."""
    host = next((h for h in hosts if h.fits(row.cell)), None)
    if row.charge is None:
        _charge_from_host(row, host)
    if row.charge is None or row.state is not State.NEW:
        return
    if host is None:
        if row.defect is None:
            row.refuse(
                f"{row.source.path}: cannot tell host from defect: no pristine cell with this "
                "lattice was found. Add the folder of the bulk calculation, or name its "
                "structure with --bulk."
            )
        return
    claimed = row.defect
    try:
        found = identify(row.structure, host)
    except ImportingError as error:
        row.refuse(f"{row.source.path}: {error}")
        return
    row.defect, row.site = found.defect, found.site
    if found.note and found.defect is None:
        row.refuse(f"{row.source.path}: {found.note}; such defects cannot be named.")
        return
    if found.defect is None and row.charge != 0:
        row.defect = "polaron"
        row.notes.append("the host's atoms with a charge: named polaron")
    if found.note:
        row.notes.append(found.note)
    if claimed is not None and found.defect != claimed:
        row.notes.append(f"the file says {claimed}, the atoms say {found.defect or 'host'}")
    row.notes += contradictions(folder_claim(row.source.path), row.defect, row.charge)


def _charge_from_host(row: Row, host: Host | None) -> None:
    """Electrons against the host's valences, where the file does not tell its own."""
    zval = host.zval if host is not None else {}
    if row.nelect is None or not set(row.symbols) <= set(zval):
        row.refuse(
            f"{row.source.path}: the file does not tell its charge (electrons and valences for "
            f"VASP, info['charge'] or info['total_charge'] in extended XYZ, the key total_charge "
            "in an ASE database, which keeps no key named charge); add it there."
        )
        return
    charge = sum(zval[symbol] for symbol in row.symbols) - row.nelect
    if abs(charge - round(charge)) > 1e-3:
        row.refuse(f"{row.source.path}: charge {charge:g} is not whole; check NELECT.")
        return
    row.charge = round(charge)
    row.notes.append("charge from the host's valences: the file lacks its own")


def _compare(rows: list[Row], known: Known | None) -> None:
    reference = Reference(known.methods() if known else [], _open(rows))
    for row in _open(rows):
        if refused := reference.refusals(row):
            row.refuse(f"not comparable: {'; '.join(refused)}. Import it under another --fidelity.")
            continue
        if not row.method:
            row.notes.append("the file tells no settings: comparable on your word alone")
        row.notes += reference.remarks(row)


def _count_once(rows: list[Row], fidelity: str, known: Known | None) -> None:
    """Mark what is in the store, and what was already seen."""
    seen: dict[bytes, str] = {}
    for row in _open(rows):
        if known is not None and known.has(row.uuid(fidelity)):
            row.state = State.STORED
    for row in rows:
        if row.state not in (State.NEW, State.STORED):
            continue
        again = [seen[d] for d in row.frames if d in seen]
        for digest in row.frames:
            seen.setdefault(digest, row.label)
        if row.state is State.NEW and again:
            row.n_frames -= len(again)
            of = ", ".join(sorted(set(again))[:3])
            if row.n_frames <= 0:
                row.state = State.DUPLICATE
                row.notes.insert(0, f"the same frames as {of}")
            else:
                row.notes.append(f"{len(again)} frames are those of {of}; counted once")


def host_from_file(path: Path) -> Host:
    """Read the pristine cell from a structure file or a calculation.

    Parameters
    ----------
    path
        POSCAR, CIF, vasprun.xml, OUTCAR, or whatever pymatgen reads.

    Returns
    -------
    Host
        With valences if the file is VASP's.

    Raises
    ------
    ImportingError
        If it cannot be read.
    """
    if not path.is_file():
        raise ImportingError(f"--bulk {path}: no such file; name a file, for example bulk/POSCAR.")
    kind = recognise(path)
    if kind in (Kind.OUTCAR, Kind.VASPRUN):
        row = next(iter(rows_of(Source(path.absolute(), kind, path.name))))
        if row.state is State.REFUSED:
            raise ImportingError(f"--bulk {row.notes[0]}")
        return Host(row.structure, row.zval, str(path))
    try:
        structure = Structure.from_file(path)
    except Exception as error:  # pymatgen raises whatever its parsers raise
        raise ImportingError(
            f"--bulk {path}: not readable as a structure: {str(error)[:200]}"
        ) from None
    structure.remove_oxidation_states()
    return Host(structure, {}, str(path))
