"""With `picks.relaxations` the high fidelity relaxes rattled starts before there is a model."""

from __future__ import annotations

import math

import numpy as np
import pytest

from defect_mf_flows.core.charge import charge_of
from defect_mf_flows.jobs.common import Stage
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind
from defect_mf_flows.schemas.dataset import Dataset, Split
from defect_mf_flows.schemas.defect import DefectSet
from defect_mf_flows.schemas.loop import LoopState
from defect_mf_flows.schemas.search import RATTLED, SearchSet, VerificationSet


@pytest.fixture(scope="module")
def campaign(run_campaign_here, tmp_path_factory):
    changes = {"picks.relaxations": 2, "picks.rattle": 0.04, "loop.max_rounds": 1}
    return run_campaign_here(tmp_path_factory.mktemp("rattled"), changes)


@pytest.fixture(scope="module")
def relaxations(campaign):
    high = campaign.api.documents(Calculation, fidelity="gfn2", load=True)
    return [c for c in high if c.start.startswith("Rattled_")]


@pytest.fixture(scope="module")
def verifications(campaign):
    return next(iter(campaign.api.documents(VerificationSet, load=True))).verifications


def test_every_charge_state_is_relaxed_from_as_many_starts_that_all_differ(campaign, relaxations):
    defects = next(iter(campaign.api.documents(DefectSet))).defects
    wanted = {(d.name, q, f"Rattled_{k}") for d in defects for q in d.charges for k in (1, 2)}
    assert {(c.defect, c.charge, c.start) for c in relaxations} == wanted
    assert all(c.kind is CalculationKind.RELAX for c in relaxations)
    assert all(charge_of(c.frames[0].structure) == c.charge for c in relaxations)
    first = np.array([c.frames[0].structure.cart_coords for c in relaxations])
    apart = [np.abs(a - b).max() for k, a in enumerate(first) for b in first[:k]]
    assert min(apart) > 0.01


def test_the_first_model_learns_their_frames_and_holds_none_of_them_out(campaign, relaxations):
    entries = next(iter(campaign.api.documents(Dataset, load=True))).entries
    sides = {e.frame.calculation: e.split for e in entries}
    usable = [c for c in relaxations if c.failure is None]
    assert usable
    assert {sides[c.job_uuid] for c in usable} == {Split.TRAIN}


def test_their_ends_are_verified_minima_of_round_0_with_energies_of_the_first_model(
    relaxations, verifications
):
    ends = {(c.defect, c.charge, c.start): c for c in relaxations}
    seen = 0
    for verification in verifications:
        for candidate in verification.candidates:
            if candidate.origin != RATTLED:
                continue
            done = ends[verification.defect, verification.charge, candidate.start]
            assert candidate.round == 0
            assert candidate.calculations == [done.job_uuid]
            assert candidate.energy_relaxed == done.final_energy
            assert math.isfinite(candidate.energy_model)
            seen += 1
    assert seen == len(relaxations)


def test_the_first_search_starts_from_them(campaign, verifications):
    searches = next(iter(campaign.api.documents(SearchSet, load=True)))
    for verification in verifications:
        search = searches.get(verification.defect, verification.charge)
        begun = {p.start for p in search.points} | {f.start for f in search.failures}
        assert any(s.startswith(f"Verified_{verification.charge:+d}_") for s in begun)


def test_no_ground_state_lies_above_one_of_their_ends(campaign, verifications):
    for verification in verifications:
        energies = [c.energy_relaxed for c in verification.candidates if c.energy_relaxed]
        best = verification.candidates[verification.ground_state]
        assert best.energy_relaxed == min(energies)


def test_their_calls_are_counted_once_and_under_a_name_of_their_own(campaign, relaxations):
    state = next(iter(campaign.api.documents(LoopState)))
    paid = sum(c.n_calls for c in relaxations)
    singles = sum(state.label_counts.values())
    costs = {c.stage: c for c in campaign.results.cost if c.fidelity == "gfn2"}
    assert paid > len(relaxations), "relaxations, not single points"
    assert costs[Stage.HIGH.value].calls == singles
    assert costs[f"{Stage.HIGH.value} (rattled starts)"].calls == paid
    assert costs[Stage.VERIFICATION.value].calls == state_at_the_end(campaign) - singles - paid


def state_at_the_end(campaign) -> int:
    return list(campaign.api.documents(LoopState))[-1].high_calls
