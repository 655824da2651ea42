"""Vibrations on a real, tiny MACE: charge and head decide, and saddles are refused."""

from collections.abc import Callable

import numpy as np
import pytest
from pymatgen.core import Structure

from defect_mf_flows.core.charge import charge_of, with_charge
from defect_mf_flows.errors import ChargeError, VibrationError
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.vibrations import VibrationOptions, quasi_harmonic, vibrations
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.vibrations import Vibrations

OPTIONS = VibrationOptions(temperatures=(0.0, 300.0, 900.0), follow=6, steps=4000)


@pytest.fixture(scope="module")
def potential(model: Model) -> Potential:
    return Potential(model, head="high")


@pytest.fixture(scope="module")
def found(
    potential: Potential, make_start: Callable[..., StartStructure]
) -> dict[int, Vibrations]:
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
