"""With `verification.guided` the low fidelity guides every high-fidelity relaxation."""

from __future__ import annotations

import pytest

from defect_mf_flows.campaign import load_campaign
from defect_mf_flows.flows.campaign import CampaignMaker
from defect_mf_flows.jobs.common import Stage
from defect_mf_flows.report.methods import methods
from defect_mf_flows.results.spent import spent
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind
from defect_mf_flows.testing import write_campaign


@pytest.fixture(scope="module")
def campaign(run_campaign_here, tmp_path_factory):
    changes = {
        "verification.guided": True,
        "picks.relaxations": 1,
        "picks.low_minima": 1,
        "loop.max_rounds": 1,
    }
    return run_campaign_here(tmp_path_factory.mktemp("guided"), changes)


@pytest.fixture(scope="module")
def calculations(campaign):
    return list(campaign.api.documents(Calculation, load=True))


@pytest.fixture(scope="module")
def guided(calculations):
    return [c for c in calculations if c.guide is not None]


def test_all_relaxations_of_the_high_fidelity_are_guided_and_nothing_else(calculations, guided):
    relaxed = [c for c in calculations if c.fidelity == "gfn2" and c.kind is CalculationKind.RELAX]
    assert {c.job_uuid for c in guided} == {c.job_uuid for c in relaxed}
    assert {"Rattled", "round0"} <= {c.start.split("_")[0] for c in relaxed}


def test_so_are_those_of_verifications(tmp_path):
    for guided in (True, False):
        file = write_campaign(tmp_path, {"verification.guided": guided})
        made = CampaignMaker.from_campaign(load_campaign(file)[0])
        for relax in (made.label.relax, made.rounds.verify.relax):
            assert (relax.guide == made.explore.relax) is guided
            assert relax.guide is None or relax.guide.fidelity == "gfn1"


def test_the_guide_is_the_low_fidelity_at_the_charge_of_the_relaxation(guided):
    assert {c.charge for c in guided} > {0}
    for done in guided:
        assert done.guide.fidelity == "gfn1"
        assert done.guide.engine.settings == {"method": "GFN1-xTB", "charge": done.charge}


def test_their_cheap_calls_are_counted_apart(campaign, calculations, guided):
    calls = sum(c.guide.calls for c in guided)
    (cost,) = [c for c in campaign.results.cost if c.stage == f"{Stage.LOW.value} (guiding)"]
    assert (cost.fidelity, cost.calls, cost.jobs) == ("gfn1", calls, len(guided))
    assert cost.calls > 0
    low, _ = spent(campaign.store, campaign.results.campaign_hash)
    assert low.fidelity == "gfn1"
    assert low.calls == calls + sum(c.n_calls for c in calculations if c.fidelity == "gfn1")


def test_the_methods_paragraph_says_so(campaign):
    told = methods(campaign.results)
    assert "Relaxations at the high fidelity were guided by the low fidelity" in told.paragraph
    assert "gpmin" in told.cited
