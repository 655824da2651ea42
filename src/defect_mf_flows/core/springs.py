"""Springs between neighbouring atoms: how stiff a cell is before anything is known of it."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from ase.optimize.precon import Exp


def springs(atoms: Atoms, *, scale: float) -> Exp:
    """Springs whose stiffness falls off exponentially with the distance.

    Packwood et al., J. Chem. Phys. 144, 164109 (2016), through ASE.

    Parameters
    ----------
    atoms
        Periodic cell.
    scale
        Stiffness of a bond of the usual length, eV/Angstrom^2.

    Returns
    -------
    ase.optimize.precon.Exp
        ``make_precon`` lays them into a geometry.
    """
    return Exp(mu=scale, r_NN=_neighbour_distance(atoms), solver="direct")


def spring_gain(atoms: Atoms, forces: np.ndarray) -> float:
    """Energy that a cell of unit springs would lose to such forces.

    Parameters
    ----------
    atoms
        Geometry.
    forces
        eV/Angstrom, shape (n_atoms, 3). Their sum moves no atom and is taken off.

    Returns
    -------
    float
        Half of the forces times the displacements that they ask for, eV, for springs of
        1 eV/Angstrom^2; those of the real cell are stiffer by a factor that relaxations tell.
    """
    found = springs(atoms, scale=1.0)
    found.make_precon(atoms)
    pull = (forces - forces.mean(axis=0)).ravel()
    return 0.5 * float(pull @ found.solve(pull))


def _neighbour_distance(atoms: Atoms) -> float:
    """Median distance of the atoms to their nearest neighbours, Angstrom."""
    cutoff = 3.0
    while True:
        first, distances = neighbor_list("id", atoms, cutoff)
        if len(np.unique(first)) == len(atoms):
            break
        cutoff *= 1.5
    return float(np.median([distances[first == i].min() for i in range(len(atoms))]))
