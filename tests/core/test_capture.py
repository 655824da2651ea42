"""Capture coefficients against the closed form of equal oscillators at low temperature."""

import math
import sys

import ase.units
import pytest

from defect_mf_flows.core.capture import SMEARING, CaptureInputs, capture_coefficients
from defect_mf_flows.core.ccd import HBAR
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.schemas.ccd import Barrier, CoordinateDiagram, Curve

PHONON, DQ, ENERGY, COUPLING, VOLUME = 0.030, 1.2, 0.5, 0.02, 900.0


def diagram(energy: float = ENERGY) -> CoordinateDiagram:
    curves = [
        Curve(
            charge=charge,
            q=[0.0, DQ],
            energies=[0.0, 0.1],
            minimum=origin,
            phonon_energy=PHONON,
            fit_rmse=0.0,
            lowest=0.0,
        )
        for charge, origin in ((0, 0.0), (-1, DQ))
    ]
    barrier = Barrier(
        carrier="hole", initial=-1, final=0, energy=energy, sampled=None, harmonic=0.1
    )
    return CoordinateDiagram(
        defect="C_N",
        source="test",
        dq=DQ,
        level=energy,
        gap=3.5,
        curves=curves,
        huang_rhys={},
        barriers=[barrier],
    )


def cold(coupling: float = COUPLING, degeneracy: int = 1) -> float:
    """Sum over Poisson weights P_n(S): |<0|Q|n>|^2 = (dQ/2S)^2 (n + S)^2 P_n for one frequency."""
    s = 0.5 * PHONON * DQ**2 / HBAR**2
    width = SMEARING * PHONON
    rate = 0.0
    for n in range(80):
        poisson = math.exp(-s + n * math.log(s) - math.lgamma(n + 1))
        element = (DQ / 2 / s) ** 2 * (n + s) ** 2 * poisson
        gauss = math.exp(-((ENERGY - n * PHONON) ** 2) / 2 / width**2)
        rate += element * gauss / width / math.sqrt(2 * math.pi)
    hbar = ase.units._hbar / ase.units._e
    return 2 * math.pi / hbar * degeneracy * coupling**2 * VOLUME * 1e-24 * rate


def test_equal_oscillators_in_the_cold_have_the_closed_form() -> None:
    pytest.importorskip("nonrad", reason="EXTRA 'capture' IS NOT INSTALLED: no capture is tested")
    inputs = CaptureInputs("hole", COUPLING, degeneracy=3, temperatures=(20.0, 600.0))
    found = capture_coefficients(diagram(), inputs, volume=VOLUME)
    assert (found.initial, found.final, found.degeneracy) == (-1, 0, 3)
    assert found.coefficients[0] == pytest.approx(cold(degeneracy=3), rel=1e-3, abs=0)
    assert found.coefficients[1] > found.coefficients[0]
    doubled = CaptureInputs("hole", 2 * COUPLING, temperatures=(20.0,))
    value = capture_coefficients(diagram(), doubled, volume=VOLUME).coefficients[0]
    assert value == pytest.approx(4 / 3 * found.coefficients[0], rel=1e-6, abs=0)


def test_what_cannot_be_captured_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ResultsError, match=r"costs 0\.200 eV: the level lies outside the gap"):
        capture_coefficients(diagram(-0.2), CaptureInputs("hole", 0.1), volume=VOLUME)
    with pytest.raises(ResultsError, match="no electron capture without level and band edges"):
        capture_coefficients(diagram(), CaptureInputs("electron", 0.1), volume=VOLUME)
    monkeypatch.setitem(sys.modules, "nonrad", None)
    with pytest.raises(ResultsError, match=r"pip install 'defect-mf-flows\[capture\]'"):
        capture_coefficients(diagram(), CaptureInputs("hole", 0.1), volume=VOLUME)


def test_the_phonons_are_those_of_initial_and_final_charge() -> None:
    nonrad = pytest.importorskip("nonrad", reason="EXTRA 'capture' IS NOT INSTALLED")
    soft, hard = 0.025, PHONON
    curves = diagram().curves
    bent = diagram().model_copy(
        update={"curves": [curves[0].model_copy(update={"phonon_energy": soft}), curves[1]]}
    )
    found = capture_coefficients(bent, CaptureInputs("hole", COUPLING), volume=VOLUME)
    # The hole is captured by charge -1, which becomes 0.
    right, wrong = (
        nonrad.get_C(DQ, ENERGY, *phonons, COUPLING, VOLUME, T=300.0, sigma=SMEARING * soft)
        for phonons in ((hard, soft), (soft, hard))
    )
    assert found.coefficients == [pytest.approx(right, rel=1e-9, abs=0)]
    assert abs(right - wrong) > 0.1 * right
