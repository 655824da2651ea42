"""What an import would do: one row per calculation, decided before anything is stored."""

from __future__ import annotations

import hashlib
import logging
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from pymatgen.core import Lattice, Structure

from defect_mf_flows.errors import DefectMFError, ImportingError
from defect_mf_flows.importing.comparable import Comparable, Reference
from defect_mf_flows.importing.identify import (
    SAME_CELL,
    Host,
    choose_host,
    contradictions,
    folder_claim,
    identify,
)
from defect_mf_flows.importing.reading import Reading, why_not
from defect_mf_flows.importing.sources import read
from defect_mf_flows.importing.walk import Kind, Source, recognise

logger = logging.getLogger(__name__)
_NAMESPACE = uuid.UUID("6d1f0f0e-6f3b-4c5e-9a55-0d9b6f1c7a10")


class State(StrEnum):
    """What becomes of a calculation."""

    NEW = "new"
    STORED = "stored"
    DUPLICATE = "duplicate"
    REFUSED = "refused"


@dataclass
class Row:
    """One calculation, without its arrays.

    Attributes
    ----------
    source, part, label
        Where it is.
    state
        What becomes of it.
    notes
        What the user should know; the first says why where it is refused.
    program, version, digest, charge, nelect, zval, method, accuracy, kpoints, relaxation
        As in :class:`~defect_mf_flows.importing.reading.Reading`.
    symbols, positions, cell
        First usable geometry.
    n_frames, left_out
        Usable steps, and steps that are not.
    energy
        Of the last usable step, eV per cell.
    frames
        A short hash per usable step.
    defect, site, fidelity
        What it is; ``fidelity`` is what the file itself says, or None.
    """

    source: Source
    label: str
    part: int = 0
    state: State = State.NEW
    notes: list[str] = field(default_factory=list)
    program: str = ""
    version: str = ""
    digest: str = ""
    charge: int | None = None
    nelect: float | None = None
    zval: dict[str, float] = field(default_factory=dict)
    method: dict[str, Any] = field(default_factory=dict)
    accuracy: dict[str, Any] = field(default_factory=dict)
    kpoints: str = ""
    relaxation: bool = True
    symbols: tuple[str, ...] = ()
    positions: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    cell: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    n_frames: int = 0
    left_out: int = 0
    energy: float | None = None
    frames: list[bytes] = field(default_factory=list)
    defect: str | None = None
    site: list[float] | None = None
    fidelity: str | None = None

    @property
    def structure(self) -> Structure:
        """First usable geometry."""
        return Structure(
            Lattice(self.cell), self.symbols, self.positions, coords_are_cartesian=True
        )

    def uuid(self, fidelity: str) -> str:
        """Name of its document: the same file and fidelity always give the same."""
        return str(uuid.uuid5(_NAMESPACE, f"{fidelity}\n{self.digest}\n{self.part}"))

    def refuse(self, why: str) -> None:
        """Leave it out, and say why."""
        self.state = State.REFUSED
        self.notes.insert(0, why)


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
        for row in _rows(source):
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


def _rows(source: Source) -> Iterable[Row]:
    """Rows of one file; a file that cannot be read is one row that says why."""
    found = False
    try:
        for reading in read(source):
            found = True
            yield row_of(reading)
        if not found:
            raise ImportingError(f"{source.path}: no calculation in it; leave it out.")
    except (DefectMFError, OSError) as error:
        row = Row(source, source.label)
        row.refuse(str(error) if isinstance(error, DefectMFError) else _explain(error, source))
        yield row
    except (ValueError, IndexError, KeyError) as error:  # numbers or fields that are none
        row = Row(source, source.label)
        row.refuse(
            f"{source.path}: malformed ({type(error).__name__}: {str(error)[:120]}); the file was "
            "altered, or is of a version that is not known. Leave it out."
        )
        yield row


def _explain(error: OSError, source: Source) -> str:
    return f"{source.path}: {error.strerror or error}; check the file and its permissions."


def row_of(reading: Reading) -> Row:
    """Reduce a reading to what decisions need."""
    usable = reading.usable()
    row = Row(
        source=reading.source,
        label=reading.label,
        part=reading.part,
        notes=list(reading.notes),
        program=reading.program,
        version=reading.version,
        digest=reading.digest,
        charge=reading.charge,
        nelect=reading.nelect,
        zval=reading.zval,
        method=reading.method,
        accuracy=reading.accuracy,
        kpoints=reading.kpoints,
        relaxation=reading.relaxation,
        symbols=tuple(reading.symbols),
        n_frames=len(usable),
        left_out=len(reading.steps) - len(usable),
        frames=[_digest(reading.symbols, step) for _, step in usable],
        defect=reading.defect,
        fidelity=reading.fidelity,
    )
    reasons = [
        f"step {n}: {why}; left out"
        for n, step in enumerate(reading.steps, reading.first)
        if (why := why_not(step))
    ]
    row.notes += reasons[:3] + ([f"and {len(reasons) - 3} more steps"] if len(reasons) > 3 else [])
    if not usable:
        row.refuse(f"{reading.source.path}: no step with usable labels; compute it again.")
    else:
        first, last = usable[0][1], usable[-1][1]
        row.positions, row.cell, row.energy = first.positions, first.cell, last.energy
    return row


def _digest(symbols: list[str], step: Any) -> bytes:
    content = hashlib.blake2b(" ".join(symbols).encode(), digest_size=16)
    arrays = [step.cell, step.positions] + ([] if step.forces is None else [step.forces])
    for values, decimals in ((values, 5) for values in arrays):
        content.update((np.round(values, decimals) + 0.0).tobytes())
    content.update(f"{step.energy:.6f}".encode())
    return content.digest()


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
        row = next(iter(_rows(Source(path.absolute(), kind, path.name))))
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
