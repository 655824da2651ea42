from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pymatgen.core import Structure

from defect_mf_flows.core.charge import charge_of, with_charge
from defect_mf_flows.errors import ChargeError
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.relaxation import Relaxed, relax
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.model import Model


@pytest.fixture(scope="module")
def potential(model: Model) -> Potential:
    return Potential(model, head="high")


@pytest.fixture(scope="module")
def structures(make_start: Callable[..., StartStructure]) -> list[Structure]:
    return [make_start(charge, seed).structure for seed in (31, 32) for charge in (0, -1)]


@pytest.fixture(scope="module")
def relaxed(structures: list[Structure], potential: Potential) -> list[Relaxed]:
    return relax(structures, potential, fmax=0.01, steps=12)


def test_relaxing_lowers_the_energy(
    relaxed: list[Relaxed], structures: list[Structure], potential: Potential
) -> None:
    before = [energy for energy, _ in potential.predict(structures)]
    for result, energy in zip(relaxed, before, strict=True):
        assert not result.exploded
        assert result.energy < energy - 1e-4
        assert 1 < result.steps <= 13


def test_the_energy_belongs_to_the_geometry_that_comes_back(
    relaxed: list[Relaxed], potential: Potential
) -> None:
    again = potential.predict([result.structure for result in relaxed])
    for result, (energy, _) in zip(relaxed, again, strict=True):
        assert result.energy == pytest.approx(energy, abs=1e-6)


def test_every_structure_keeps_its_charge_and_cell(
    relaxed: list[Relaxed], structures: list[Structure]
) -> None:
    assert [charge_of(result.structure) for result in relaxed] == [0, -1, 0, -1]
    for result, start in zip(relaxed, structures, strict=True):
        assert np.allclose(result.structure.lattice.matrix, start.lattice.matrix)
        assert result.structure.species == start.species


def test_charges_in_one_call_get_what_each_gets_alone(
    relaxed: list[Relaxed], structures: list[Structure], potential: Potential
) -> None:
    for structure, together in zip(structures[:2], relaxed, strict=False):
        (alone,) = relax([structure], potential, fmax=0.01, steps=12)
        assert alone.energy == pytest.approx(together.energy, abs=1e-8)
        assert np.allclose(alone.structure.frac_coords, together.structure.frac_coords)
    assert abs(relaxed[0].energy - relaxed[1].energy) > 1.0


def test_relaxing_with_a_loose_threshold_converges_at_once(
    structures: list[Structure], potential: Potential
) -> None:
    (result,) = relax(structures[:1], potential, fmax=1e3, steps=5)
    assert result.converged
    assert np.allclose(result.structure.cart_coords, structures[0].cart_coords)
    (short,) = relax(structures[:1], potential, fmax=1e-9, steps=1)
    assert not short.converged


def test_an_untrained_charge_stops_the_call(
    structures: list[Structure], potential: Potential
) -> None:
    with pytest.raises(ChargeError, match=r"charge \+3"):
        relax([with_charge(structures[0], 3)], potential, fmax=0.1, steps=2)
