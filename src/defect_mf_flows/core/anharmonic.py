"""Curves that are no parabola: a quartic, and the vibrational levels in it."""

from __future__ import annotations

import numpy as np

from defect_mf_flows.schemas.ccd import Anharmonic

DEGREE = 4
#: Points of the grid on which the levels are computed; hundreds converge them to 1e-6 eV.
GRID = 400


def fit_quartic(q: np.ndarray, energies: np.ndarray, near: float, hbar: float) -> Anharmonic | None:
    """Fit a quartic to a whole curve and solve for the lowest levels in it.

    Parameters
    ----------
    q, energies
        Displacements (ascending) and energies, eV.
    near
        Displacement near which the minimum is.
    hbar
        In units in which ``hbar^2 / 2 d^2/dq^2`` is an energy in eV.

    Returns
    -------
    Anharmonic or None
        None where there are fewer than six points, or the quartic has no minimum within them.
    """
    if len(q) <= DEGREE + 1:
        return None
    quartic = np.polynomial.Polynomial.fit(q, energies, DEGREE).convert()
    flat = _real_roots(quartic.deriv(), (float(q[0]), float(q[-1])))
    minima = [x for x in flat if quartic.deriv(2)(x) > 0]
    if not minima:
        return None
    minimum = min(minima, key=lambda x: abs(x - near))
    zero = float(quartic(minimum))
    levels = bound_levels(quartic, (float(q[0]), float(q[-1])), hbar)[:2] - zero
    return Anharmonic(
        coefficients=(quartic - np.polynomial.Polynomial([zero])).coef.tolist(),
        minimum=minimum,
        phonon_energy=float(hbar * np.sqrt(quartic.deriv(2)(minimum))),
        zero_point=float(levels[0]) if len(levels) else None,
        fundamental=float(levels[1] - levels[0]) if len(levels) > 1 else None,
        fit_rmse=float(np.sqrt(np.mean((quartic(q) - energies) ** 2))),
    )


def bound_levels(
    potential: np.polynomial.Polynomial, box: tuple[float, float], hbar: float
) -> np.ndarray:
    """Levels in a well, below what holds it at the ends of a box.

    Parameters
    ----------
    potential
        Energy, eV, of the displacement.
    box
        Ends of the displacements at which the potential is known.
    hbar
        As for :func:`fit_quartic`.

    Returns
    -------
    numpy.ndarray
        eV, ascending; levels that reach the ends of the box are left out.

    Notes
    -----
    Sine basis of the box on its own grid: Colbert and Miller, J. Chem. Phys. 96, 1982 (1992),
    doi 10.1063/1.462100, equation A6.
    """
    length = box[1] - box[0]
    n = GRID
    i = np.arange(1, n)
    x = box[0] + length * i / n
    plus, minus = (np.pi * (i[:, None] + s * i[None, :]) / (2 * n) for s in (1, -1))
    with np.errstate(divide="ignore"):
        kinetic = 1 / np.sin(minus) ** 2 - 1 / np.sin(plus) ** 2
    np.fill_diagonal(kinetic, (2 * n**2 + 1) / 3 - 1 / np.sin(np.pi * i / n) ** 2)
    kinetic *= (-1.0) ** (i[:, None] - i[None, :]) * hbar**2 * np.pi**2 / (4 * length**2)
    levels = np.linalg.eigvalsh(kinetic + np.diag(potential(x)))
    rim = min(float(potential(end)) for end in box)
    return np.asarray(levels[levels < rim])


def crossing_height(
    initial: Anharmonic, final: Anharmonic, energy: float, box: tuple[float, float]
) -> float | None:
    """Height of the lowest crossing of two quartics above the minimum of the first.

    Parameters
    ----------
    initial, final
        Both from their own minimum.
    energy
        Minimum of the initial above that of the final one, eV.
    box
        Displacements at which both are known.

    Returns
    -------
    float or None
        eV; None if they do not cross there.
    """
    upper = np.polynomial.Polynomial(initial.coefficients)
    lower = np.polynomial.Polynomial(final.coefficients)
    gap = upper + np.polynomial.Polynomial([energy]) - lower
    heights = [float(upper(x)) for x in _real_roots(gap, box)]
    return max(min(heights), 0.0) if heights else None


def _real_roots(of: np.polynomial.Polynomial, box: tuple[float, float]) -> list[float]:
    """Real roots within a box."""
    real = [float(root.real) for root in of.roots() if abs(root.imag) < 1e-9]
    return [root for root in real if box[0] <= root <= box[1]]
