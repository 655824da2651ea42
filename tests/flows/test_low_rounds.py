"""`loop.low_rounds`: the model learns from the low fidelity before the high one is asked."""

from __future__ import annotations

import pytest

from defect_mf_flows.core.sparing import LOW_ALONE
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.schemas.dataset import Dataset, Split
from defect_mf_flows.schemas.loop import LoopState
from defect_mf_flows.schemas.search import Verdict, VerificationSet

LIMIT = 2.5


@pytest.fixture(scope="module")
def learnt(run_campaign_here, tmp_path_factory):
    changes = {
        "verification": {"minima": 1, "low_check": LIMIT, "low_minima": 3, "low_asks": 2},
        "loop": {"max_rounds": 2, "low_rounds": 1},
    }
    return run_campaign_here(tmp_path_factory.mktemp("learnt"), changes)


@pytest.fixture(scope="module")
def state(learnt):
    return list(learnt.api.documents(LoopState))[-1]


@pytest.fixture(scope="module")
def rounds(learnt):
    return list(learnt.api.documents(VerificationSet, load=True))


def test_the_first_round_costs_no_high_fidelity_call(rounds, state):
    first, second = rounds
    assert (first.high_calls, first.calculations) == (0, [])
    assert first.checks
    assert second.high_calls > 0
    assert state.high_calls == second.high_calls + sum(state.label_counts.values())


def test_nothing_is_asked_of_the_first_round_and_every_candidate_says_why(rounds):
    candidates = [c for v in rounds[0].verifications for c in v.candidates]
    assert candidates
    assert all(c.origin == "model" for c in candidates)
    assert all(c.spared and not c.calculations for c in candidates)
    passed = [c for c in candidates if c.low_error is not None and abs(c.low_error) <= LIMIT]
    assert passed
    assert {c.spared for c in passed} == {LOW_ALONE}, "no places are given in such a round"
    assert {v.verdict for v in rounds[0].verifications} == {Verdict.WRONG}


def test_the_low_ground_state_is_verified_in_the_first_round_that_asks(rounds):
    low = [c for v in rounds[1].verifications for c in v.candidates if c.origin == "low"]
    assert len(low) == len(rounds[1].verifications)
    assert all(c.round == 2 and c.calculations for c in low)


def test_what_the_low_fidelity_computed_trains_before_the_high_one_is_asked(learnt, rounds):
    sound = {
        c.job_uuid
        for c in learnt.api.documents(Calculation, load=False)
        if c.job_uuid in rounds[0].checks and c.failure is None
    }
    first, second = learnt.api.documents(Dataset, load=True)
    trained = [
        {e.frame.calculation for e in d.entries if e.split is Split.TRAIN} for d in (first, second)
    ]
    assert sound
    assert not sound & trained[0]
    assert sound & trained[1]


def test_the_campaign_ends_with_a_report_on_all_rounds(learnt, state):
    assert [r.round for r in state.rounds] == [1, 2]
    assert len(learnt.results.rounds) == 2
