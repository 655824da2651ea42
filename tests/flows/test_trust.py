"""`search.trust`: a search believes its model only where that has been."""

from __future__ import annotations

import math

import pytest

from defect_mf_flows.learning.familiarity import Trust, unfamiliarity
from defect_mf_flows.schemas.calculation import Calculation, FailureReason
from defect_mf_flows.schemas.loop import LoopState
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.search import RelaxationBatch, SearchSet

ERROR = 2.0
ASKS = 2


@pytest.fixture(scope="module")
def trusting(run_campaign_here, tmp_path_factory):
    changes = {
        "search.trust": ERROR,
        "search.pair_distortions": [-0.5],
        "search.rattles": [0.05, 0.3],
        "verification": {"minima": 1, "low_check": 1.0, "low_asks": ASKS},
        "loop.max_rounds": 1,
    }
    return run_campaign_here(tmp_path_factory.mktemp("trusting"), changes)


@pytest.fixture(scope="module")
def trust(trusting):
    return Trust(next(trusting.api.documents(Model, load=True)), error=ERROR, device="cpu")


@pytest.fixture(scope="module")
def batches(trusting):
    return list(trusting.api.documents(RelaxationBatch, load=True))


def test_the_model_keeps_what_it_has_seen(trust):
    assert {e.element for e in trust.known.environments} == {"Zn", "S"}
    assert 0 < trust.limit < math.inf


def test_no_end_beyond_the_limit_is_believed(trust, batches):
    believed, refused = [], []
    for b in batches:
        far = unfamiliarity(trust.known, trust.potential, b.structures)
        for distance, energy, problem in zip(far, b.energies, b.problems, strict=True):
            (refused if problem and "surroundings" in problem else believed).append(distance)
            assert (energy is None) == bool(problem)
            if energy is not None:
                assert distance <= trust.limit + 1e-3
    assert believed
    assert all(distance > trust.limit - 1e-3 for distance in refused)


def test_refused_ends_are_counted_with_the_reason(trusting, batches):
    problems = [
        (b.charge, start, reason)
        for b in batches
        for start, reason in zip(b.starts, b.reasons, strict=True)
        if reason is not None
    ]
    counted = {
        (f.charge, f.start, f.reason)
        for search in next(trusting.api.documents(SearchSet, load=True)).searches
        for f in search.failures
    }
    assert set(problems) <= counted


def test_the_low_fidelity_is_asked_where_relaxations_left_what_is_known(trusting, batches):
    """Not at their ends, which may be holes tens of eV deep."""
    (state,) = [s for s in trusting.api.documents(LoopState) if s.stop is not None]
    by_uuid = {c.job_uuid: c for c in trusting.api.documents(Calculation, load=True)}
    asked = [c for c in (by_uuid[u] for u in state.checks) if "_refused" in c.start]
    for charge in (0, -1):
        strayed = [
            reason is FailureReason.EXTRAPOLATED
            for b in batches
            if b.charge == charge
            for reason in b.reasons
        ]
        wrecks = [w for b in batches if b.charge == charge for w in b.wrecks]
        assert len(wrecks) <= sum(strayed)
        mine = [c for c in asked if c.charge == charge]
        assert len(mine) == min(ASKS, len(wrecks))
        assert all(c.fidelity == "gfn1" and c.kind.value == "static" for c in mine)
