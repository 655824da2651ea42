from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pymatgen.core import Structure

from defect_mf_flows.core.charge import charge_of, spin_of, with_charge, with_spin
from defect_mf_flows.errors import ChargeError, FidelityError
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.relaxation import Pace, relax
from defect_mf_flows.learning.relaxed import Relaxed
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.model import Model
from tests.learning.hopeless import collapsed

CHARGES = [0, -1, 0, -1]


@pytest.fixture(scope="module")
def potential(model: Model) -> Potential:
    return Potential(model, head="high")


@pytest.fixture(scope="module")
def structures(make_start: Callable[..., StartStructure]) -> list[Structure]:
    return [make_start(charge, seed).structure for seed in (31, 32) for charge in (0, -1)]


@pytest.fixture(scope="module")
def relaxed(structures: list[Structure], model: Model) -> list[Relaxed]:
    return relax(structures, CHARGES, model, "high", 0.01, 12)


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
    relaxed: list[Relaxed], structures: list[Structure], model: Model
) -> None:
    for structure, charge, together in zip(structures[:2], CHARGES, relaxed, strict=False):
        (alone,) = relax([structure], [charge], model, "high", 0.01, 12)
        assert alone.energy == pytest.approx(together.energy, abs=1e-8)
        assert np.allclose(alone.structure.frac_coords, together.structure.frac_coords)
    assert abs(relaxed[0].energy - relaxed[1].energy) > 1.0


def test_relaxing_with_a_loose_threshold_converges_at_once(
    structures: list[Structure], model: Model
) -> None:
    (result,) = relax(structures[:1], [0], model, "high", 1e3, 5)
    assert result.converged
    assert result.steps == 1
    assert np.allclose(result.structure.cart_coords, structures[0].cart_coords)
    (short,) = relax(structures[:1], [0], model, "high", 1e-9, 1)
    assert not short.converged


def test_an_untrained_charge_stops_the_call(structures: list[Structure], model: Model) -> None:
    with pytest.raises(ChargeError, match=r"charge \+3"):
        relax([with_charge(structures[0], 3)], [3], model, "high", 0.1, 2)


def test_an_unknown_head_stops_the_call(structures: list[Structure], model: Model) -> None:
    with pytest.raises(FidelityError, match="no head 'middle'"):
        relax(structures[:1], [0], model, "middle", 0.1, 2)


def test_a_structure_of_another_charge_than_asked_for_stops_the_call(
    structures: list[Structure], model: Model
) -> None:
    with pytest.raises(ChargeError, match=r"structure 1 carries charge -1, not \+0"):
        relax(structures[:2], [0, 0], model, "high", 0.1, 2)
    with pytest.raises(ChargeError, match="2 structures but 1 charges"):
        relax(structures[:2], [0], model, "high", 0.1, 2)


def test_the_head_decides_the_energy(structures: list[Structure], model: Model) -> None:
    (low,) = relax(structures[:1], [0], model, "low", 1e3, 1)
    (high,) = relax(structures[:1], [0], model, "high", 1e3, 1)
    assert abs(low.energy - high.energy) > 0.1


def test_a_structure_that_explodes_is_returned_with_what_was_seen(
    structures: list[Structure], relaxed: list[Relaxed], model: Model
) -> None:
    ends = relax([structures[0], collapsed(structures[1])], [0, -1], model, "high", 0.01, 12)
    assert ends[0].energy == pytest.approx(relaxed[0].energy)
    assert ends[1].exploded
    assert ends[1].message
    assert not ends[1].converged
    assert np.isnan(ends[1].energy)
    assert charge_of(ends[1].structure) == -1


def test_trajectories_are_kept_where_asked_for(
    structures: list[Structure], relaxed: list[Relaxed], model: Model
) -> None:
    (end,) = relax(structures[:1], [0], model, "high", 0.01, 12, trajectories=True)
    assert end.trajectory is not None
    assert end.trajectory.positions.shape == (end.steps, len(structures[0]), 3)
    assert np.allclose(end.trajectory.positions[0], structures[0].cart_coords)
    assert np.allclose(end.trajectory.positions[-1], end.structure.cart_coords)
    assert end.trajectory.energies[-1] == pytest.approx(end.energy)
    assert end.trajectory.energies[0] > end.energy
    assert relaxed[0].trajectory is None


def test_progress_is_told_after_every_structure(structures: list[Structure], model: Model) -> None:
    told: list[Pace] = []
    relax(structures[:3], CHARGES[:3], model, "high", 1e3, 1, progress=told.append)
    assert [(pace.done, pace.total) for pace in told] == [(1, 3), (2, 3), (3, 3)]
    assert all(pace.rate == pytest.approx(pace.done / pace.seconds) for pace in told)


def test_the_spin_comes_back_with_the_structure(structures: list[Structure], model: Model) -> None:
    (end,) = relax([with_spin(structures[0], 2)], [0], model, "high", 1e3, 1)
    assert spin_of(end.structure) == 2
