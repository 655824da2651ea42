"""Point charges in a periodic cell with an anisotropic dielectric, converged for any of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import erfc

from defect_mf_flows.errors import ResultsError
from defect_mf_flows.schemas.dielectric import as_tensor

#: One elementary charge squared over the vacuum permittivity, eV Angstrom.
COULOMB = 180.95128169876497
#: Terms beyond exp(-CUTOFF^2) of the largest are left out.
CUTOFF = 6.0


def dielectric_tensor(value: Any) -> np.ndarray:
    """Dielectric tensor from a number, three diagonal elements or nine.

    Parameters
    ----------
    value
        Relative permittivity, ionic part included, in the Cartesian axes of the supercell.

    Returns
    -------
    numpy.ndarray
        Shape (3, 3).

    Raises
    ------
    ResultsError
        If it is not symmetric, or an eigenvalue is below 1.
    """
    try:
        return as_tensor(value)
    except ValueError as error:
        raise ResultsError(str(error)) from None


class AnisotropicEwald:
    """Ewald sum over a lattice of unit charges with a neutralising background.

    The screening length follows the dielectric tensor, and both sums reach where their terms
    vanish in its stiffest and softest direction. pydefect's sum, whose reach in real space does
    not grow with the dielectric constant, is 7 meV off at 100.

    Parameters
    ----------
    lattice
        Rows are lattice vectors, shape (3, 3), Angstrom.
    dielectric
        Shape (3, 3).
    width
        Scales the screening; results must not depend on it.
    """

    def __init__(self, lattice: np.ndarray, dielectric: np.ndarray, *, width: float = 1.0) -> None:
        self.lattice = np.asarray(lattice, dtype=float)
        self.dielectric = dielectric_tensor(dielectric)
        self.volume = abs(float(np.linalg.det(self.lattice)))
        self._inverse = np.linalg.inv(self.dielectric)
        self._root = float(np.sqrt(np.linalg.det(self.dielectric)))
        reciprocal = 2 * np.pi * np.linalg.inv(self.lattice).T
        # In coordinates scaled by the dielectric tensor the medium is vacuum: there, the usual
        # choice makes both sums equally long.
        self.gamma = width * np.sqrt(np.pi) * (self._root / self.volume) ** (1 / 3)
        eigenvalues = np.linalg.eigvalsh(self.dielectric)
        reach = CUTOFF * np.sqrt(eigenvalues.max()) / self.gamma
        self._cells = _points(self.lattice, reach)
        waves = _points(reciprocal, 2 * self.gamma * CUTOFF / np.sqrt(eigenvalues.min()))
        waves = waves[np.any(waves != 0, axis=1)] @ reciprocal
        square = np.einsum("ij,jk,ik->i", waves, self.dielectric, waves)
        keep = square < (2 * self.gamma * CUTOFF) ** 2
        self._waves, square = waves[keep], square[keep]
        self._weights = np.exp(-square / 4 / self.gamma**2) / square / self.volume

    def potential(self, fractional: np.ndarray) -> float:
        """Potential of the lattice away from its charges, V per elementary charge.

        Parameters
        ----------
        fractional
            Place relative to a charge, fractional coordinates, shape (3,).
        """
        return COULOMB * self._sum(np.asarray(fractional, dtype=float), own=True)

    def energy(self) -> float:
        """Energy of one charge with its images and the background, eV; negative."""
        own = -self.gamma / (2 * np.pi * np.sqrt(np.pi) * self._root)
        return COULOMB * (self._sum(np.zeros(3), own=False) + own) / 2

    def _sum(self, shift: np.ndarray, *, own: bool) -> float:
        shift = shift - np.round(shift)
        points = self._cells if own else self._cells[np.any(self._cells != 0, axis=1)]
        vectors = (points - shift) @ self.lattice
        distance = np.sqrt(np.einsum("ij,jk,ik->i", vectors, self._inverse, vectors))
        near = np.sum(erfc(self.gamma * distance) / distance) / (4 * np.pi * self._root)
        far = np.sum(self._weights * np.cos(self._waves @ (shift @ self.lattice)))
        return float(near + far - 0.25 / self.volume / self.gamma**2)


def _points(lattice: np.ndarray, reach: float) -> np.ndarray:
    """Integer triples of all lattice points within a distance, and some beyond."""
    # Spacing of lattice planes: a skewed cell has points closer than its vectors are long.
    spacing = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    numbers = np.ceil(reach / spacing).astype(int) + 1
    axes = [np.arange(-n, n + 1) for n in numbers]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
