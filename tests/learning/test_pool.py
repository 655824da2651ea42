from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Structure

from defect_mf_flows.core.charge import charge_of, with_charge
from defect_mf_flows.errors import ChargeError, ServiceError, TrainingError
from defect_mf_flows.learning.pool import MAX_FRUITLESS, RelaxationPool
from defect_mf_flows.learning.relaxation import relax
from defect_mf_flows.learning.relaxed import Limits, Problem, Relaxed
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.model import Model
from tests.learning.hopeless import collapsed

LIMITS = Limits(0.01, 12)
CHARGES = [0, -1, 0, -1, -1]


@pytest.fixture(scope="module")
def structures(make_start: Callable[..., StartStructure]) -> list[Structure]:
    return [make_start(charge, 40 + k).structure for k, charge in enumerate(CHARGES)]


@pytest.fixture(scope="module")
def alone(structures: list[Structure], model: Model) -> list[Relaxed]:
    return relax(structures, CHARGES, model, "high", LIMITS.fmax, LIMITS.steps)


@pytest.fixture(scope="module")
def pool(model: Model) -> Iterator[RelaxationPool]:
    with RelaxationPool(model, "high", processes=2) as made:
        yield made


def test_a_pool_gives_every_structure_what_it_gets_alone(
    structures: list[Structure], alone: list[Relaxed], pool: RelaxationPool
) -> None:
    done: list[int] = []
    ends = pool.relax(structures, LIMITS, report=done.append)
    assert done == [1, 2, 3, 4, 5]
    assert [charge_of(end.structure) for end in ends] == CHARGES
    for end, own in zip(ends, alone, strict=True):
        assert end.energy == pytest.approx(own.energy, abs=1e-6)
        assert end.steps == own.steps
        assert np.allclose(end.structure.cart_coords, own.structure.cart_coords, atol=1e-5)


def test_one_that_explodes_does_not_stop_the_others(
    structures: list[Structure], alone: list[Relaxed], pool: RelaxationPool
) -> None:
    ends = pool.relax([structures[0], collapsed(structures[1]), structures[2]], LIMITS)
    assert [end.problem for end in ends] == [None, Problem.EXPLODED, None]
    assert ends[2].energy == pytest.approx(alone[2].energy, abs=1e-6)


def test_trajectories_come_back_too(
    structures: list[Structure], alone: list[Relaxed], pool: RelaxationPool
) -> None:
    (end,) = pool.relax(structures[:1], Limits(0.01, 12, trajectories=True))
    assert end.trajectory is not None
    assert len(end.trajectory.energies) == alone[0].steps


def killer(pool: RelaxationPool, pids: list[int]) -> threading.Timer:
    """Kills processes in a while."""

    def kill() -> None:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    timer = threading.Timer(2.0, kill)
    timer.start()
    return timer


def test_a_process_that_dies_costs_its_structure_and_is_replaced(
    structures: list[Structure], alone: list[Relaxed], pool: RelaxationPool
) -> None:
    before = pool.pids
    timer = killer(pool, before)
    ends = pool.relax(structures[:2], Limits(1e-12, 10**9))
    timer.join()
    assert [end.problem for end in ends] == [Problem.LOST] * 2
    assert all("signal 9" in end.message for end in ends)
    assert [charge_of(end.structure) for end in ends] == CHARGES[:2]
    again = pool.relax(structures[:2], LIMITS)
    assert [end.energy for end in again] == pytest.approx([a.energy for a in alone[:2]], abs=1e-6)
    assert not set(pool.pids) & set(before)


def test_structures_that_were_together_in_a_process_that_died_are_tried_again_alone(
    structures: list[Structure], alone: list[Relaxed], model: Model
) -> None:
    """Only what takes its process with it a second time is lost."""
    with RelaxationPool(model, "high", processes=1) as pool:
        pool.relax(structures[:1], LIMITS)  # the process is ready, and gets all at once
        long = Limits(1e-12, 400)
        timer = killer(pool, pool.pids)
        ends = pool.relax(structures[:3], long)
        timer.join()
    assert [end.problem for end in ends] == [None] * 3
    assert [end.steps for end in ends] == [401] * 3


def test_a_charge_that_a_process_refuses_stops_the_call(
    structures: list[Structure], pool: RelaxationPool
) -> None:
    with pytest.raises(ChargeError, match=r"charge \+2"):
        pool.relax([with_charge(structures[0], 2)], LIMITS)


def test_a_model_that_no_process_can_load_stops_the_call(
    structures: list[Structure], model: Model
) -> None:
    broken = model.model_copy(update={"model_hash": "0" * 64})
    with (
        RelaxationPool(broken, "high", processes=1) as pool,
        pytest.raises(TrainingError, match="hash"),
    ):
        pool.relax(structures[:1], LIMITS)


def test_processes_that_always_die_end_the_call(
    structures: list[Structure], model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with (
        RelaxationPool(model, "high", processes=1) as pool,
        pytest.raises(ServiceError, match=f"{MAX_FRUITLESS + 1} in a row"),
    ):
        pool.relax(structures[:1], LIMITS)


def test_the_pool_leaves_no_process_behind(model: Model) -> None:
    with RelaxationPool(model, "high", processes=1) as pool:
        (pid,) = pool.pids
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_call_with_enough_to_do_takes_processes(
    structures: list[Structure],
    alone: list[Relaxed],
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[int] = []
    make = RelaxationPool.__init__

    def counted(self: RelaxationPool, *arguments: Any, processes: int, **options: Any) -> None:
        started.append(processes)
        make(self, *arguments, processes=processes, **options)

    monkeypatch.setattr(RelaxationPool, "__init__", counted)
    relax(structures[:2], CHARGES[:2], model, "high", 1e3, 1, processes=2)
    assert started == [], "two cells of seven atoms"
    monkeypatch.setattr("defect_mf_flows.learning.relaxation.WORTH_A_PROCESS", 7)
    ends = relax(structures[:2], CHARGES[:2], model, "high", 0.01, 12, processes=8)
    assert started == [2], "no more processes than structures"
    assert [e.energy for e in ends] == pytest.approx([a.energy for a in alone[:2]], abs=1e-6)
