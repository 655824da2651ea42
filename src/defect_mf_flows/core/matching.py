"""When are two geometries the same minimum: SOAP at the defect site, gated by energy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from pymatgen.core import Structure
from pymatgen.util.coord import pbc_shortest_vectors

from defect_mf_flows.schemas.search import Deviation

#: Radius of the local environment, Angstrom.
LOCAL_RADIUS = 5.0


def soap_vectors(structures: list[Structure], site: list[float]) -> np.ndarray:
    """SOAP vectors at the defect site.

    Parameters
    ----------
    structures
        Geometries of one defect cell.
    site
        Fractional coordinates of the defect site, shape (3,).

    Returns
    -------
    numpy.ndarray
        Shape (n_structures, n_features), each row of unit length.

    Notes
    -----
    Radius 5 Angstrom, n_max = l_max = 10, width 1 Angstrom, as in npj Comput. Mater. 10,
    121 (2024), doi 10.1038/s41524-024-01303-9.
    """
    from dscribe.descriptors import SOAP

    numbers = [item.atomic_numbers for item in structures]
    species = sorted({z for found in numbers for z in set(found)})
    soap = SOAP(species=species, r_cut=LOCAL_RADIUS, n_max=10, l_max=10, sigma=1.0, periodic=True)
    rows = []
    for item, elements in zip(structures, numbers, strict=True):
        # dscribe misses images of atoms that are written down far outside the cell.
        places = item.frac_coords % 1.0
        atoms = Atoms(elements, scaled_positions=places, cell=item.lattice.matrix, pbc=True)
        centre = item.lattice.get_cartesian_coords(np.asarray(site) % 1.0)
        rows.append(soap.create(atoms, centers=[centre])[0])
    vectors = np.asarray(rows)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def soap_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Cosine distance of two unit vectors, 0 for identical environments."""
    return float(0.5 * np.sum((np.asarray(one) - np.asarray(other)) ** 2))


@dataclass(frozen=True)
class SameMinimum:
    """Both must hold for two geometries to be one minimum.

    Attributes
    ----------
    soap
        Largest cosine distance of SOAP vectors. Measured: the same minimum < 2e-8,
        0.05 Angstrom noise 6e-5, distinct minima > 1e-3.
    energy
        Largest energy difference, eV per cell. SOAP alone can call a structure several eV
        higher the same.
    """

    soap: float = 3e-4
    energy: float = 0.03

    def __call__(self, distance: float, energy_difference: float) -> bool:
        """Apply both limits."""
        return distance <= self.soap and abs(energy_difference) <= self.energy


def deviation(one: Structure, other: Structure, site: list[float]) -> Deviation:
    """Displacements between two geometries of one cell with the same order of atoms.

    Parameters
    ----------
    one, other
        Geometries on one lattice.
    site
        Fractional coordinates of the defect site.

    Returns
    -------
    Deviation
        After the mean displacement (a rigid shift of the crystal) is taken out.

    Raises
    ------
    ValueError
        If the atoms are not the same.
    """
    if [s.specie for s in one] != [s.specie for s in other]:
        raise ValueError("structures must have the same atoms in the same order")
    # The common shift first: atoms shifted by half a cell have no nearest image.
    turns = np.exp(2j * np.pi * (other.frac_coords - one.frac_coords))
    shifted = one.frac_coords + np.angle(turns.mean(axis=0)) / (2 * np.pi)
    vectors = np.array(
        [
            pbc_shortest_vectors(one.lattice, a, b)[0][0]
            for a, b in zip(shifted, other.frac_coords, strict=True)
        ]
    )
    vectors -= vectors.mean(axis=0)
    lengths = np.linalg.norm(vectors, axis=1)
    near = one.lattice.get_all_distances([site], one.frac_coords)[0] <= LOCAL_RADIUS
    return Deviation(
        rmsd=float(np.sqrt(np.mean(lengths**2))),
        local_rmsd=float(np.sqrt(np.mean(lengths[near] ** 2))),
        max_displacement=float(lengths.max()),
    )


def symmetric_deviation(one: Structure, other: Structure, site: list[float]) -> Deviation:
    """Deviation that also tries symmetry copies of ``one``.

    Two relaxations can end in copies of one minimum that differ by a symmetry operation
    and a permutation; doped orients one like the other.

    Parameters
    ----------
    one, other, site
        As for :func:`deviation`.

    Returns
    -------
    Deviation
        The smaller of the direct one and the oriented one.
    """
    direct = deviation(one, other, site)
    if direct.local_rmsd < 0.05:
        return direct
    oriented = _oriented(one, other)
    if oriented is None:
        return direct
    moved = deviation(oriented, other, site)
    return min(direct, moved, key=lambda item: item.rmsd)


def _oriented(one: Structure, other: Structure) -> Structure | None:
    from doped.utils.configurations import orient_s2_like_s1

    from defect_mf_flows.core.defects import quiet

    try:
        with quiet():
            moved: Any = orient_s2_like_s1(_bare(other), _bare(one), verbose=False)
    except Exception:  # no mapping found: the direct comparison stands
        return None
    if moved is None or [s.specie for s in moved] != [s.specie for s in other]:
        return None
    return Structure(other.lattice, [s.specie for s in moved], moved.frac_coords)


def _bare(structure: Structure) -> Structure:
    return Structure(structure.lattice, [s.specie for s in structure], structure.frac_coords)


def shortest_bonds(structure: Structure, neighbours: list[int]) -> list[float]:
    """Distances between the defect's first neighbours, shortest first, Angstrom."""
    matrix = structure.distance_matrix
    return sorted(
        float(matrix[i, j]) for k, i in enumerate(neighbours) for j in neighbours[k + 1 :]
    )
