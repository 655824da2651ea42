"""Ends of the surrogate search become minima or counted failures."""

from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.core.matching import SameMinimum
from defect_mf_flows.jobs.search import merge_batches
from defect_mf_flows.schemas.calculation import FailureReason
from defect_mf_flows.schemas.search import RelaxationBatch


def batch(vacancy, energies, problems):
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
        structures=[structure] * n,
        seconds=1.0,
    )


def merged(vacancy, *batches):
    return merge_batches(vacancy, -1, list(batches), [], "high", SameMinimum())


def test_worthless_ends_are_counted_and_never_become_minima(vacancy):
    contact = "S-S at 1.20 A, never below 2.00 A in training"
    found = merged(vacancy, batch(vacancy, [-5.0, None, None], [None, "exploded", contact]))
    assert [m.energy for m in found.minima] == [-5.0]
    assert [f.reason for f in found.failures] == [
        FailureReason.EXPLODED,
        FailureReason.EXTRAPOLATED,
    ]
    assert contact in found.failures[1].message
    assert found.n_calls == 30


def test_equal_ends_of_several_batches_are_one_minimum_named_by_its_lowest_start(vacancy):
    one = batch(vacancy, [-5.0, -5.001], [None, None])
    found = merged(vacancy, one, batch(vacancy, [-4.0], [None]))
    assert [m.energy for m in found.minima] == [-5.001, -4.0]
    assert found.minima[0].starts == ["start 1", "start 0"]
    assert [p.minimum for p in found.points] == [0, 0, 1]


def test_without_any_good_end_there_is_no_minimum(vacancy):
    found = merged(vacancy, batch(vacancy, [None], ["exploded"]))
    assert found.minima == []
    assert found.points == []
