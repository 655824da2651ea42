"""Starts that no distortion of bonds leads to: atoms moved into vacancies, and the user's own."""

from __future__ import annotations

import numpy as np
from pymatgen.core import Structure
from scipy.optimize import linear_sum_assignment

from defect_mf_flows.core.symmetry import operations_of, shortest_vectors
from defect_mf_flows.errors import CampaignError
from defect_mf_flows.schemas.defect import Defect
from defect_mf_flows.schemas.structures import symbols_of

#: Atoms up to this factor times the shortest distance from a vacancy may move into it.
SHELL = 1.15
#: Largest difference between the lattices of a given start and of the defect cell, Angstrom.
LATTICE = 0.05


def split_vacancies(defect: Defect) -> list[tuple[int, Structure]]:
    """Vacancies into which a like atom has moved half-way: two vacancies and an interstitial.

    Parameters
    ----------
    defect
        Any defect; only vacancies split.

    Returns
    -------
    list of (int, Structure)
        Index of the atom that moved, and the geometry; one for every like atom of the nearest
        shell that no symmetry maps onto another.
    """
    return _moved_in(defect, like=True, part=0.5)


def exchanged_vacancies(defect: Defect) -> list[tuple[int, Structure]]:
    """Vacancies that an unlike neighbour has filled: an antisite beside the neighbour's vacancy.

    In compounds these can be the ground state of some charges, as As_Ga with v_As is of v_Ga in
    p-type GaAs (Baraff and Schlueter, Phys. Rev. Lett. 55, 1327, 1985); no distortion of bonds
    leads there.

    Parameters
    ----------
    defect
        Any defect; only vacancies exchange.

    Returns
    -------
    list of (int, Structure)
        Index of the atom that moved, and the geometry; one for every unlike atom of the nearest
        shell that no symmetry maps onto another.
    """
    return _moved_in(defect, like=False, part=1.0)


def _moved_in(defect: Defect, *, like: bool, part: float) -> list[tuple[int, Structure]]:
    """One atom of the nearest shell of like or unlike ones moved a part of its way to the site."""
    if not defect.name.startswith("v_"):
        return []
    symbol, cell = defect.name.split("_")[1], defect.supercell
    atoms = [i for i, own in enumerate(symbols_of(cell)) if (own == symbol) is like]
    if not atoms:
        return []
    site = np.array([defect.site])
    vectors = shortest_vectors(cell.lattice, site, cell.frac_coords[atoms])[0]
    lengths = np.linalg.norm(vectors, axis=1)
    order = np.argsort(lengths, kind="stable")
    ways = dict(zip(atoms, vectors, strict=True))
    near = [atoms[k] for k in order if lengths[k] <= SHELL * lengths[order[0]]]
    found = []
    for atom in _inequivalent(cell, near):
        moved = cell.copy()
        moved.translate_sites([atom], -part * ways[atom], frac_coords=False)
        found.append((atom, moved))
    return found


def _inequivalent(cell: Structure, atoms: list[int]) -> list[int]:
    """The first of every set of atoms that symmetry maps onto each other."""
    first, known = [], set[int]()
    for atom in atoms:
        if atom in known:
            continue
        first.append(atom)
        for operation in operations_of(cell):
            moved = operation(cell.frac_coords[[atom]])
            known.add(int(cell.lattice.get_all_distances(moved, cell.frac_coords)[0].argmin()))
    return first


def given_start(text: str, defect: Defect) -> Structure:
    """A start that the user gave, with its atoms in the order of the defect cell.

    Parameters
    ----------
    text
        The structure in VASP's format, as the campaign carries it.
    defect
        The defect to which it belongs.

    Raises
    ------
    CampaignError
        If its cell or its atoms are not those of the defect.
    """
    cell, given = defect.supercell, Structure.from_str(text, fmt="poscar")
    where = f"starts.given.{defect.name}"
    if given.composition != cell.composition:
        raise CampaignError(
            f"{where}: has {given.composition.formula}, the defect cell "
            f"{cell.composition.formula}; give a geometry of the same atoms."
        )
    if np.abs(given.lattice.matrix - cell.lattice.matrix).max() > LATTICE:
        raise CampaignError(
            f"{where}: its lattice differs from the defect cell's by more than {LATTICE} A; cells "
            "are not relaxed, give a geometry on the campaign's supercell."
        )
    vectors = shortest_vectors(cell.lattice, cell.frac_coords, given.frac_coords)
    cost = (vectors**2).sum(axis=2)
    cost[np.array(cell.atomic_numbers)[:, None] != np.array(given.atomic_numbers)] = 1e6
    order = linear_sum_assignment(cost)[1]
    return Structure(cell.lattice, cell.species, given.frac_coords[order])
