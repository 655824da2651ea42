"""The GPAW examples are valid campaign files; neither GPAW nor its setups are needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from defect_mf_flows.campaign import load_campaign

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.parametrize("name", ["si_vacancy_gpaw", "sb2se3_v_se_gpaw"])
def test_an_example_is_a_campaign_of_pbe_and_hse06_that_says_it_is_not_converged(name):
    campaign, _ = load_campaign(EXAMPLES / f"{name}.yaml")
    functionals = [campaign.fidelities[head].settings["functional"] for head in campaign.heads]
    assert functionals == ["PBE", "HSE06"]
    assert "no converged defect calculation" in " ".join(campaign.disclaimer.split())
