"""The GPAW example is a valid campaign file; neither GPAW nor its setups are needed."""

from __future__ import annotations

from pathlib import Path

from defect_mf_flows.campaign import load_campaign

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_an_example_is_a_campaign_of_pbe_and_hse06_that_says_it_is_not_converged():
    campaign, _ = load_campaign(EXAMPLES / "si_vacancy_gpaw.yaml")
    functionals = [campaign.fidelities[head].settings["functional"] for head in campaign.heads]
    assert functionals == ["PBE", "HSE06"]
    assert "no converged defect calculation" in " ".join(campaign.disclaimer.split())
