"""Names that users give become folders, queries and keys of documents, and nothing else."""

from __future__ import annotations

import string
from pathlib import Path

import bson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from defect_mf_flows.campaign import Campaign
from defect_mf_flows.errors import CampaignError
from defect_mf_flows.local.campaign import campaign_folder
from tests.campaign.files import BASE, XTB, Load, changed

EVIL = [
    "",
    "/",
    "..",
    ".",
    "../x",
    "/etc",
    "a/b",
    "a\\b",
    "$where",
    "{$ne: 1}",
    "a\0b",
    "a\n",
    " a",
    "-rf",
    "~",
    "%2e%2e",
    "<b>",
    "\ud800",
    "é",
    "x" * 5000,
    {"$ne": None},
    ["a"],
    1,
    None,
]
TEXT = st.text(max_size=12) | st.text("./\\$~-\0\n ab", max_size=8) | st.sampled_from(EVIL)
SAFE = set(string.ascii_letters + string.digits + "_.-+")


def is_plain(name: object) -> bool:
    return isinstance(name, str) and 0 < len(name) <= 100 and set(name) <= SAFE


@settings(max_examples=100)
@given(name=TEXT)
@example("x" * 100)
@example("x" * 101)
@example("a..b")
def test_a_campaign_name_is_one_folder(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: object
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        campaign, _ = load(changed("name", name))
    except CampaignError as error:
        found = str(error)
        assert "campaign.yaml" in found
        assert "name" in found
        return
    assert is_plain(campaign.name)
    folder = campaign_folder(tmp_path / "campaign.yaml", None)
    assert folder.parent == tmp_path / "campaigns"
    folder.mkdir(parents=True, exist_ok=True)


@settings(max_examples=100)
@given(name=TEXT)
@example("hse.25")
@example("PBE+U")
def test_a_fidelity_name_is_a_key_and_no_path_in_a_document(load: Load, name: object) -> None:
    hashable = name if isinstance(name, str | int | None) else str(name)
    content = changed("fidelities", {"pbe": BASE["fidelities"]["pbe"], hashable: XTB})
    content["roles"]["high"] = hashable
    try:
        campaign, _ = load(content)
    except CampaignError:
        return
    high = campaign.roles.high
    assert is_plain(high)
    assert "." not in high
    document = campaign.as_dict()
    assert bson.decode(bson.encode(document)) == document


@pytest.mark.parametrize("name", [n for n in EVIL if isinstance(n, str)])
@pytest.mark.parametrize("field", ["include", "charges", "spin"])
def test_evil_defect_names_are_refused(load: Load, field: str, name: str) -> None:
    value = {"include": [name], "charges": {name: [0]}, "spin": {name: {0: 1}}}[field]
    with pytest.raises(CampaignError, match="defects"):
        load(changed(f"defects.{field}", value))


@pytest.mark.parametrize("name", ["v_Zn\n", "v_Zn/..", "v_Zn_" + "a" * 200, "v_Zn_é", "v_Zn$"])
def test_a_defect_name_has_nothing_after_its_end(load: Load, name: str) -> None:
    with pytest.raises(CampaignError, match=r"defects\.include"):
        load(changed("defects.include", [name]))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("disclaimer", "a\0b"),
        ("disclaimer", "half \ud83d"),
        ("seed", 2**40),
        ("seed", 10**30),
        ("fidelities.pbe.settings.max_iterations", 10**30),
        ("fidelities.pbe.settings.solvation", ["a", {"b": "\0"}]),
        ("fidelities.pbe.settings.solvation", {"\0": 1}),
    ],
)
def test_what_no_database_can_hold_is_refused_by_its_field(
    load: Load, field: str, value: object
) -> None:
    with pytest.raises(CampaignError) as caught:
        load(changed(field, value))
    assert field in str(caught.value)


def test_a_part_that_contains_itself_is_refused(load: Load) -> None:
    with pytest.raises(CampaignError):
        load("name: x\nhost: &a {structure: *a}\n")


def test_names_that_people_use_are_names(load: Load) -> None:
    for name in ("zns-quickstart", "CdTe_v2.1", "a"):
        campaign, _ = load(changed("name", name))
        assert isinstance(campaign, Campaign)
