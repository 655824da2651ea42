"""The benchmark of searches on a campaign of the user's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from defect_mf_flows.benchmark.search import FULL
from defect_mf_flows.benchmark.search_campaign import campaign_file
from defect_mf_flows.benchmark.search_given import given_search
from defect_mf_flows.benchmark.search_ways import Searches
from defect_mf_flows.campaign import load_campaign
from defect_mf_flows.cli import main
from defect_mf_flows.errors import CampaignError

EXAMPLES = Path(__file__).parents[2] / "examples"
GAP = EXAMPLES / "gap.yaml"


def changed(folder: Path, changes: dict[str, Any]) -> Path:
    """The example with other sections, in a folder of its own."""
    content = yaml.safe_load(GAP.read_text())
    content["host"]["structure"] = str((EXAMPLES / content["host"]["structure"]).resolve())
    for section, fields in changes.items():
        content[section] = {**content.get(section, {}), **fields}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_defects_charges_and_seed_are_those_of_the_campaign() -> None:
    size = given_search(GAP)
    assert (size.subject, size.formula, size.seed) == ("gap", "GaP", 1)
    assert list(size.each()) == [
        *(("v_Ga", charge) for charge in (-2, -1, 0)),
        *(("v_P", charge) for charge in (-1, 0, 1)),
    ]
    assert len(size.defects().host.supercell) == 32
    assert (size.steps, size.n_random, size.top) == (FULL.steps, FULL.n_random, FULL.top)


def test_the_example_has_the_settings_of_the_full_benchmark(tmp_path: Path) -> None:
    given, _ = load_campaign(campaign_file(given_search(GAP), tmp_path / "gap"))
    full, _ = load_campaign(campaign_file(FULL, tmp_path / "zns"))
    for section in ("frames", "picks", "split", "training", "search", "matching"):
        assert getattr(given, section) == getattr(full, section)
    assert given.verification == full.verification
    assert given.loop == full.loop


def test_charge_states_that_the_campaign_leaves_to_doped_are_searched_too(tmp_path: Path) -> None:
    file = changed(tmp_path, {"defects": {"include": ["v_P"], "charges": {}}})
    size = given_search(file)
    charges = [charge for _, charge in size.each()]
    assert {0, 1} < set(charges)
    own, _ = load_campaign(campaign_file(size, tmp_path / "folder"))
    assert own.defects.charges == {"v_P": charges}


def test_what_differs_in_the_file_differs_in_the_campaign_that_runs(tmp_path: Path) -> None:
    changes = {"loop": {"max_rounds": 1}, "starts": {"distortions": [-0.2, 0.0]}}
    size = given_search(changed(tmp_path, changes))
    own, cell = load_campaign(campaign_file(size, tmp_path / "folder"))
    assert own.loop.max_rounds == 1
    assert own.starts.distortions == [-0.2, 0.0]
    assert cell.matches(size.cell)
    assert cell.cart_coords == pytest.approx(size.cell.cart_coords, abs=1e-9), (
        "the searches relax the same starts"
    )


def test_another_seed_makes_other_starts(tmp_path: Path) -> None:
    content = yaml.safe_load(changed(tmp_path, {}).read_text())
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump({**content, "seed": 2}))
    first, second = (
        Searches(given_search(file), tmp_path, None)  # type: ignore[arg-type]  # computes nothing
        for file in (GAP, other)
    )
    one, two = (searches.random_starts(("v_P", 0))[0].structure for searches in (first, second))
    assert abs(one.cart_coords - two.cart_coords).max() > 0.01


@pytest.mark.parametrize(
    ("section", "field", "value"),
    [
        ("defects", "spin", {"v_P": {0: 1}}),
        ("roles", "extra", ["middle"]),
        ("starts", "given", {"v_P": [str(EXAMPLES / "hosts" / "GaP.cif")]}),
    ],
)
def test_what_the_searches_cannot_do_is_refused_by_file_and_field(
    tmp_path: Path, section: str, field: str, value: Any
) -> None:
    third = {"middle": {"engine": "xtb", "settings": {"method": "IPEA1-xTB"}}}
    more = {"fidelities": third} if field == "extra" else {}
    file = changed(tmp_path, {section: {field: value}, **more})
    with pytest.raises(CampaignError, match=rf"mine\.yaml: {section}\.{field}: .*leave it out"):
        given_search(file)


@pytest.mark.parametrize("name", ["full", "quick"])
def test_a_campaign_does_not_share_the_folder_of_the_benchmark_itself(
    tmp_path: Path, name: str
) -> None:
    file = changed(tmp_path, {})
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "name": name}))
    with pytest.raises(CampaignError, match=r"mine\.yaml: name: .*choose another"):
        given_search(file)


def test_a_campaign_file_that_is_missing_is_named() -> None:
    with pytest.raises(CampaignError, match=r"nowhere\.yaml"):
        given_search(Path("nowhere.yaml"))


def test_the_quick_form_and_a_campaign_exclude_each_other(tmp_path: Path) -> None:
    asked = ["benchmark", "search", "--quick", "--campaign", str(GAP), "--pool", str(tmp_path)]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 2
    assert "give one of them" in result.output
    assert not list(tmp_path.iterdir())
