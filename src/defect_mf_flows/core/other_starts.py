"""Starts that no distortion of bonds leads to: split vacancies, and the user's own."""

from __future__ import annotations

import numpy as np
from pymatgen.core import Structure
from scipy.optimize import linear_sum_assignment

from defect_mf_flows.core.symmetry import operations_of, shortest_vectors
from defect_mf_flows.errors import CampaignError
from defect_mf_flows.schemas.defect import Defect
from defect_mf_flows.schemas.structures import symbols_of

#: Like atoms up to this factor times the shortest distance from the vacancy may split it.
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
    if not defect.name.startswith("v_"):
        return []
    symbol, cell = defect.name.split("_")[1], defect.supercell
    like = [i for i, own in enumerate(symbols_of(cell)) if own == symbol]
    if not like:
        return []
    site = np.array([defect.site])
    vectors = shortest_vectors(cell.lattice, site, cell.frac_coords[like])[0]
    lengths = np.linalg.norm(vectors, axis=1)
    order = np.argsort(lengths, kind="stable")
    near = [like[k] for k in order if lengths[k] <= SHELL * lengths[order[0]]]
    ways = dict(zip(like, vectors, strict=True))
    found, known = [], set[int]()
    for atom in near:
        if atom in known:
            continue
        for operation in operations_of(cell):
            moved = operation(cell.frac_coords[[atom]])
            known.add(int(cell.lattice.get_all_distances(moved, cell.frac_coords)[0].argmin()))
        split = cell.copy()
        split.translate_sites([atom], -0.5 * ways[atom], frac_coords=False)
        found.append((atom, split))
    return found


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
