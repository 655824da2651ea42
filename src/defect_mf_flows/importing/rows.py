"""One calculation of an import as a row: what decisions need, without its arrays."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from pymatgen.core import Lattice, Structure

from defect_mf_flows.errors import DefectMFError, ImportingError
from defect_mf_flows.importing.reading import Reading, why_not
from defect_mf_flows.importing.sources import read
from defect_mf_flows.importing.walk import Source

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


def rows_of(source: Source) -> Iterable[Row]:
    """Rows of one file.

    Parameters
    ----------
    source
        The file.

    Yields
    ------
    Row
        One per calculation in it; a file that cannot be read is one row that says why.
    """
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
