"""Ends of the surrogate search become minima or counted failures."""

import pytest

from defect_mf_flows.campaign import MatchSettings, SearchSettings
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.core.minima import Matcher
from defect_mf_flows.jobs.search import SearchMaker, merge_batches
from defect_mf_flows.schemas.calculation import FailureReason
from defect_mf_flows.schemas.search import RelaxationBatch


def batch(vacancy, energies, problems, reasons=None):
    structure = with_charge(vacancy.supercell, -1)
    n = len(energies)
    return RelaxationBatch(
        defect=vacancy.name,
        charge=-1,
        starts=[f"start {i}" for i in range(n)],
        energies=energies,
        converged=[True] * n,
        steps=[10] * n,
        problems=problems,
        reasons=reasons or [None] * n,
        structures=[structure] * n,
        seconds=1.0,
    )


@pytest.fixture
def merged(vacancy, defect_set):
    matcher = Matcher(vacancy, defect_set.host.supercell, MatchSettings())

    def merge(*batches):
        return merge_batches(vacancy, -1, list(batches), [], "high", matcher)

    return merge


def test_worthless_ends_are_counted_and_never_become_minima(vacancy, merged):
    contact = "S-S at 1.20 A, never below 2.00 A in training"
    reasons = [
        None,
        FailureReason.EXPLODED,
        FailureReason.EXTRAPOLATED,
        FailureReason.LOST,
    ]
    problems = [None, "exploded: forces are not finite", contact, "lost: ended by signal 9"]
    found = merged(batch(vacancy, [-5.0, None, None, None], problems, reasons))
    assert [m.energy for m in found.minima] == [-5.0]
    assert [f.reason for f in found.failures] == reasons[1:]
    assert contact in found.failures[1].message
    assert found.n_calls == 40


def test_equal_ends_of_several_batches_are_one_minimum_named_by_its_lowest_start(vacancy, merged):
    one = batch(vacancy, [-5.0, -5.001], [None, None])
    found = merged(one, batch(vacancy, [-4.0], [None]))
    assert [m.energy for m in found.minima] == [-5.001, -4.0]
    assert found.minima[0].starts == ["start 1", "start 0"]
    assert [p.minimum for p in found.points] == [0, 0, 1]


def test_without_any_good_end_there_is_no_minimum(vacancy, merged):
    found = merged(batch(vacancy, [None], ["exploded"]))
    assert found.minima == []
    assert found.points == []


@pytest.mark.parametrize(
    ("batch", "device", "jobs"), [(None, "cpu", 3), (None, "cuda:0", 1), (10, "cuda", 4)]
)
def test_a_gpu_gets_all_starts_of_a_charge_state_at_once_unless_told_otherwise(batch, device, jobs):
    maker = SearchMaker(search=SearchSettings(batch=batch), device=device)
    assert -(-36 // maker._batch(36)) == jobs
