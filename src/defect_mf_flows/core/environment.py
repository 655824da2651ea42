"""Distances at a defect: between its neighbours, and from them to its site."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.core.starts import nearest_neighbours
from defect_mf_flows.schemas.defect import Defect, Environment

ON_SITE = 0.3  # Angstrom, of the unrelaxed cell


def environment(structure: Structure, defect: Defect) -> Environment:
    """Measure distances at a defect.

    Parameters
    ----------
    structure
        A geometry of the defect cell, its atoms in the order of ``defect.supercell``.
    defect
        Whose first shell, in the unrelaxed cell, is meant.

    Returns
    -------
    Environment
        Nearest images count.
    """
    shell = nearest_neighbours(defect)
    cell = defect.supercell
    matrix = structure.distance_matrix
    distances = cell.lattice.get_all_distances([defect.site], cell.frac_coords)[0]
    on_site = int(np.argmin(distances)) if distances.min() < ON_SITE else None
    if on_site is None:
        spots = structure.frac_coords[shell]
        to_centre = structure.lattice.get_all_distances([defect.site], spots)[0]
    else:
        to_centre = matrix[on_site][shell]
    return Environment(
        neighbours=[_name(cell, i) for i in shell],
        centre=None if on_site is None else _name(cell, on_site),
        to_centre=[float(d) for d in to_centre],
        between=[float(matrix[i, j]) for i, j in combinations(shell, 2)],
    )


def environments(defect: Defect, geometries: dict[str, Structure | None]) -> dict[str, Environment]:
    """Measure several geometries of a defect, see :func:`environment`.

    Parameters
    ----------
    defect
        The defect.
    geometries
        By name; None for one that is not there.

    Returns
    -------
    dict
        By name, with the unrelaxed cell as ``"unrelaxed"``.
    """
    known = {**geometries, "unrelaxed": defect.supercell}
    return {key: environment(s, defect) for key, s in known.items() if s is not None}


def _name(cell: Structure, index: int) -> str:
    return f"{cell[index].specie.symbol}{index}"
