"""With `picks.low_minima` the high fidelity relaxes the lowest low-fidelity minima at first."""

from __future__ import annotations

from collections import defaultdict

import pytest

from defect_mf_flows.core.groups import charged_geometry_key, geometry_key
from defect_mf_flows.jobs.common import Stage
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind
from defect_mf_flows.schemas.dataset import Dataset, Split
from defect_mf_flows.schemas.loop import LoopState
from defect_mf_flows.schemas.search import Exploration, VerificationSet

MOST = 2


@pytest.fixture(scope="module")
def campaign(run_campaign_here, tmp_path_factory):
    changes = {"picks.low_minima": MOST, "loop.max_rounds": 1}
    return run_campaign_here(tmp_path_factory.mktemp("low-minima"), changes)


@pytest.fixture(scope="module")
def high(campaign):
    return list(campaign.api.documents(Calculation, fidelity="gfn2", load=True))


@pytest.fixture(scope="module")
def relaxations(high):
    return {(c.defect, c.charge, c.start): c for c in high if c.start.startswith("round0_low")}


@pytest.fixture(scope="module")
def searches(campaign):
    return next(iter(campaign.api.documents(Exploration, load=True))).searches


def test_the_lowest_minima_of_every_charge_state_are_relaxed(searches, relaxations):
    wanted = {
        (s.defect, s.charge, f"round0_low{rank}_{minimum.starts[0]}"): minimum
        for s in searches
        for rank, minimum in enumerate(s.minima[:MOST])
    }
    assert set(relaxations) == set(wanted)
    for key, done in relaxations.items():
        assert done.kind is CalculationKind.RELAX
        begun = charged_geometry_key(wanted[key].structure, done.charge)
        assert geometry_key(done.frames[0]) == begun


def test_their_ends_are_candidates_of_round_0_and_no_later_round_asks_again(
    campaign, searches, relaxations
):
    (found,) = campaign.api.documents(VerificationSet, load=True)
    for verification in found.verifications:
        own = [c for c in verification.candidates if c.origin == "low"]
        search = next(
            s
            for s in searches
            if (s.defect, s.charge) == (verification.defect, verification.charge)
        )
        assert [c.rank for c in own] == list(range(len(search.minima[:MOST])))
        for candidate, minimum in zip(own, search.minima, strict=False):
            start = f"round0_low{candidate.rank}_{minimum.starts[0]}"
            done = relaxations[verification.defect, verification.charge, start]
            assert (candidate.round, candidate.start) == (0, minimum.starts[0])
            assert candidate.energy_low == minimum.energy
            assert candidate.energy_relaxed == done.final_energy
            assert candidate.energy_single_point == done.frames[0].energy


def test_no_geometry_is_on_two_sides_of_the_split(campaign, relaxations):
    """The relaxation that a minimum ends may be held out, and what begins there trains."""
    sides = defaultdict(set)
    frames = {
        (c.job_uuid, frame.lineage.step): geometry_key(frame)
        for c in campaign.api.documents(Calculation, load=True)
        for frame in c.frames
    }
    (dataset,) = campaign.api.documents(Dataset, load=True)
    for entry in dataset.entries:
        sides[frames[entry.frame.calculation, entry.frame.step]].add(entry.split)
    assert {len(found) for found in sides.values()} == {1}
    begun = {geometry_key(c.frames[0]) for c in relaxations.values()}
    held_out = [key for key in begun if Split.TRAIN not in sides[key]]
    assert held_out, "none of them would have shown it"


def test_the_low_fidelity_ground_state_of_the_results_is_the_lowest_of_them(campaign, searches):
    lowest = {(s.defect, s.charge): s.minima[0].starts[0] for s in searches}
    found = {(g.defect, g.charge): g.low_start for g in campaign.results.ground_states}
    assert found == lowest


def test_no_geometry_is_paid_for_twice(high, relaxations):
    begun = {geometry_key(c.frames[0]) for c in relaxations.values()}
    singles = [c for c in high if c.kind is CalculationKind.STATIC and c.defect is not None]
    assert singles
    assert not begun & {geometry_key(c.frames[0]) for c in singles}


def test_their_calls_are_counted_once_and_under_a_name_of_their_own(campaign, relaxations):
    paid = sum(c.n_calls for c in relaxations.values())
    costs = {c.stage: c for c in campaign.results.cost if c.fidelity == "gfn2"}
    assert costs[f"{Stage.HIGH.value} (low-fidelity minima)"].calls == paid
    assert f"{Stage.HIGH.value} (rattled starts)" not in costs
    state = list(campaign.api.documents(LoopState))[-1]
    verified = costs[Stage.VERIFICATION.value].calls
    assert state.high_calls == paid + costs[Stage.HIGH.value].calls + verified
