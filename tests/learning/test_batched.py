from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pymatgen.core import Structure

from defect_mf_flows.core.charge import charge_of, spin_of, with_charge, with_spin
from defect_mf_flows.errors import ChargeError
from defect_mf_flows.learning import batched
from defect_mf_flows.learning.batched import memory_of, relax_batched
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.relaxation import relax
from defect_mf_flows.learning.relaxed import Limits, Problem, Relaxed
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.model import Model
from tests.learning.hopeless import collapsed

pytest.importorskip("torch_sim", reason="torch-sim is missing: pip install defect-mf-flows[gpu]")

CHARGES = [0, -1, -1, 0, -1]
LIMITS = Limits(0.02, 80)


@pytest.fixture(scope="module")
def structures(make_start: Callable[..., StartStructure]) -> list[Structure]:
    return [make_start(charge, 50 + k).structure for k, charge in enumerate(CHARGES)]


@pytest.fixture(scope="module")
def alone(structures: list[Structure], model: Model) -> list[Relaxed]:
    return relax(structures, CHARGES, model, "high", LIMITS.fmax, LIMITS.steps)


def assert_same(ends: list[Relaxed], alone: list[Relaxed]) -> None:
    """Energies within 1 meV per cell, geometries within 0.01 A."""
    for end, own in zip(ends, alone, strict=True):
        assert end.converged == own.converged
        assert end.energy == pytest.approx(own.energy, abs=1e-3)
        assert np.abs(end.structure.cart_coords - own.structure.cart_coords).max() < 0.01


def test_mixed_charges_in_one_batch_end_in_the_minima_that_each_finds_alone(
    structures: list[Structure], alone: list[Relaxed], model: Model
) -> None:
    done: list[int] = []
    ends = relax_batched(structures, model, "high", LIMITS, device="cpu", report=done.append)
    assert [charge_of(end.structure) for end in ends] == CHARGES
    assert_same(ends, alone)
    assert [end.steps for end in ends] == [own.steps for own in alone], "the same FIRE"
    assert done == sorted(done)
    assert done[-1] == len(structures)
    assert any(own.converged for own in alone)
    assert abs(alone[0].energy - alone[1].energy) > 1.0, "the charge matters"


def test_structures_that_come_in_late_walk_as_if_alone(
    structures: list[Structure], alone: list[Relaxed], model: Model
) -> None:
    ends = relax_batched(
        structures, model, "high", LIMITS, device="cpu", memory=2.5 * memory_of(structures[0])
    )
    assert_same(ends, alone)
    assert [end.steps for end in ends] == [own.steps for own in alone]


def test_on_a_cpu_a_cell_beyond_the_usual_batch_is_one_itself(
    structures: list[Structure],
    alone: list[Relaxed],
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(batched, "CPU_MEMORY", 0.5 * memory_of(structures[0]))
    ends = relax_batched(structures[:2], model, "high", LIMITS, device="cpu")
    assert_same(ends, alone[:2])
    assert "batch failed" not in caplog.text


def test_one_that_explodes_does_not_stop_its_batch(
    structures: list[Structure], alone: list[Relaxed], model: Model
) -> None:
    mixed = [structures[0], collapsed(structures[1]), structures[2]]
    ends = relax_batched(mixed, model, "high", LIMITS, device="cpu")
    assert ends[1].problem is Problem.EXPLODED
    assert ends[1].message
    assert charge_of(ends[1].structure) == -1
    assert_same([ends[0], ends[2]], [alone[0], alone[2]])


def test_a_batch_that_cannot_be_computed_is_taken_apart(
    structures: list[Structure],
    alone: list[Relaxed],
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever raises in the middle of a batch costs only the structure that is to blame."""
    from defect_mf_flows.learning.torchsim import Neighbours

    listed = Neighbours._list
    calls = 0

    def fails_with_the_second(self: Neighbours, positions, cell):
        nonlocal calls
        calls += 1
        bad = np.allclose(positions.cpu().numpy()[0], structures[1].cart_coords[0], atol=1e-4)
        if bad:
            raise RuntimeError("no neighbour list")
        return listed(self, positions, cell)

    monkeypatch.setattr(Neighbours, "_list", fails_with_the_second)
    ends = relax_batched(structures[:3], model, "high", LIMITS, device="cpu")
    assert [end.problem for end in ends] == [None, Problem.EXPLODED, None]
    assert "no neighbour list" in ends[1].message
    assert_same([ends[0], ends[2]], [alone[0], alone[2]])


def test_a_batch_that_does_not_fit_is_tried_again_with_less(
    structures: list[Structure],
    alone: list[Relaxed],
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    from defect_mf_flows.learning.torchsim import HeadModel

    forward = HeadModel.forward
    sizes: list[int] = []

    def small_device(self: HeadModel, state, **options):
        sizes.append(state.n_systems)
        if state.n_systems > 2:
            raise torch.OutOfMemoryError("no room")
        return forward(self, state, **options)

    monkeypatch.setattr(HeadModel, "forward", small_device)
    ends = relax_batched(structures, model, "high", LIMITS, device="cpu")
    assert_same(ends, alone)
    assert sizes[0] == 5
    assert max(sizes[1:]) == 2


def test_trajectories_are_those_of_each_structure(
    structures: list[Structure], alone: list[Relaxed], model: Model
) -> None:
    limits = Limits(LIMITS.fmax, LIMITS.steps, trajectories=True)
    ends = relax_batched(
        structures[:3], model, "high", limits, device="cpu", memory=2.5 * memory_of(structures[0])
    )
    for end, own, start in zip(ends, alone, structures, strict=False):
        assert end.trajectory is not None
        assert end.trajectory.positions.shape == (own.steps, len(start), 3)
        assert np.allclose(end.trajectory.positions[0], start.cart_coords, atol=1e-5)
        assert end.trajectory.energies[-1] == pytest.approx(end.energy, abs=1e-6)


def test_an_untrained_charge_stops_the_call(structures: list[Structure], model: Model) -> None:
    with pytest.raises(ChargeError, match=r"charge \+3"):
        relax_batched([with_charge(structures[0], 3)], model, "high", LIMITS, device="cpu")


def test_the_model_refuses_a_state_whose_charge_was_lost(
    structures: list[Structure], model: Model
) -> None:
    from torch_sim.state import SimState

    from defect_mf_flows.learning.torchsim import HeadModel, charged_state

    head = HeadModel(Potential(model, head="high"))
    state = charged_state(structures[1], 0, head)
    bare = SimState(
        positions=state.positions,
        masses=state.masses,
        cell=state.cell,
        pbc=True,
        atomic_numbers=state.atomic_numbers,
        system_idx=state.system_idx,
    )
    with pytest.raises(ChargeError, match="carries no charge"):
        head(bare)
    state.charge += 5
    with pytest.raises(ChargeError, match="trained on"):
        head(state)


def test_without_torch_sim_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch_sim", None)
    with pytest.raises(batched.EngineError, match=r"defect-mf-flows\[gpu\]"):
        batched.require_torch_sim()


def test_the_spin_goes_through_the_batch(structures: list[Structure], model: Model) -> None:
    mixed = [with_spin(structures[0], 2), structures[1], with_spin(structures[2], 1)]
    ends = relax_batched(mixed, model, "high", Limits(1e3, 1), device="cpu")
    assert [spin_of(end.structure) for end in ends] == [2, None, 1]


def test_a_model_that_learns_the_spin_refuses_structures_without(
    structures: list[Structure], model: Model
) -> None:
    from defect_mf_flows.learning.torchsim import HeadModel, charged_state

    head = HeadModel(Potential(model, head="high"))
    head.learns_spin = True
    with pytest.raises(ChargeError, match="without spin"):
        head(charged_state(structures[0], 0, head))
