"""Relax many structures on one head of a model with FIRE."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.core.charge import from_atoms, to_atoms
from defect_mf_flows.errors import ChargeError
from defect_mf_flows.learning.potential import Potential


@dataclass(frozen=True)
class Relaxed:
    """End of one relaxation.

    Attributes
    ----------
    structure
        Final geometry with its charge.
    energy
        eV per cell.
    converged
        Forces below the threshold.
    exploded
        Forces or displacements beyond all reason; the geometry is worthless.
    steps
        Force calls.
    """

    structure: Structure
    energy: float
    converged: bool
    exploded: bool
    steps: int


def relax(
    structures: list[Structure], potential: Potential, *, fmax: float, steps: int
) -> list[Relaxed]:
    """Relax structures one after the other at fixed cell.

    Parameters
    ----------
    structures
        Charged structures; charges may differ.
    potential
        Model and head.
    fmax
        eV/A.
    steps
        Limit on FIRE steps per structure.

    Returns
    -------
    list of Relaxed
        In the order of the structures; one that explodes does not stop the others.
    """
    return [_relax_one(item, potential, fmax=fmax, steps=steps) for item in structures]


def _relax_one(structure: Structure, potential: Potential, *, fmax: float, steps: int) -> Relaxed:
    from ase.optimize import FIRE

    atoms = to_atoms(structure)
    atoms.calc = potential.calculator(structure)
    start = atoms.get_positions()
    converged = exploded = False
    calls = 0
    try:
        for done in FIRE(atoms, logfile=os.devnull).irun(fmax=fmax, steps=steps):
            calls += 1
            converged = bool(done)
            forces, moved = atoms.get_forces(), atoms.get_positions() - start
            if not np.isfinite(forces).all() or np.abs(moved).max() > 6.0:
                exploded = True
                break
    except ChargeError:
        raise
    except RuntimeError:  # the neighbour list of an exploded cell
        exploded = True
    energy = float("nan") if exploded else float(atoms.get_potential_energy())
    return Relaxed(
        structure=structure if exploded else from_atoms(atoms),
        energy=energy,
        converged=converged and not exploded,
        exploded=exploded,
        steps=calls,
    )
