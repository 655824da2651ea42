"""Configuration coordinates: the path between two charge states, and what its energies say."""

from __future__ import annotations

from collections.abc import Sequence

import ase.units
import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.core.anharmonic import crossing_height, fit_quartic
from defect_mf_flows.core.charge import charge_of, spin_of, with_charge, with_spin
from defect_mf_flows.core.defects import quiet
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.schemas.ccd import Barrier, Curve

#: hbar times the square root of one eV per amu and square Angstrom, eV.
HBAR = ase.units._hbar * 1e10 / np.sqrt(ase.units._e * ase.units._amu)
#: Points within this fraction of the displacement from the minimum enter the harmonic fit.
HARMONIC = 0.35


def oriented(first: Structure, second: Structure) -> Structure:
    """Turn a geometry into the symmetry-equivalent one that is nearest to another.

    Parameters
    ----------
    first, second
        Charged cells of the same atoms on the same lattice.

    Returns
    -------
    Structure
        ``second`` with the order of atoms of ``first``, charge and spin kept. Its own
        orientation is taken where none of the lattice's operations brings it nearer.
    """
    from doped.utils.configurations import get_dQ, orient_s2_like_s1

    charge, spin = charge_of(second), spin_of(second)
    here, there = _bare(first), _bare(second)
    with quiet():
        try:
            turned = orient_s2_like_s1(here, there)
        except Exception:  # pymatgen's matcher raises where it finds no match
            turned = there
        best = min((turned, there), key=lambda s: float(get_dQ(here, s)))
    return with_spin(with_charge(best, charge), spin)


def _bare(structure: Structure) -> Structure:
    return Structure(structure.lattice, structure.species, structure.frac_coords)


def mass_weighted_distance(first: Structure, second: Structure) -> float:
    """Displacement between two geometries with matching atoms, amu^(1/2) Angstrom (doped)."""
    from doped.utils.configurations import get_dQ

    found = float(get_dQ(first, second))
    if not np.isfinite(found):
        raise ResultsError("the two geometries have different atoms; no path joins them.")
    return found


def path(
    first: Structure, second: Structure, fractions: Sequence[float], charge: int, spin: int | None
) -> list[Structure]:
    """Geometries on the straight line through two minima.

    Parameters
    ----------
    first, second
        With matching atoms.
    fractions
        0 at the first, 1 at the second; may lie outside.
    charge, spin
        That the geometries carry.

    Returns
    -------
    list of Structure
        Every atom goes the shortest way.
    """
    step = second.frac_coords - first.frac_coords
    step -= np.round(step)
    made = []
    for fraction in fractions:
        moved = Structure(first.lattice, first.species, first.frac_coords + fraction * step)
        made.append(with_spin(with_charge(moved, charge), spin))
    return made


def fitted(charge: int, q: np.ndarray, energies: np.ndarray, origin: float, width: float) -> Curve:
    """Fit a parabola to a curve near its minimum, and a quartic to all of it.

    Parameters
    ----------
    charge
        Whose curve it is.
    q
        Displacements, amu^(1/2) Angstrom, ascending.
    energies
        eV.
    origin
        Displacement of the charge's own minimum.
    width
        Displacement between the two minima.

    Returns
    -------
    Curve
        Energies count from the parabola's minimum.

    Raises
    ------
    ResultsError
        If the curve has no minimum there.
    """
    near = np.abs(q - origin) <= HARMONIC * width + 1e-12
    a, b, c = np.polyfit(q[near], energies[near], 2)
    if a <= 0:
        raise ResultsError(
            f"charge {charge:+d}: the energy has no minimum at its verified geometry along the "
            "path; the model disagrees with the verification there, train it with more labels."
        )
    minimum, zero = -b / 2 / a, c - b**2 / 4 / a
    harmonic = a * (q[near] - minimum) ** 2
    return Curve(
        charge=charge,
        q=q.tolist(),
        energies=(energies - zero).tolist(),
        minimum=float(minimum),
        phonon_energy=float(HBAR * np.sqrt(2 * a)),
        fit_rmse=float(np.sqrt(np.mean((energies[near] - zero - harmonic) ** 2))),
        lowest=float(energies.min()),
        anharmonic=fit_quartic(q, energies - zero, float(minimum), HBAR),
    )


def huang_rhys(curve: Curve, displacement: float) -> float:
    """Huang-Rhys factor: phonons set free by a displacement on a harmonic curve.

    Parameters
    ----------
    curve
        Of the final charge.
    displacement
        amu^(1/2) Angstrom.
    """
    return 0.5 * curve.phonon_energy * displacement**2 / HBAR**2


def barrier(initial: Curve, final: Curve, energy: float, *, carrier: str) -> Barrier:
    """Energy to climb from the initial curve's minimum to where the curves cross.

    Parameters
    ----------
    initial, final
        Curves over the same displacements.
    energy
        Minimum of the initial curve, the carrier at the band edge included, above that of the
        final one, eV.
    carrier
        ``"electron"`` or ``"hole"``.

    Returns
    -------
    Barrier
        From the sampled curves, from the parabolas and from the quartics.
    """
    q = np.array(initial.q)
    upper, lower = np.array(initial.energies) + energy, np.array(final.energies)
    return Barrier(
        carrier=carrier,
        initial=initial.charge,
        final=final.charge,
        energy=energy,
        sampled=_sampled(q, upper, lower, energy),
        harmonic=_harmonic(initial, final, energy),
        anharmonic=_anharmonic(initial, final, energy),
    )


def _sampled(q: np.ndarray, upper: np.ndarray, lower: np.ndarray, zero: float) -> float | None:
    difference = upper - lower
    crossings = np.nonzero(np.signbit(difference[:-1]) != np.signbit(difference[1:]))[0]
    heights = []
    for k in crossings:
        t = difference[k] / (difference[k] - difference[k + 1])
        heights.append(upper[k] + t * (upper[k + 1] - upper[k]) - zero)
    return float(max(min(heights), 0.0)) if heights else None


def _anharmonic(initial: Curve, final: Curve, energy: float) -> float | None:
    if initial.anharmonic is None or final.anharmonic is None:
        return None
    box = max(initial.q[0], final.q[0]), min(initial.q[-1], final.q[-1])
    return crossing_height(initial.anharmonic, final.anharmonic, energy, box)


def _harmonic(initial: Curve, final: Curve, energy: float) -> float | None:
    a, b = (0.5 * (c.phonon_energy / HBAR) ** 2 for c in (initial, final))
    # a (q - q1)^2 + energy = b (q - q2)^2
    roots = np.roots(
        [
            a - b,
            2 * (b * final.minimum - a * initial.minimum),
            a * initial.minimum**2 - b * final.minimum**2 + energy,
        ]
    )
    real = [r.real for r in roots if abs(r.imag) < 1e-9]
    return float(min(a * (r - initial.minimum) ** 2 for r in real)) if real else None
