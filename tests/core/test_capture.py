"""Capture coefficients against closed forms, and against nonrad where elements fall steeply."""

import math

import ase.units
import numpy as np
import pytest

from defect_mf_flows.core.capture import CaptureInputs, capture_coefficients, overlaps
from defect_mf_flows.core.ccd import HBAR
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.schemas.ccd import Barrier, CoordinateDiagram, Curve

PHONON, DQ, ENERGY, COUPLING, VOLUME = 0.030, 1.2, 0.5, 0.02, 900.0


def diagram(
    energy: float = ENERGY, *, dq: float = DQ, initial: float = PHONON, final: float = PHONON
) -> CoordinateDiagram:
    """A hole that charge -1 captures, which becomes 0."""
    curves = [
        Curve(
            charge=charge,
            q=[0.0, dq],
            energies=[0.0, 0.1],
            minimum=origin,
            phonon_energy=phonon,
            fit_rmse=0.0,
            lowest=0.0,
        )
        for charge, origin, phonon in ((0, 0.0, final), (-1, dq, initial))
    ]
    barrier = Barrier(
        carrier="hole", initial=-1, final=0, energy=energy, sampled=None, harmonic=0.1
    )
    return CoordinateDiagram(
        defect="C_N",
        source="test",
        dq=dq,
        level=energy,
        gap=3.5,
        curves=curves,
        huang_rhys={},
        barriers=[barrier],
    )


def cold(dq: float = DQ, *, energy: float = ENERGY) -> float:
    """Closed form at T = 0 of equal oscillators, where whole phonons make up the energy.

    Poisson weights P_n(S): |<0|Q|n>|^2 = (dQ/2S)^2 (n + S)^2 P_n, one level per phonon energy.
    """
    s, n = 0.5 * PHONON * dq**2 / HBAR**2, round(energy / PHONON)
    poisson = math.exp(-s + n * math.log(s) - math.lgamma(n + 1))
    rate = (dq / 2 / s) ** 2 * (n + s) ** 2 * poisson / PHONON
    hbar = ase.units._hbar / ase.units._e
    return 2 * math.pi / hbar * COUPLING**2 * VOLUME * 1e-24 * rate


def coefficients(found: CoordinateDiagram, *temperatures: float, **inputs: float) -> list[float]:
    asked = CaptureInputs("hole", **{"coupling": COUPLING, **inputs}, temperatures=temperatures)
    return capture_coefficients(found, asked, volume=VOLUME).coefficients


@pytest.mark.parametrize(("dq", "energy"), [(1.2, 0.51), (0.8, 0.51), (0.8, 0.75), (3.0, 2.4)])
def test_equal_oscillators_in_the_cold_have_the_closed_form(dq: float, energy: float) -> None:
    # 17, 25 and 80 phonons: weak coupling far from the maximum of the Poisson weights, and strong.
    found = coefficients(diagram(energy, dq=dq), 15.0)
    assert found == [pytest.approx(cold(dq, energy=energy), rel=0.01, abs=0)]


# Of nonrad 1.2.0, get_C(..., sigma="pchip", occ_tol=1e-8), with a numpy that has trapz.
@pytest.mark.parametrize(
    ("dq", "initial", "final", "expected"),
    [
        (1.2, 0.030, 0.030, [3.007458e-11, 2.956070e-10, 2.117106e-09]),
        (0.8, 0.030, 0.028, [5.102684e-19, 3.199175e-17, 3.293585e-15]),
        (0.8, 0.030, 0.025, [3.642252e-23, 1.322181e-21, 3.943080e-20]),
    ],
)
def test_nonrads_interpolation_gives_the_same(
    dq: float, initial: float, final: float, expected: list[float]
) -> None:
    found = coefficients(diagram(dq=dq, initial=initial, final=final), 100.0, 300.0, 600.0)
    assert found == pytest.approx(expected, rel=0.005, abs=0)


def test_coupling_enters_squared_and_degeneracy_once() -> None:
    once = coefficients(diagram(), 300.0)[0]
    assert coefficients(diagram(), 300.0, coupling=2 * COUPLING)[0] == pytest.approx(4 * once)
    assert coefficients(diagram(), 300.0, degeneracy=3)[0] == pytest.approx(3 * once)


def test_the_phonons_are_those_of_initial_and_final_charge() -> None:
    right = coefficients(diagram(initial=0.030, final=0.025), 300.0)[0]
    wrong = coefficients(diagram(initial=0.025, final=0.030), 300.0)[0]
    made = capture_coefficients(diagram(), CaptureInputs("hole", COUPLING), volume=VOLUME)
    assert (made.initial, made.final) == (-1, 0)
    assert abs(right - wrong) > 0.5 * max(right, wrong)


def test_overlaps_of_high_levels_do_not_cancel_to_noise() -> None:
    # The initial levels expressed in a complete set of final ones keep their norm.
    found = overlaps(3.0, 0.025, 0.020, 60, 400)
    assert np.allclose(np.sum(found**2, axis=1), 1.0, atol=1e-9)
    assert np.allclose(found @ found.T, np.eye(60), atol=1e-9)
    s = 0.5 * PHONON * DQ**2 / HBAR**2
    poisson = [math.exp(-s + n * math.log(s) - math.lgamma(n + 1)) for n in range(60)]
    assert np.allclose(overlaps(DQ, PHONON, PHONON, 2, 60)[0] ** 2, poisson, atol=1e-15)


def test_what_is_never_captured_has_coefficient_0() -> None:
    assert coefficients(diagram(3.0, dq=0.3), 300.0) == [0.0]


def test_what_cannot_be_captured_is_refused() -> None:
    with pytest.raises(ResultsError, match=r"costs 0\.200 eV: the level lies outside the gap"):
        capture_coefficients(diagram(-0.2), CaptureInputs("hole", 0.1), volume=VOLUME)
    with pytest.raises(ResultsError, match="no electron capture without level and band edges"):
        capture_coefficients(diagram(), CaptureInputs("electron", 0.1), volume=VOLUME)


def test_more_levels_than_can_be_computed_are_refused() -> None:
    with pytest.raises(ResultsError, match=r"vibrational levels of 2\.0 meV, more than the 600"):
        coefficients(diagram(2.0, initial=0.002, final=0.002), 300.0)
