"""Settings of VASP fidelities: refused or accepted without VASP and without POTCARs."""

from __future__ import annotations

import pytest

from defect_mf_flows.campaign import load_campaign
from defect_mf_flows.campaign.vasp import OWNED, VaspSettings, check_vasp
from defect_mf_flows.errors import CampaignError
from defect_mf_flows.testing import write_campaign
from defect_mf_flows.testing.vasp import VASP_CHANGES

GOOD = {"functional": "HSE06", "encut": 400, "kpoints": [2, 2, 2]}


def check(**changes):
    settings = {k: v for k, v in {**GOOD, **changes}.items() if v is not None}
    return check_vasp("c.yaml: fidelities.hse06.settings", settings, {"Zn", "S"})


def test_a_vasp_campaign_is_accepted(tmp_path):
    campaign, _ = load_campaign(write_campaign(tmp_path, VASP_CHANGES))
    assert campaign.fidelities["hse06"].engine == "vasp"
    assert campaign.heads == ["pbe", "hse06"]


def test_a_typo_in_a_campaign_file_names_file_field_and_nearest_key(tmp_path):
    path = write_campaign(tmp_path, {**VASP_CHANGES, "fidelities.pbe.settings.encutt": 400})
    with pytest.raises(
        CampaignError, match=r"campaign.yaml: fidelities.pbe.settings.encutt.*'encut'"
    ):
        load_campaign(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"functional": "PBEsol"}, ["settings.functional", "PBE", "HSE06"]),
        ({"functional": None}, ["settings.functional", "required"]),
        ({"encut": -1}, ["settings.encut"]),
        ({"kpoints": None}, ["exactly one of kpoints, kpoint_density and gamma_only"]),
        ({"gamma_only": True}, ["exactly one"]),
        ({"kpoints": [2, 2]}, ["settings.kpoints"]),
        ({"kpoints": [2, 2, 0]}, ["settings.kpoints"]),
        ({"soc": True}, ["soc", "spin: free"]),
        ({"magmom": {"Zn": 1.0}}, ["magmom", "spin: free"]),
        ({"spin": "free", "spin_guesses": 2}, ["spin_guesses", "spin: low"]),
        ({"potcars": {"Se": "Se"}}, ["settings.potcars", "'Se'", "['S', 'Zn']"]),
        ({"hubbard": {"Zn": {"l": 2, "uu": 4}}}, ["hubbard.Zn.uu", "did you mean 'u'"]),
        ({"dispersion": "D4"}, ["settings.dispersion"]),
        ({"write_potential": ["chgcar"]}, ["write_potential"]),
        ({"incar": {"ALGOO": "All"}}, ["incar.ALGOO", "did you mean 'ALGO'"]),
        ({"incar": {"ALGO": "Fast"}}, ["incar.ALGO", "Fast", "HSE06", "All"]),
        ({"incar": {"algo": "veryfast"}}, ["incar.ALGO", "veryfast"]),
        ({"incar": {"IALGO": 48}}, ["incar.IALGO", "incar.ALGO"]),
        ({"incar": {"LMODELHF": True}}, ["incar.LMODELHF", "settings.functional"]),
        ({"incar": {"AGGAX": 0.5}}, ["incar.AGGAX", "settings.functional"]),
        ({"incar": {"VDW_S8": 0.7}}, ["incar.VDW_S8", "settings.dispersion"]),
        ({"incar": {"LASPH": False}}, ["incar.LASPH", "all fidelities alike"]),
        ({"incar": {"LMONO": True}}, ["incar.LMONO", "corrections"]),
        ({"incar": {"ISMEAR": 1}}, ["incar.ISMEAR", "partly filled"]),
        ({"incar": {"ISMEAR": -5}}, ["incar.ISMEAR", "Gaussian"]),
        ({"incar": {"NKRED": 3}}, ["incar.NKRED", "3 does not divide kpoints [2, 2, 2]"]),
        ({"incar": {"NKREDZ": 2}, "kpoints": [2, 2, 1]}, ["incar.NKREDZ", "does not divide"]),
        ({"incar": {"EVENONLY": True}, "kpoints": [3, 3, 3]}, ["incar.EVENONLY", "2 does not"]),
        (
            {"incar": {"NKRED": 2}, "kpoints": None, "gamma_only": True},
            ["incar.NKRED", "give kpoints"],
        ),
        ({"incar": {"NKRED": 2}, "functional": "PBE"}, ["incar.NKRED", "PBE has not"]),
    ],
)
def test_wrong_settings_are_refused_with_the_field_and_the_remedy(changes, words):
    with pytest.raises(CampaignError) as refused:
        check(**changes)
    assert str(refused.value).startswith("c.yaml: fidelities.hse06.settings")
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize("tag", sorted(OWNED))
def test_tags_that_the_engine_owns_are_refused_with_what_decides_them(tag):
    for spelling in (tag, tag.lower()):
        with pytest.raises(CampaignError, match=rf"{spelling}: decided by "):
            check(incar={spelling: 1})


@pytest.mark.parametrize(
    ("functional", "tags"),
    [
        ("PBE", {"ALGO": "Fast"}),
        ("HSE06", {"ALGO": "Damped", "TIME": 0.4}),
        ("HSE06", {"NKRED": 2}),
        ("HSE06", {"ISMEAR": -1, "SIGMA": 0.02}),
        ("PBE", {"LREAL": "Auto"}),
    ],
)
def test_tags_that_leave_the_method_alone_are_accepted(functional, tags):
    assert check(functional=functional, incar=tags).incar == tags


def test_settings_keep_their_types():
    made = check(incar={"ALGO": "All", "LREAL": False, "NCORE": 4, "TIME": 0.4})
    assert made.incar == {"ALGO": "All", "LREAL": False, "NCORE": 4, "TIME": 0.4}
    assert made == VaspSettings(**GOOD, incar=made.incar)
    assert VaspSettings.from_dict(made.as_dict()) == made
