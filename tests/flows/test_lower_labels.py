"""A campaign whose relaxations end too soon: what is known is not lost on the way."""

from __future__ import annotations

import pytest

from defect_mf_flows.jobs.common import Stage, read_output
from defect_mf_flows.schemas.calculation import Calculation, FailureReason
from defect_mf_flows.schemas.search import SearchSet, VerificationSet

TOLERANCE = 0.02


@pytest.fixture(scope="module")
def hurried(run_campaign_here, tmp_path_factory):
    """Low-fidelity relaxations of six steps."""
    changes = {"fidelities.gfn1.steps": 6, "fidelities.gfn2.steps": 1}
    return run_campaign_here(tmp_path_factory.mktemp("hurried"), changes)


@pytest.fixture(scope="module")
def astray(run_campaign_here, tmp_path_factory):
    """A search that stays at its starts, and high-fidelity relaxations of a single step."""
    changes = {
        "search.steps": 1,
        "search.from_low": False,
        "fidelities.gfn2.steps": 1,
        "picks.fraction": 0.6,  # of many labels one lies lower than what is relaxed
    }
    return run_campaign_here(tmp_path_factory.mktemp("astray"), changes)


def labels(run):
    found = run.api.documents(Calculation, fidelity="gfn2", kind="static", load=True)
    return {c.job_uuid: c for c in found if c.defect is not None and c.frames}


def candidates(run):
    (verified,) = run.api.documents(VerificationSet, load=True)
    return [(v.charge, c) for v in verified.verifications for c in v.candidates]


@pytest.mark.parametrize("name", ["hurried", "astray", "finished"])
def test_no_ground_state_lies_above_a_label(name, request):
    run = request.getfixturevalue(name)
    for state in run.results.ground_states:
        lowest = min(c.frames[0].energy for c in labels(run).values() if c.charge == state.charge)
        assert state.energy_hf <= lowest + TOLERANCE


def test_the_lowest_label_below_the_ground_state_is_relaxed_too(astray):
    from_labels = [(q, c) for q, c in candidates(astray) if c.origin == "label"]
    assert from_labels
    for charge, candidate in from_labels:
        relaxation, label = candidate.calculations
        known = labels(astray)
        mine = [c for c in known.values() if c.charge == charge]
        assert known[label] == min(mine, key=lambda c: c.frames[0].energy)
        assert candidate.energy_single_point == pytest.approx(known[label].final_energy, abs=1e-5)
        others = [
            c.energy_relaxed
            for q, c in candidates(astray)
            if (q, c.origin) == (charge, "model") and c.energy_relaxed is not None
        ]
        assert all(known[label].final_energy < energy - TOLERANCE for energy in others)
        done = read_output(astray.store, relaxation, Calculation, load=True)
        assert (done.charge, done.n_frames) == (charge, 2)


def test_its_calls_are_counted(astray):
    rows = [r for r in astray.results.cost if r.stage == Stage.VERIFICATION.value]
    calls = sum(c.n_calls for c in astray.api.documents(Calculation, fidelity="gfn2", kind="relax"))
    assert sum(r.calls for r in rows if r.fidelity == "gfn2") == calls


def test_ends_of_low_fidelity_relaxations_out_of_steps_are_starts_of_every_charge(hurried):
    low = list(hurried.api.documents(Calculation, fidelity="gfn1", kind="relax"))
    ended = [c for c in low if c.failure and c.failure.reason is FailureReason.STEPS]
    assert ended
    (searched,) = hurried.api.documents(SearchSet)
    for search in searched.searches:
        seen = {p.start for p in search.points} | {f.start for f in search.failures}
        assert {f"Unfinished_{c.charge:+d}_{c.start}" for c in ended} <= seen
