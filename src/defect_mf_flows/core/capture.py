"""Nonradiative capture coefficients of a configuration coordinate diagram."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from defect_mf_flows.core.ccd import HBAR
from defect_mf_flows.core.defects import quiet
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.schemas.ccd import Capture, CoordinateDiagram

#: Vibrational levels of the initial charge to begin with; their number doubles until the
#: coefficients change by less than CONVERGED.
LEVELS = 20
CONVERGED = 1e-3
#: A coefficient below this is given as 0, cm^3/s: overlaps carry rounding errors of 1e-16.
NEGLIGIBLE = 1e-30
#: More levels than this are refused: wave functions of higher ones underflow on the grid.
MOST_LEVELS = 600


@dataclass(frozen=True)
class CaptureInputs:
    """What a capture coefficient needs beyond the diagram.

    Attributes
    ----------
    carrier
        ``"electron"`` or ``"hole"``.
    coupling
        Electron-phonon matrix element between band and defect state, eV/(amu^(1/2) Angstrom):
        from wave functions, which no potential has.
    degeneracy
        Equivalent final geometries.
    temperatures
        K.
    """

    carrier: str
    coupling: float
    degeneracy: int = 1
    temperatures: tuple[float, ...] = (300.0,)


def capture_coefficients(
    found: CoordinateDiagram, inputs: CaptureInputs, *, volume: float
) -> Capture:
    """Capture coefficient of a carrier, in the harmonic one-dimensional model.

    Parameters
    ----------
    found
        The diagram, with band edges.
    inputs
        Carrier, coupling, degeneracy, temperatures.
    volume
        Of the cell in which the coupling was computed, Angstrom^3.

    Returns
    -------
    Capture
        Without Sommerfeld factor.

    Raises
    ------
    ResultsError
        If the diagram does not say what the capture sets free, or so many vibrational levels
        take part that their overlaps cannot be computed.

    Notes
    -----
    Golden rule of Alkauskas, Yan and Van de Walle (10.1103/PhysRevB.90.075202). Matrix elements,
    populations and the interpolation that stands for energy conservation are those of
    pymatgen-analysis-defects. The overlaps are not: its closed form for them cancels to noise for
    levels above about 20 (silently, by many orders of magnitude), and so they are integrated.
    """
    barrier = next((b for b in found.barriers if b.carrier == inputs.carrier), None)
    if barrier is None:
        raise ResultsError(
            f"{found.defect}: no {inputs.carrier} capture without level and band edges; the "
            "high-fidelity engine must give the host's band edges."
        )
    if barrier.energy <= 0:
        raise ResultsError(
            f"{found.defect}: {inputs.carrier} capture costs {-barrier.energy:.3f} eV: the level "
            "lies outside the gap, so there is nothing to capture."
        )
    curves = {curve.charge: curve for curve in found.curves}
    initial, final = (curves[q].phonon_energy for q in (barrier.initial, barrier.final))
    kelvin = np.array(inputs.temperatures, dtype=float)
    prefactor = 2 * np.pi * inputs.degeneracy * inputs.coupling**2 * volume * 1e-24  # in cm^3
    values, levels = _converged(
        lambda n: prefactor * _thermal(found.dq, barrier.energy, initial, final, kelvin, n)
    )
    return Capture(
        carrier=inputs.carrier,
        initial=barrier.initial,
        final=barrier.final,
        coupling=inputs.coupling,
        degeneracy=inputs.degeneracy,
        volume=volume,
        levels=levels,
        temperatures=list(inputs.temperatures),
        coefficients=[float(value) if value >= NEGLIGIBLE else 0.0 for value in values],
    )


def _converged(coefficients: Callable[[int], np.ndarray]) -> tuple[np.ndarray, int]:
    """Coefficients from so many levels that more do not change them, and that number."""
    count, before = LEVELS, coefficients(LEVELS)
    while True:
        count *= 2
        now = coefficients(count)
        if np.allclose(now, before, rtol=CONVERGED, atol=NEGLIGIBLE):
            return now, count
        before = now


def _thermal(
    dq: float, energy: float, initial: float, final: float, kelvin: np.ndarray, count: int
) -> np.ndarray:
    """Squared matrix elements at equal energy, per energy, averaged over ``count`` levels."""
    with quiet():
        from pymatgen.analysis.defects.recombination import (
            boltzmann_filling,
            get_mQn,
            pchip_eval,
        )

    n_final = int(np.ceil((energy + count * initial) / final)) + 2
    between = overlaps(dq, initial, final, count + 1, n_final)
    weights, rates = boltzmann_filling(initial, kelvin, count), np.zeros(len(kelvin))
    for level in range(count):
        energies, elements = get_mQn(dq, initial, final, level, n_final, between)
        rates += weights[level] * pchip_eval(energy, energies, np.square(elements))
    return rates


def overlaps(dq: float, initial: float, final: float, n_initial: int, n_final: int) -> np.ndarray:
    """Overlaps of the levels of two displaced harmonic oscillators.

    Parameters
    ----------
    dq
        Displacement of the initial oscillator, amu^(1/2) Angstrom.
    initial, final
        Phonon energies, eV.
    n_initial, n_final
        Numbers of levels.

    Returns
    -------
    numpy.ndarray
        Shape (n_initial, n_final).

    Raises
    ------
    ResultsError
        If there are more levels than can be computed.

    Notes
    -----
    Trapezoidal sums, which converge exponentially for functions that vanish at both ends, of
    wave functions from the recurrence of normalised Hermite functions, which is stable.
    """
    most = max(n_initial, n_final)
    if most > MOST_LEVELS:
        raise ResultsError(
            f"the capture involves {most} vibrational levels of {1000 * min(initial, final):.1f} "
            f"meV, more than the {MOST_LEVELS} that can be computed; ask for lower temperatures, "
            "or check the effective modes."
        )
    reach = (np.sqrt(2 * most) + 8) * HBAR / np.sqrt(min(initial, final))
    step = HBAR / np.sqrt(max(initial, final)) / np.sqrt(2 * most)
    q = np.arange(-reach - abs(dq), reach + abs(dq), step)
    return _wave_functions(initial, q - dq, n_initial) @ _wave_functions(final, q, n_final).T * step


def _wave_functions(phonon: float, q: np.ndarray, count: int) -> np.ndarray:
    """Levels of a harmonic oscillator at displacements ``q``, one per row."""
    x = np.sqrt(phonon) / HBAR * q
    found = np.zeros((count, len(q)))
    found[0] = (phonon / np.pi) ** 0.25 / np.sqrt(HBAR) * np.exp(-(x**2) / 2)
    found[1] = np.sqrt(2) * x * found[0]
    for n in range(2, count):
        found[n] = np.sqrt(2 / n) * x * found[n - 1] - np.sqrt((n - 1) / n) * found[n - 2]
    return found
