"""Settings of GPAW fidelities: refused or accepted without GPAW."""

from __future__ import annotations

import pytest

from defect_mf_flows.campaign import load_campaign
from defect_mf_flows.campaign.gpaw import REFUSED, GpawSettings, check_gpaw
from defect_mf_flows.errors import CampaignError
from defect_mf_flows.testing import write_campaign

GOOD = {"functional": "HSE06", "encut": 250, "gamma_only": True}


def changes():
    return {
        "fidelities.gfn1": {"engine": "gpaw", "settings": {**GOOD, "functional": "PBE"}},
        "fidelities.gfn2": {"engine": "gpaw", "settings": {**GOOD}},
    }


def check(**changes):
    settings = {k: v for k, v in {**GOOD, **changes}.items() if v is not None}
    return check_gpaw("c.yaml: fidelities.hse06.settings", settings, {"Zn", "S"})


def test_a_gpaw_campaign_is_accepted(tmp_path):
    campaign, _ = load_campaign(write_campaign(tmp_path, changes()))
    assert campaign.fidelities["gfn2"].engine == "gpaw"


def test_a_typo_in_a_campaign_file_names_file_field_and_nearest_key(tmp_path):
    path = write_campaign(tmp_path, {**changes(), "fidelities.gfn2.settings.encutt": 400})
    with pytest.raises(CampaignError, match=r"fidelities.gfn2.settings.encutt.*'encut'"):
        load_campaign(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"functional": "PBE0"}, ["settings.functional", "PBE", "HSE06"]),
        ({"functional": None}, ["settings.functional", "required"]),
        ({"encut": None}, ["settings.encut", "required"]),
        ({"encut": 20}, ["settings.encut", "20"]),
        ({"gamma_only": None}, ["exactly one of kpoints and gamma_only"]),
        ({"kpoints": [2, 2, 2]}, ["exactly one of kpoints and gamma_only"]),
        ({"gamma_only": None, "kpoints": [2, 0, 2]}, ["settings.kpoints"]),
        ({"spin": "high"}, ["settings.spin", "low"]),
        ({"smearing": 0}, ["settings.smearing"]),
        ({"mixer": {"betta": 0.1}}, ["mixer.betta", "did you mean 'beta'"]),
        ({"dispersion": "D3"}, ["settings.dispersion", "no D3", "hybrid"]),
        ({"charge": 1}, ["settings.charge", "defects.charges"]),
    ],
)
def test_wrong_settings_are_refused_with_the_field_and_the_remedy(changes, words):
    with pytest.raises(CampaignError) as refused:
        check(**changes)
    for word in ["c.yaml: fidelities.hse06.settings", *words]:
        assert word in str(refused.value)


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_what_is_decided_elsewhere_is_refused_with_what_decides_it(key):
    with pytest.raises(CampaignError, match=rf"settings.{key}: .*leave it out"):
        check(**{key: 1})


def test_defaults_are_those_that_converged():
    settings = check()
    assert (settings.mixer.beta, settings.mixer.history, settings.mixer.weight) == (0.25, 6, 1.0)
    assert GpawSettings.model_validate(settings.model_dump(mode="json")) == settings


def test_an_element_without_setup_is_refused_where_setups_are_installed():
    pytest.importorskip("gpaw_data", reason="SKIPPED: gpaw-data is not installed (extra 'gpaw')")
    with pytest.raises(CampaignError, match=r"no PBE setup of \['Pu'\]"):
        check_gpaw("c.yaml", GOOD, {"Si", "Pu"})
