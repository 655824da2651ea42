"""Costs and failures of reference calculations, on every kind of store."""

from __future__ import annotations

import pytest

from defect_mf_flows.results import CampaignResults
from defect_mf_flows.results.spent import spent
from defect_mf_flows.schemas.calculation import Calculation
from tests.results.conftest import HASHES


def test_every_calculation_of_a_campaign_is_counted_once(filled):
    high, low = spent(filled, HASHES["one"])
    assert (high.fidelity, high.calculations) == ("high", 2)
    assert (low.fidelity, low.calculations) == ("low", 4)
    done = list(CampaignResults(filled, campaign_hash=HASHES["one"]).documents(Calculation))
    assert high.calls + low.calls == sum(c.n_calls for c in done)
    assert high.core_seconds + low.core_seconds == pytest.approx(sum(c.seconds for c in done))


def test_calculations_that_failed_are_counted_by_reason_though_their_jobs_are_done(filled):
    high, low = spent(filled, HASHES["two"])
    assert high.failed == {}
    assert low.failed == {"steps_exhausted": 2}


def test_seconds_count_as_often_as_the_job_has_cores(filled):
    once, thrice = (spent(filled, HASHES["one"], cores=lambda _, n=n: n) for n in (1, 3))
    for one, other in zip(once, thrice, strict=True):
        assert other.core_seconds == pytest.approx(3 * one.core_seconds)


def test_another_campaign_has_spent_nothing(filled):
    assert spent(filled, "3" * 64) == ()
