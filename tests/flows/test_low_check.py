"""`verification.low_check`: the low fidelity looks over predictions, then the high one is asked."""

from __future__ import annotations

import pytest

from defect_mf_flows.campaign import FrameSettings
from defect_mf_flows.core.filters import filter_frames
from defect_mf_flows.jobs.second_look import worth_relaxing
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.schemas.dataset import Dataset, Split
from defect_mf_flows.schemas.loop import LoopState
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.search import Verdict, VerificationSet

LIMIT = 2.5
PLACES = 2
WITHIN = 5.0


@pytest.fixture(scope="module")
def checked(run_campaign_here, tmp_path_factory):
    changes = {
        "verification": {
            "minima": PLACES,
            "low_check": LIMIT,
            "low_minima": 6,
            "relax_within": WITHIN,
            "relaxations": 1,
        },
        "loop.max_rounds": 2,
        "search.pair_distortions": [-0.3],
    }
    return run_campaign_here(tmp_path_factory.mktemp("checked"), changes)


@pytest.fixture(scope="module")
def state(checked):
    return list(checked.api.documents(LoopState))[-1]


@pytest.fixture(scope="module")
def checks(checked, state):
    every = {c.job_uuid: c for c in checked.api.documents(Calculation, load=True)}
    return [every[uuid] for uuid in state.checks]


@pytest.fixture(scope="module")
def predictions(checked):
    first = next(checked.api.documents(VerificationSet, load=True))
    return [
        (v, c)
        for v in first.verifications
        for c in v.candidates
        if c.origin == "model" and c.round == 1
    ]


def test_checks_are_low_fidelity_single_points_of_their_charge(checks, predictions):
    assert len(checks) >= len(predictions) > 0
    assert {c.fidelity for c in checks} == {"gfn1"}
    assert {c.charge for c in checks} == {0, -1}
    assert all(c.n_calls == 1 for c in checks)


def test_the_error_is_that_of_the_models_low_head_at_the_prediction(checked, checks, predictions):
    model = next(checked.api.documents(Model, load=True))
    low = Potential(model, head="gfn1")
    by_start = {(c.charge, c.start): c for c in checks}
    compared = 0
    for verification, candidate in predictions:
        label = f"round1_model{candidate.rank}_{candidate.start}"
        done = by_start[verification.charge, label]
        if done.final_energy is None:
            assert candidate.low_error is None
            continue
        expected = low.predict([candidate.structure])[0][0] - done.final_energy
        assert candidate.low_error == pytest.approx(expected, abs=1e-6)
        compared += 1
    assert compared > 0


def test_the_high_fidelity_is_not_asked_where_the_model_does_not_know_the_low_one(predictions):
    refuted = 0
    for verification, candidate in predictions:
        off = candidate.low_error is None or abs(candidate.low_error) > LIMIT
        if off:
            assert candidate.spared
            assert candidate.calculations == []
            assert candidate.energy_single_point is None
            refuted += 1
            if candidate.rank == 0:
                assert verification.verdict is Verdict.WRONG
                assert verification.reason == candidate.spared
    assert refuted > 0, "a model of a few epochs does not know where its own minima are"


def test_minima_in_reserve_are_checked_and_no_more_asked_about_than_there_are_places(predictions):
    assert any(c.reserve for _, c in predictions), "the search finds more minima than places"
    for charge in (0, -1):
        mine = [c for v, c in predictions if v.charge == charge]
        assert all(c.reserve is (c.rank >= PLACES) for c in mine)
        passed = [c for c in mine if c.low_error is not None and abs(c.low_error) <= LIMIT]
        asked = [c for c in mine if c.calculations]
        assert len(asked) == min(PLACES, len(passed))
        by_both = sorted(passed, key=lambda c: (c.rank > 0, c.energy_model - c.low_error))
        assert {c.rank for c in asked} == {c.rank for c in by_both[:PLACES]}
    assert any(c.reserve and c.calculations for _, c in predictions)


def test_the_lowest_at_high_fidelity_is_relaxed_and_others_if_they_may_end_lower(checked):
    calculations = {c.job_uuid: c for c in checked.api.documents(Calculation, load=True)}
    first = next(checked.api.documents(VerificationSet, load=True))
    owners, finished, asked, judged, followed = [], [], [], {}, 0
    for verification in first.verifications:
        mine = [c for c in verification.candidates if c.origin != "label"]
        single = [c for c in mine if c.energy_single_point is not None]
        assert not min(single, key=lambda c: c.energy_single_point).spared
        followed += sum(not c.spared for c in single) - 1
        owner = verification.defect, verification.charge
        owners += [owner] * len(mine)
        finished += mine
        asked += [calculations[c.calculations[0]] if c.calculations else None for c in mine]
        judged[owner] = mine
    assert followed > 0
    assert not worth_relaxing(finished, owners, asked, judged, within=WITHIN), "none is left out"


def test_sound_checks_train_in_the_next_round_and_nowhere_else(checked, state, checks):
    assert len(state.rounds) == 2
    first, second = checked.api.documents(Dataset, load=True)
    host = checked.api.defects().host.supercell
    mine = [c for c in checks if c.start.startswith("round1_")]
    relaxed = list(checked.api.documents(Calculation, fidelity="gfn1", kind="relax"))
    floors = {q: min(c.lowest_energy for c in relaxed if c.charge == q) for q in (0, -1)}
    sound = [
        frame
        for c in mine
        for frame in filter_frames(
            c.frames, settings=FrameSettings(), lattice_of=host, floor=floors[c.charge]
        )[0]
    ]
    assert sound
    hashes = {frame.content_hash for frame in sound}
    assert not hashes & {e.frame.content_hash for e in first.entries}
    assert hashes <= {e.frame.content_hash for e in second.entries if e.split is Split.TRAIN}


def test_checks_cost_low_calls_and_no_high_ones(checked, state, checks):
    costs = {(c.stage, c.fidelity): c.calls for c in checked.results.cost}
    assert costs["search (low-fidelity checks)", "gfn1"] == len(checks)
    high = [c for c in checked.api.documents(Calculation, fidelity="gfn2") if c.defect is not None]
    assert state.high_calls == sum(c.n_calls for c in high)


def test_checks_that_failed_are_among_the_failures_of_the_results(checked, checks):
    """Those of the last round, too, which no dataset follows."""
    told = {(f.fidelity, f.start, f.message) for f in checked.results.failures}
    failed = {("gfn1", c.start, c.failure.message) for c in checks if c.failure is not None}
    assert failed <= told
