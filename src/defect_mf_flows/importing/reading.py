"""What one existing calculation tells of itself, the same for every program."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from defect_mf_flows.engines.vasp.outcar import RawStep
from defect_mf_flows.importing.walk import Source


@dataclass
class Reading:
    """One calculation as its files tell it.

    Attributes
    ----------
    source
        File.
    part
        Number of the calculation within the file.
    label
        Names the start structure.
    program, version
        Who computed it.
    digest
        SHA-256 of the file's uncompressed content.
    symbols
        Of the atoms, in the order of the arrays.
    steps
        Complete steps in order, with their own numbers.
    first
        Number of the first step.
    charge
        Of the cell; None if the file does not tell it.
    nelect, counts
        Electrons, and atoms per element, to find the charge from the host's valences.
    zval
        Valence electrons per element, as far as the file tells.
    spin
        Unpaired electrons where they were imposed, else None.
    method, accuracy
        Settings that must agree within a fidelity, and settings that are reported.
    kpoints
        Grid, or number of points.
    relaxation
        Whether the ions moved.
    relaxed, ended
        Whether a relaxation converged, and whether the program ended by itself.
    fidelity
        Name that the file itself gives, or None.
    defect
        Name that the file itself gives, or None; used where there is no host.
    magnetization
        Total moment, Bohr magnetons, or None.
    seconds
        Wall time, if told.
    settings
        Everything else worth keeping.
    notes
        What the user should know.
    """

    source: Source
    label: str
    program: str
    version: str
    digest: str
    symbols: list[str]
    steps: list[RawStep]
    part: int = 0
    first: int = 0
    charge: int | None = None
    nelect: float | None = None
    zval: dict[str, float] = field(default_factory=dict)
    spin: int | None = None
    method: dict[str, Any] = field(default_factory=dict)
    accuracy: dict[str, Any] = field(default_factory=dict)
    kpoints: str = ""
    relaxation: bool = True
    relaxed: bool = False
    ended: bool = True
    fidelity: str | None = None
    defect: str | None = None
    magnetization: float | None = None
    seconds: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def cell(self) -> np.ndarray:
        """First cell, shape (3, 3), Angstrom."""
        return self.steps[0].cell

    def usable(self) -> list[tuple[int, RawStep]]:
        """Steps with finite labels and a converged SCF, with their numbers."""
        return [(n, s) for n, s in enumerate(self.steps, self.first) if not why_not(s)]


def why_not(step: RawStep) -> str:
    """Why a step's labels cannot be used; empty if they can."""
    for name, values in (
        ("cell", step.cell),
        ("position", step.positions),
        ("energy", step.energy),
        ("force", step.forces),
        ("stress", step.stress),
    ):
        bad: Any = [] if values is None else np.argwhere(~np.isfinite(np.atleast_1d(values)))
        if len(bad):
            atom = f" of atom {bad[0][0] + 1}" if name in ("force", "position") else ""
            return f"{name}{atom} is not a finite number"
    return "" if step.scf_converged else "the SCF did not converge"
