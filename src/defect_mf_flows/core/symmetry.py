"""Symmetry of an unrelaxed defect cell, and geometries compared up to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer


@dataclass(frozen=True)
class Operation:
    """A symmetry operation in fractional coordinates: ``x -> rotation @ x + translation``."""

    rotation: np.ndarray
    translation: np.ndarray

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """Apply it to rows of fractional coordinates."""
        return np.asarray(places @ self.rotation.T + self.translation)


def operations_of(structure: Structure, *, symprec: float = 0.05) -> list[Operation]:
    """Symmetry operations of an unrelaxed defect cell, the identity first.

    Parameters
    ----------
    structure
        The unrelaxed defect cell.
    symprec
        Tolerance, Angstrom.

    Returns
    -------
    list of Operation
        A supercell that is short in one direction has fewer than the crystal's site.
    """
    found = SpacegroupAnalyzer(structure, symprec=symprec).get_symmetry_operations()
    made = [Operation(o.rotation_matrix, o.translation_vector) for o in found]
    return sorted(made, key=lambda o: not np.allclose(o.rotation, np.eye(3)))


def shortest_vectors(lattice: Lattice, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Cartesian vectors between all places, by the nearest image.

    Parameters
    ----------
    lattice
        Of both.
    one, other
        Fractional coordinates, shapes (n, 3) and (m, 3).

    Returns
    -------
    numpy.ndarray
        Angstrom, shape (n, m, 3), from ``one`` to ``other``. Exact below half the shortest
        lattice vector; matches are looked for far below that.
    """
    delta = other[None, :, :] - one[:, None, :]
    delta -= np.round(delta)
    return np.asarray(delta @ lattice.matrix)


@dataclass(frozen=True)
class Geometry:
    """A structure as arrays, which take longer to make than to compare.

    Attributes
    ----------
    lattice
        Of the cell.
    numbers
        Atomic numbers, shape (n_atoms,).
    places
        Fractional coordinates, shape (n_atoms, 3).
    """

    lattice: Lattice
    numbers: np.ndarray
    places: np.ndarray

    @classmethod
    def of(cls, structure: Structure) -> Geometry:
        """Take a structure apart."""
        return cls(structure.lattice, np.array(structure.atomic_numbers), structure.frac_coords)


def displacement(
    one: Geometry, other: Geometry, site: list[float], operations: list[Operation], *, radius: float
) -> float:
    """Largest displacement between two geometries, up to symmetry and exchange of like atoms.

    Parameters
    ----------
    one, other
        Geometries of one defect cell; the order of their atoms does not matter.
    site
        Fractional coordinates of the defect.
    operations
        From :func:`operations_of`.
    radius
        Atoms of ``one`` this close to the site are compared, Angstrom.

    Returns
    -------
    float
        Angstrom, after a rigid shift is taken out; infinite where no operation gives every
        atom a partner of its own.
    """
    offset = one.places - np.array(site)
    near = np.linalg.norm((offset - np.round(offset)) @ one.lattice.matrix, axis=1) <= radius
    images = np.stack([operation(one.places[near]) for operation in operations])
    n_images, n_near = images.shape[:2]
    vectors = shortest_vectors(one.lattice, images.reshape(-1, 3), other.places)
    vectors = vectors.reshape(n_images, n_near, -1, 3)
    unlike = one.numbers[near][:, None] != other.numbers[None, :]
    shift = np.zeros((n_images, 3))
    rows = np.arange(n_images)[:, None], np.arange(n_near)[None, :]
    for _ in range(2):  # the shift of the first matching makes the second
        moved = vectors - shift[:, None, None, :]
        lengths = np.einsum("imnx,imnx->imn", moved, moved)
        lengths[:, unlike] = np.inf
        partners = lengths.argmin(axis=2)
        found = vectors[*rows, partners]
        shift = found.mean(axis=1)
    largest = np.linalg.norm(found - shift[:, None, :], axis=2).max(axis=1)
    taken = np.sort(partners, axis=1)
    own = (np.diff(taken, axis=1) > 0).all(axis=1)
    return float(np.where(own, largest, np.inf).min())
