"""Settings of CP2K fidelities: refused or accepted without CP2K."""

from __future__ import annotations

import pytest

from defect_mf_flows.campaign import load_campaign
from defect_mf_flows.campaign.cp2k import Cp2kSettings, check_cp2k, data_folder, entries
from defect_mf_flows.errors import CampaignError
from defect_mf_flows.testing import write_campaign

GOOD = {"functional": "PBE", "cutoff": 300}
BASES = """#  a comment that names Zn
 Zn  DZVP-MOLOPT-SR-GTH DZVP-MOLOPT-SR-GTH-q12
 1
     2.4 -0.1
 S  SZV-MOLOPT-SR-GTH   DZVP-MOLOPT-SR-GTH # both
 Si OTHER
"""
POTENTIALS = " Zn GTH-PBE-q12 GTH-PBE\n S GTH-PBE-q6 GTH-PBE\n"


@pytest.fixture
def data(tmp_path):
    (tmp_path / "BASIS_MOLOPT").write_text(BASES)
    (tmp_path / "GTH_POTENTIALS").write_text(POTENTIALS)
    return tmp_path


def check(data, **changes):
    settings = {k: v for k, v in {**GOOD, **changes}.items() if v is not None}
    return check_cp2k("c.yaml: fidelities.pbe.settings", settings, {"Zn", "S"}, data=data)


def test_a_cp2k_campaign_is_accepted_and_its_typos_are_not(tmp_path, monkeypatch, data):
    monkeypatch.setenv("CP2K_DATA_DIR", str(data))
    changes = {"fidelities.gfn1": {"engine": "cp2k", "settings": dict(GOOD)}}
    campaign, _ = load_campaign(write_campaign(tmp_path, changes))
    assert campaign.fidelities["gfn1"].engine == "cp2k"
    path = write_campaign(tmp_path, {**changes, "fidelities.gfn1.settings.cutof": 400})
    with pytest.raises(CampaignError, match=r"fidelities.gfn1.settings.cutof.*'cutoff'"):
        load_campaign(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"functional": "HSE06"}, ["settings.functional", "PBE"]),
        ({"functional": None}, ["settings.functional", "required"]),
        ({"cutoff": 10}, ["settings.cutoff", "10"]),
        ({"spin": "free"}, ["settings.spin", "low"]),
        ({"encut": 400}, ["settings.encut", "cutoff and rel_cutoff", "Rydberg"]),
        ({"kpoints": [2, 2, 2]}, ["settings.kpoints", "Gamma point"]),
        ({"charge": 1}, ["settings.charge", "defects.charges"]),
        ({"basis": "TZVP"}, ["settings.basis", "no TZVP for S", "SZV-MOLOPT-SR-GTH"]),
        ({"bases": {"Zn": "SZV-MOLOPT-SR-GTH"}}, ["no SZV-MOLOPT-SR-GTH for Zn"]),
        ({"bases": {"Ga": "DZVP-MOLOPT-SR-GTH"}}, ["settings.bases", "holds Ga", "S, Zn"]),
        ({"potentials": {"S": "GTH-PBE-q4"}}, ["settings.potential", "no GTH-PBE-q4 for S"]),
        ({"basis_file": "NONE"}, ["settings.basis_file", "does not exist", "CP2K_DATA_DIR"]),
    ],
)
def test_wrong_settings_are_refused_with_the_field_and_the_remedy(data, changes, words):
    with pytest.raises(CampaignError) as refused:
        check(data, **changes)
    for word in ["c.yaml: fidelities.pbe.settings", *words]:
        assert word in str(refused.value)


def test_single_elements_may_have_a_basis_and_a_potential_of_their_own(data):
    settings = check(data, bases={"S": "SZV-MOLOPT-SR-GTH"}, potentials={"Zn": "GTH-PBE-q12"})
    assert (settings.basis_of("S"), settings.basis_of("Zn")) == (
        "SZV-MOLOPT-SR-GTH",
        "DZVP-MOLOPT-SR-GTH",
    )
    assert settings.potential_of("Zn") == "GTH-PBE-q12"


def test_an_element_is_not_taken_for_another_that_begins_alike():
    assert entries(BASES, "S") == ["SZV-MOLOPT-SR-GTH", "DZVP-MOLOPT-SR-GTH"]
    assert entries(BASES, "Zn")[0] == "DZVP-MOLOPT-SR-GTH"


def test_a_machine_without_cp2k_reads_the_campaign_all_the_same(monkeypatch, tmp_path):
    monkeypatch.setenv("CP2K_DATA_DIR", str(tmp_path / "nowhere"))
    assert data_folder() is None
    settings = {**GOOD, "basis": "LOOKED-UP-LATER"}
    assert isinstance(check_cp2k("c.yaml", settings, {"Zn"}), Cp2kSettings)
