"""Interstitials, substitutions and alloys go the whole way, as vacancies do."""

import shutil
from pathlib import Path

import pytest

from defect_mf_flows.core.charge import charge_of
from defect_mf_flows.report.html import render_report
from defect_mf_flows.schemas.calculation import FailureReason
from defect_mf_flows.schemas.search import Exploration, FateKind, SearchSet

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ENVIRONMENT = "v_Zn_S3Se1"
INTERSTITIAL, SUBSTITUTION = "Zn_i_Td_S2.34", "Mg_Zn"


@pytest.mark.long
def test_an_interstitial_and_a_substitution_are_searched(run_campaign_here, tmp_path):
    changes = {
        "defects.include": [INTERSTITIAL, SUBSTITUTION],
        "defects.interstitials": True,
        "defects.extrinsic": ["Mg"],
        "defects.charges": {INTERSTITIAL: [2], SUBSTITUTION: [0]},
        "search.steps": 20,
    }
    finished = run_campaign_here(tmp_path, changes)
    found = finished.results.ground_states
    assert {(g.defect, g.charge) for g in found} == {(INTERSTITIAL, 2), (SUBSTITUTION, 0)}
    (searches,) = finished.api.documents(SearchSet, load=True)
    names = {INTERSTITIAL: "Zn_i", SUBSTITUTION: "Mg_Zn"}
    for search in searches.searches:
        starts = len(search.points) + len(search.failures)
        assert starts >= 3
        assert not [f for f in search.failures if f.reason is FailureReason.LOST]
        for minimum in search.minima:
            assert charge_of(minimum.structure) == search.charge
            assert minimum.fate is not None
    (exploration,) = finished.api.documents(Exploration, load=True)
    for search in exploration.searches:
        assert search.minima
        assert search.threshold is not None
        for minimum in search.minima:
            assert minimum.fate is not None
            if minimum.fate.kind is FateKind.AT_SITE:
                assert minimum.fate.name == names[search.defect]


@pytest.mark.slow
def test_an_environment_of_an_alloy_is_searched_to_its_report(run_campaign_here, tmp_path):
    shutil.copy(EXAMPLES / "hosts" / "ZnSSe.cif", tmp_path / "alloy.cif")
    changes = {
        "host.structure": "alloy.cif",
        "defects.environments": True,
        "defects.include": [ENVIRONMENT],
        "defects.charges": {ENVIRONMENT: [0]},
        "search.pair_distortions": [-0.5],
    }
    finished = run_campaign_here(tmp_path, changes)
    [ground] = finished.results.ground_states
    assert (ground.defect, ground.charge) == (ENVIRONMENT, 0)
    assert ground.structure.composition.get_el_amt_dict() == {"Zn": 3, "S": 3, "Se": 1}
    (searches,) = finished.api.documents(SearchSet, load=True)
    [search] = searches.searches
    pairs = [p.start for p in search.points if "air" in p.start]
    assert pairs, "pairs of unlike neighbours are where an alloy relaxes"
    assert ENVIRONMENT in render_report(finished.results)
