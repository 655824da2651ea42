"""One relaxation on a model: when it ends, what came out, and why nothing may have come out."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.core.charge import charge_of, charged_structure, spin_of, with_spin
from defect_mf_flows.schemas.structures import symbols_of

#: An atom that moved this far has left the defect and its bonds, Angstrom.
MAX_MOVE = 6.0


class Problem(StrEnum):
    """Why a relaxation has no end."""

    EXPLODED = "exploded"
    LOST = "lost"


@dataclass(frozen=True)
class Trajectory:
    """Every step of one relaxation.

    Attributes
    ----------
    positions
        Angstrom, shape (n_steps, n_atoms, 3); the first are the start's.
    energies
        eV per cell, shape (n_steps,).
    """

    positions: np.ndarray
    energies: np.ndarray


@dataclass(frozen=True)
class Relaxed:
    """End of one relaxation.

    Attributes
    ----------
    structure
        Final geometry with its charge; the start where there is no end.
    energy
        eV per cell; not a number where there is no end.
    converged
        Forces below the threshold.
    steps
        Force calls.
    problem
        Why there is no end, or None.
    message
        What was seen, in one line.
    trajectory
        Every step, where asked for.
    """

    structure: Structure
    energy: float
    converged: bool
    steps: int
    problem: Problem | None = None
    message: str = ""
    trajectory: Trajectory | None = field(default=None, compare=False)

    @property
    def exploded(self) -> bool:
        """Forces or displacements beyond all reason."""
        return self.problem is Problem.EXPLODED

    def at(self, step: int) -> Structure:
        """Geometry after so many steps of the trajectory, with charge and spin."""
        assert self.trajectory is not None
        known = self.structure
        structure = charged_structure(
            known.lattice.matrix,
            symbols_of(known),
            self.trajectory.positions[step],
            charge_of(known),
        )
        return with_spin(structure, spin_of(known))


@dataclass(frozen=True)
class Limits:
    """When a relaxation ends.

    Attributes
    ----------
    fmax
        Largest force of a converged structure, eV/Angstrom.
    steps
        Most FIRE steps per structure.
    trajectories
        Whether every step is kept.
    """

    fmax: float
    steps: int
    trajectories: bool = False


def explosion(forces: np.ndarray, moved: np.ndarray) -> str:
    """Say what is beyond all reason in a step, or an empty text.

    Parameters
    ----------
    forces
        eV/Angstrom, shape (n_atoms, 3).
    moved
        Displacements since the start, Angstrom, shape (n_atoms, 3).
    """
    if not np.isfinite(forces).all():
        return "forces are not finite"
    farthest = float(np.abs(moved).max())
    if not farthest <= MAX_MOVE:
        return f"an atom moved by {farthest:.1f} A"
    return ""


def lost(
    structure: Structure,
    problem: Problem,
    message: str,
    *,
    steps: int = 0,
    trajectory: Trajectory | None = None,
) -> Relaxed:
    """Record a relaxation without an end."""
    return Relaxed(
        structure=structure,
        energy=float("nan"),
        converged=False,
        steps=steps,
        problem=problem,
        message=message,
        trajectory=trajectory,
    )
