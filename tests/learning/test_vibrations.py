"""Vibrations on a real, tiny MACE: charge and head decide, and saddles are refused."""

from collections.abc import Callable

import numpy as np
import pytest

from defect_mf_flows.core.ccd import HBAR
from defect_mf_flows.core.charge import charge_of, with_charge
from defect_mf_flows.errors import ChargeError, VibrationError
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.vibrations import VibrationOptions, vibrations
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.vibrations import Vibrations

OPTIONS = VibrationOptions(temperatures=(0.0, 300.0, 900.0), follow=6, steps=4000)


@pytest.fixture(scope="module")
def potential(model: Model) -> Potential:
    return Potential(model, head="high")


@pytest.fixture(scope="module")
def found(potential: Potential, make_start: Callable[..., StartStructure]) -> dict[int, Vibrations]:
    return {
        q: vibrations(potential, make_start(q, 1).structure, OPTIONS, defect="v_Zn")
        for q in (0, -1)
    }


def test_a_minimum_of_the_model_has_3n_minus_3_modes(found: dict[int, Vibrations]) -> None:
    for charge, item in found.items():
        assert charge_of(item.structure) == item.charge == charge
        assert item.head == "high"
        assert len(item.phonon_energies) == 3 * len(item.structure) - 3
        assert item.phonon_energies == sorted(item.phonon_energies)
        assert 0.005 < np.mean(item.phonon_energies) < 0.2
        assert item.max_force <= OPTIONS.fmax
        cold, warm, hot = item.thermal
        assert cold.free_energy == pytest.approx(sum(item.phonon_energies) / 2)
        assert cold.free_energy > warm.free_energy > hot.free_energy
        assert 0 == cold.entropy < warm.entropy < hot.entropy


def test_charge_and_head_change_the_frequencies(
    found: dict[int, Vibrations], model: Model, make_start: Callable[..., StartStructure]
) -> None:
    neutral, charged = (np.array(found[q].phonon_energies) for q in (0, -1))
    assert np.abs(neutral - charged).max() > 1e-4
    low = vibrations(Potential(model, head="low"), found[0].structure, OPTIONS)
    assert low.head == "low"
    assert np.abs(np.array(low.phonon_energies) - neutral).max() > 1e-5


def test_frequencies_are_the_curvature_of_the_models_own_energy(
    potential: Potential, found: dict[int, Vibrations]
) -> None:
    """The trace of the dynamical matrix, from energies alone, along each coordinate."""
    item, shift = found[-1], 0.01
    cells, masses = [], []
    for atom in range(len(item.structure)):
        for axis in range(3):
            for sign in (1, -1):
                moved = item.structure.copy()
                step = np.zeros(3)
                step[axis] = sign * shift
                moved.translate_sites([atom], step, frac_coords=False, to_unit_cell=False)
                cells.append(moved)
            masses.append(float(item.structure[atom].specie.atomic_mass))
    energies = np.array([e for e, _ in potential.predict(cells)]).reshape(-1, 2)
    curvature = (energies.sum(axis=1) - 2 * item.energy) / shift**2
    trace = float((curvature / np.array(masses)).sum())
    squares = (np.array(item.phonon_energies) / HBAR) ** 2
    assert squares.sum() == pytest.approx(trace, rel=0.02)


def test_what_is_no_minimum_is_refused(
    potential: Potential, make_start: Callable[..., StartStructure]
) -> None:
    rattled = make_start(0, 1).structure
    as_it_is = VibrationOptions(steps=0)
    with pytest.raises(VibrationError, match="charge 0 is at no minimum"):
        vibrations(potential, rattled, as_it_is)
    with pytest.raises(VibrationError, match=r"v_Zn 0: not relaxed to 0.002 eV/A in 1 steps"):
        vibrations(potential, rattled, VibrationOptions(steps=1), defect="v_Zn")


def test_an_untrained_charge_is_refused(potential: Potential, found: dict[int, Vibrations]) -> None:
    with pytest.raises(ChargeError):
        vibrations(potential, with_charge(found[0].structure, 2), OPTIONS)
