"""With `verification.relax_within` single points decide which candidates are relaxed."""

from __future__ import annotations

import pytest

from defect_mf_flows.campaign import FrameSettings
from defect_mf_flows.core.filters import filter_frames
from defect_mf_flows.jobs.common import Stage
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.schemas.curvature import Curvature
from defect_mf_flows.schemas.dataset import Dataset
from defect_mf_flows.schemas.loop import LoopState
from defect_mf_flows.schemas.search import VerificationSet

WITHIN = 0.02


@pytest.fixture(scope="module")
def sifted(run_campaign_here, tmp_path_factory):
    """Up to four minima per charge, of which only the lowest at high fidelity are relaxed."""
    changes = {
        "verification": {"minima": 4, "relax_within": WITHIN, "curvature": True},
        "loop.max_rounds": 2,
        "search.pair_distortions": [-0.3],
    }
    return run_campaign_here(tmp_path_factory.mktemp("sifted"), changes)


@pytest.fixture(scope="module")
def rounds(sifted):
    return list(sifted.api.documents(VerificationSet, load=True))


@pytest.fixture(scope="module")
def calculations(sifted):
    return {c.job_uuid: c for c in sifted.api.documents(Calculation, fidelity="gfn2", load=True)}


def test_only_candidates_near_the_lowest_single_point_are_relaxed(rounds):
    spared = 0
    for verification in rounds[0].verifications:
        mine = [c for c in verification.candidates if c.round == 1 and c.origin != "label"]
        single = [c.energy_single_point for c in mine if c.energy_single_point is not None]
        for candidate in mine:
            if candidate.energy_single_point is None:
                continue
            near = candidate.energy_single_point - min(single) <= WITHIN
            assert near is not bool(candidate.spared)
            assert (candidate.relaxed is None) is bool(candidate.spared)
            spared += bool(candidate.spared)
    assert spared > 0


def test_a_relaxation_does_not_pay_for_its_single_point_again(rounds, calculations):
    begun = 0
    for verification in rounds[0].verifications:
        for candidate in verification.candidates:
            if candidate.origin == "label" or len(candidate.calculations) != 2:
                continue
            relaxation, single = (calculations[uuid] for uuid in candidate.calculations)
            assert single.n_calls == 1
            assert relaxation.n_calls == relaxation.n_frames - 1
            assert relaxation.frames[0].content_hash == single.frames[0].content_hash
            assert relaxation.charge == single.charge == verification.charge
            begun += 1
    assert begun > 0


def test_every_call_is_counted_once(sifted, rounds, calculations):
    on_defects = [c for c in calculations.values() if c.defect is not None]
    state = next(iter(reversed(list(sifted.api.documents(LoopState)))))
    assert state.high_calls == sum(c.n_calls for c in on_defects)
    costs = {c.stage: c for c in sifted.results.cost if c.fidelity == "gfn2"}
    verifying = costs[Stage.VERIFICATION.value].calls
    assert verifying == sum(found.high_calls for found in rounds)
    assert verifying + costs[Stage.HIGH.value].calls == state.high_calls


def test_sound_single_points_of_spared_candidates_train_in_the_next_round(
    sifted, rounds, calculations
):
    assert len(rounds) == 2, "a model of a few epochs is wrong at first"
    later = list(sifted.api.documents(Dataset, load=True))[-1]
    trained = {entry.frame.content_hash for entry in later.entries}
    host = sifted.api.defects().host.supercell
    spared = [c for v in rounds[0].verifications for c in v.candidates if c.spared]
    frames = [f for c in spared for uuid in c.calculations for f in calculations[uuid].frames]
    sound, _ = filter_frames(frames, settings=FrameSettings(), lattice_of=host)
    assert sound
    assert {frame.content_hash for frame in sound} <= trained


def test_every_relaxation_begins_from_the_curvature_of_its_own_charge(sifted, calculations):
    bends = {c.job_uuid: c for c in sifted.api.documents(Curvature, load=True)}
    begun = [c for c in calculations.values() if c.curvature_from is not None]
    assert begun
    for calculation in begun:
        assert bends[calculation.curvature_from].charge == calculation.charge
        assert bends[calculation.curvature_from].head == "gfn2"


def test_the_low_fidelity_ground_state_takes_its_label_over_and_pays_nothing(sifted, rounds):
    picked = set(next(iter(sifted.api.documents(LoopState))).origins)
    low = [c for v in rounds[0].verifications for c in v.candidates if c.origin == "low"]
    assert low
    for candidate in low:
        assert candidate.calculations[-1] in picked
        assert candidate.energy_single_point is not None
    asked = {uuid for found in rounds for uuid in found.calculations}
    assert not asked & picked
