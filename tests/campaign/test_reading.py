"""Good campaigns are read; files that hold none are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from pymatgen.core import Structure

from defect_mf_flows.campaign import campaign_hash, load_campaign, summary
from defect_mf_flows.errors import CampaignError
from tests.campaign.files import BASE, Load, changed


def test_a_short_campaign_is_enough(load: Load) -> None:
    campaign, structure = load(BASE)
    assert campaign.heads == ["pbe", "hse"]
    assert structure.composition.reduced_formula == "ZnS"


def test_what_the_high_fidelity_relaxes_before_the_first_round_is_said_at_once(load: Load) -> None:
    assert not [line for line in summary(*load(BASE)) if line.startswith("rattled")]
    told = summary(*load(changed("picks.relaxations", 2)))
    assert "rattled     2 per charge state, relaxed with hse before the first round" in told


def test_what_guides_the_relaxations_is_said_at_once(load: Load) -> None:
    assert not [line for line in summary(*load(BASE)) if line.startswith("guided")]
    told = summary(*load(changed("verification.guided", True)))
    assert told[-1] == "guided      relaxations with hse, by pbe"


def test_the_highest_fidelity_is_the_last_head(load: Load) -> None:
    content = changed("roles.extra", ["scan"])
    content["fidelities"]["scan"] = {"engine": "xtb", "settings": {"method": "IPEA1-xTB"}}
    assert load(content)[0].heads == ["pbe", "scan", "hse"]


def test_the_example_that_ships_is_valid(zns_file: Path) -> None:
    campaign, _ = load_campaign(zns_file.parents[1] / "quickstart.yaml")
    assert campaign.defects.charges == {"v_Zn": [0, -1]}


@pytest.mark.parametrize("supercell", ["auto", [1, 1, 2], [[0, 1, 1], [1, 0, 1], [1, 1, 0]]])
def test_supercells_are_auto_repeats_or_a_matrix(load: Load, supercell: Any) -> None:
    assert load(changed("host.supercell", supercell))[0].host.supercell == supercell


@pytest.mark.parametrize("name", ["v_S", "S_Zn", "Zn_S", "Zn_i_Td", "Zn_i_C3v_Zn2.65"])
def test_names_that_doped_gives_are_defect_names(load: Load, name: str) -> None:
    content = changed("defects.include", [name])
    content["defects"]["charges"] = {name: [0]}
    assert load(content)[0].defects.include == [name]


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        ("name: [", "not readable as YAML"),
        ("name: 2020-13-45", "not readable as YAML"),
        ("a: !!python/object:os.system {}", "not readable as YAML"),
        (b"\xff\xfe\x00\xd8", "not readable as YAML"),
        ("", "must be a mapping"),
        ("just words", "must be a mapping"),
        ("[1, 2]", "must be a mapping"),
    ],
)
def test_a_file_that_is_no_campaign_is_refused_by_name(
    load: Load, content: Any, remedy: str
) -> None:
    with pytest.raises(CampaignError, match=rf"campaign\.yaml: {remedy}"):
        load(content)


@pytest.mark.parametrize("name", ["missing.yaml", ".", "x" * 300])
def test_a_missing_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(CampaignError, match="no such campaign file; give the path"):
        load_campaign(tmp_path / name)


def alloyed(content: dict[str, Any], folder: Path, shares: dict[str, float]) -> dict[str, Any]:
    """The campaign on a host whose zinc sites are shared."""
    alloy = Structure.from_file(folder / "ZnS.cif")
    alloy.replace_species({"Zn": shares})
    alloy.to(filename=str(folder / "alloy.cif"))
    content["host"]["structure"] = "alloy.cif"
    return content


def test_an_alloy_needs_to_know_which_supercell_to_fill(load: Load, tmp_path: Path) -> None:
    content = alloyed(changed("host.supercell", "auto"), tmp_path, {"Zn": 0.5, "Cd": 0.5})
    with pytest.raises(CampaignError, match=r"host\.structure: .*host\.supercell which cell"):
        load(content)


def test_a_site_of_an_alloy_that_is_not_full_is_refused(load: Load, tmp_path: Path) -> None:
    content = alloyed(changed("host.supercell", [2, 2, 1]), tmp_path, {"Zn": 0.5, "Cd": 0.25})
    with pytest.raises(CampaignError, match=r"host\.structure: .*is not full"):
        load(content)


def test_an_alloy_becomes_an_ordered_supercell(load: Load, tmp_path: Path) -> None:
    content = alloyed(changed("host.supercell", [2, 2, 1]), tmp_path, {"Zn": 0.75, "Cd": 0.25})
    campaign, structure = load(content)
    assert structure.is_ordered
    assert structure.composition.as_dict() == {"Zn": 12, "Cd": 4, "S": 16}
    assert campaign.host.supercell == [1, 1, 1]
    assert load(content)[1] == structure, "the same seed, the same order"
    assert load({**content, "seed": 2})[1] != structure


def test_given_starts_travel_with_the_campaign(load: Load, tmp_path: Path) -> None:
    cell = Structure.from_file(tmp_path / "ZnS.cif")
    cell.to(filename=str(tmp_path / "mine.cif"))
    campaign, _ = load(changed("starts.given", {"v_Zn": ["mine.cif"]}))
    (text,) = campaign.starts.given["v_Zn"]
    again = Structure.from_str(text, fmt="poscar")
    assert np.allclose(again.frac_coords, cell.frac_coords, atol=1e-9)
    cell.translate_sites([0], [0.01, 0, 0])
    cell.to(filename=str(tmp_path / "mine.cif"))
    other, structure = load(changed("starts.given", {"v_Zn": ["mine.cif"]}))
    assert campaign_hash(other, structure) != campaign_hash(campaign, structure)


def test_a_given_start_that_is_missing_is_refused(load: Load) -> None:
    with pytest.raises(CampaignError, match=r"starts\.given\.v_Zn: .*nowhere\.cif does not exist"):
        load(changed("starts.given", {"v_Zn": ["nowhere.cif"]}))


def test_several_faults_are_told_at_once(load: Load) -> None:
    content = changed("picks.fraction", 2)
    content["training"]["max_epoch"] = 3
    with pytest.raises(CampaignError) as caught:
        load(content)
    assert "picks.fraction" in str(caught.value)
    assert "training.max_epoch" in str(caught.value)


def test_settings_that_a_database_cannot_keep_are_refused(load: Load) -> None:
    """A list that contains itself, and a date: both are legal YAML."""
    for text in ("&x [*x]", "2020-01-01", "!!set {a}"):
        content = yaml.safe_dump(BASE).replace("GFN1-xTB", f"GFN1-xTB\n      accuracy: {text}")
        with pytest.raises(CampaignError, match=r"fidelities\.pbe\.settings: settings must be"):
            load(content)
