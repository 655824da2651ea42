"""The campaign file: one error that names file, field and remedy, before anything runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jobflow import Maker
from monty.json import MontyDecoder, jsanitize
from pymatgen.core import Structure

from defect_mf_flows.campaign import (
    Campaign,
    FidelitySettings,
    Section,
    campaign_hash,
    campaign_schema,
    load_campaign,
)
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.errors import CampaignError
from defect_mf_flows.schemas.calculation import CalculationKind

BASE: dict[str, Any] = {
    "name": "test",
    "host": {"structure": "ZnS.cif", "supercell": [2, 2, 1]},
    "defects": {"include": ["v_Zn"], "charges": {"v_Zn": [0, -1]}},
    "fidelities": {
        "pbe": {"engine": "xtb", "settings": {"method": "GFN1-xTB"}},
        "hse": {"engine": "xtb", "settings": {"method": "GFN2-xTB"}},
    },
    "roles": {"low": "pbe", "high": "hse"},
    "training": {"r_max": 4.0},
}

REMOVED = object()

Load = Callable[[Any], tuple[Campaign, Structure]]


def changed(path: str, value: Any) -> dict[str, Any]:
    """The base campaign with one value, given by its dotted path, replaced."""
    content = deepcopy(BASE)
    *parents, last = path.split(".")
    target = content
    for key in parents:
        target = target.setdefault(key, {})
    if value is REMOVED:
        del target[last]
    else:
        target[last] = value
    return content


@pytest.fixture
def load(tmp_path: Path, zns_file: Path) -> Load:
    """Write a campaign beside its host and load it."""
    shutil.copy(zns_file, tmp_path / "ZnS.cif")
    path = tmp_path / "campaign.yaml"

    def run(content: Any) -> tuple[Campaign, Structure]:
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return load_campaign(path)

    return run


def sections(kind: type[Section] = Section) -> list[type[Section]]:
    return sorted(kind.__subclasses__(), key=lambda item: item.__name__)


# -- good campaigns --------------------------------------------------------------------


def test_a_short_campaign_is_enough(load: Load) -> None:
    campaign, structure = load(BASE)
    assert campaign.heads == ["pbe", "hse"]
    assert structure.composition.reduced_formula == "ZnS"


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


# -- bad campaigns: what is wrong, the field that is named, the remedy -------------------

XTB = {"engine": "xtb", "settings": {"method": "GFN2-xTB"}}
ASE = {"calculator": "tblite.ase.TBLite", "charge_keyword": "charge"}

WRONG: dict[str, tuple[str, Any, str, str]] = {
    "unknown section": ("trainig", {}, "trainig", "did you mean 'training'"),
    "unknown key": ("training.max_epoch", 3, "training.max_epoch", "did you mean 'max_epochs'"),
    "unknown nested key": (
        "fidelities.pbe.setings",
        {},
        "fidelities.pbe.setings",
        "did you mean 'settings'",
    ),
    "unknown key unlike any": ("roles.zzz", 1, "roles.zzz", "valid keys: low, high, extra"),
    "missing section": ("roles", REMOVED, "roles", "required"),
    "missing key": ("roles.high", REMOVED, "roles.high", "required"),
    "name with a slash": ("name", "a/b", "name", "pattern"),
    "one fidelity": ("fidelities", {"pbe": XTB}, "fidelities", "at least 2"),
    "missing host": ("host.structure", "no.cif", "host.structure", "relative to the file"),
    "host with an impossible name": ("host.structure", "x" * 5000, "host.structure", "exist"),
    "host that is a folder": ("host.structure", ".", "host.structure", "does not exist"),
    "host that is no structure": (
        "host.structure",
        "campaign.yaml",
        "host.structure",
        "not a structure file",
    ),
    "unknown element": ("defects.include", ["v_Xx"], "defects.include", "no element"),
    "element not in the host": ("defects.include", ["Mg_Zn"], "defects.include", "extrinsic"),
    "no defect name": ("defects.include", ["vacancy"], "defects.include", "write v_Zn"),
    "defect name with a tail": ("defects.include", ["v_Znn"], "defects.include", "write v_Zn"),
    "dopant that is no element": ("defects.extrinsic", ["Foo"], "defects.extrinsic", "symbols"),
    "charges of another defect": (
        "defects.charges",
        {"v_S": [0]},
        "defects.charges",
        "add it there",
    ),
    "no charge": ("defects.charges", {"v_Zn": []}, "defects.charges.v_Zn", "at least 1"),
    "repeated charge": ("defects.charges", {"v_Zn": [0, 0]}, "charges.v_Zn", "list each once"),
    "fractional charge": ("defects.charges", {"v_Zn": [0.5]}, "charges.v_Zn.0", "integer"),
    "charge as text": ("defects.charges", {"v_Zn": ["0"]}, "charges.v_Zn.0", "integer"),
    "charge as truth": ("defects.charges", {"v_Zn": [True]}, "charges.v_Zn.0", "integer"),
    "no electrons left": (
        "defects.charges",
        {"v_Zn": [2000]},
        "charges.v_Zn",
        "leaves no electrons",
    ),
    "absurd charge": ("defects.charges", {"v_Zn": [-13]}, "charges.v_Zn", "beyond +-12"),
    "cell smaller than the cutoff": ("training.r_max", 6.0, "host.supercell", "enlarge"),
    "auto cell smaller than the cutoff": (
        "host",
        {"structure": "ZnS.cif", "min_image_distance": 3.5},
        "host.supercell",
        "enlarge",
    ),
    "flat cell": ("host.supercell", [2, 0, 1], "host.supercell", "no volume"),
    "flat matrix": ("host.supercell", [[1, 0, 0]] * 3, "host.supercell", "no volume"),
    "ragged matrix": ("host.supercell", [[1, 0], [0, 1], [1]], "host.supercell", "3 items"),
    "cell that fills the memory": (
        "host.supercell",
        [10**9] * 3,
        "host.supercell",
        "less than or equal to 100",
    ),
    "two like fidelities": ("fidelities.pbe", XTB, "roles", "change the method"),
    "unknown role": ("roles.low", "pbee", "roles: 'pbee'", "did you mean 'pbe'"),
    "one fidelity in two roles": ("roles.low", "hse", "roles", "one part"),
    "fidelity without a role": ("fidelities.scan", XTB, "['scan']", "list them in roles"),
    "negative fraction": ("picks.fraction", -0.1, "picks.fraction", "greater than 0"),
    "large fraction": ("picks.fraction", 1.1, "picks.fraction", "less than 1"),
    "fraction that is no number": ("picks.fraction", float("nan"), "picks.fraction", "finite"),
    "infinite rate": ("training.learning_rate", float("inf"), "learning_rate", "finite"),
    "nothing left to train on": ("split", {"valid": 0.5, "test": 0.45}, "split", "at least 10 %"),
    "unknown engine": ("fidelities.pbe.engine", "vsap", "fidelities.pbe.engine", "'xtb' or 'ase'"),
    "unknown xtb method": (
        "fidelities.pbe.settings",
        {"method": "GFN7"},
        "fidelities.pbe.settings.method",
        "choose GFN1-xTB",
    ),
    "no xtb method": ("fidelities.pbe.settings", {}, "pbe.settings.method", "choose GFN1-xTB"),
    "xtb keyword that tblite ignores": (
        "fidelities.pbe.settings",
        {"method": "GFN1-xTB", "max_iteration": 10},
        "fidelities.pbe.settings",
        "max_iterations",
    ),
    "charge among the settings": (
        "fidelities.pbe.settings",
        {"method": "GFN1-xTB", "charge": 1},
        "fidelities.pbe.settings.charge",
        "defects.charges",
    ),
    "ase without a calculator": (
        "fidelities.pbe",
        {"engine": "ase"},
        "pbe.settings.calculator",
        "dotted path",
    ),
    "ase without a way for the charge": (
        "fidelities.pbe",
        {"engine": "ase", "settings": {"calculator": "tblite.ase.TBLite"}},
        "fidelities.pbe.settings",
        "charge_keyword",
    ),
    "ase with two ways for the charge": (
        "fidelities.pbe",
        {"engine": "ase", "settings": {**ASE, "charge_info": "charge"}},
        "fidelities.pbe.settings",
        "either",
    ),
    "ase with an unknown setting": (
        "fidelities.pbe",
        {"engine": "ase", "settings": {**ASE, "charge_keywrod": "charge"}},
        "fidelities.pbe.settings",
        "known are",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_campaign_gives_one_error_with_file_field_and_remedy(load: Load, case: str) -> None:
    path, value, field, remedy = WRONG[case]
    with pytest.raises(CampaignError) as caught:
        load(changed(path, value))
    message = str(caught.value)
    assert "campaign.yaml" in message
    assert field in message
    assert remedy in message


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


def test_a_host_with_partial_occupancies_must_be_ordered_first(load: Load, tmp_path: Path) -> None:
    alloy = Structure.from_file(tmp_path / "ZnS.cif")
    alloy.replace_species({"Zn": {"Zn": 0.5, "Cd": 0.5}})
    alloy.to(filename=str(tmp_path / "alloy.cif"))
    with pytest.raises(CampaignError, match=r"host\.structure: .*alloy\.cif.*order it first"):
        load(changed("host.structure", "alloy.cif"))


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


# -- whatever the file holds -----------------------------------------------------------

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=8)
    | st.sampled_from(["pbe", "xtb", "ase", "auto", "v_Zn", "S_Zn", "ZnS.cif", "._", "1e400"])
)
KEYS = st.sampled_from(
    sorted({name for kind in [*sections(), Campaign] for name in kind.model_fields})
) | st.text(max_size=4)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)
PATHS = sorted(
    set(Campaign.model_fields)
    | {
        f"{name}.{inner}"
        for name, field in Campaign.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
        for inner in field.annotation.model_fields
    }
    | {f"fidelities.pbe.{inner}" for inner in FidelitySettings.model_fields}
    | {"fidelities.pbe.settings.method", "defects.charges.v_Zn", "defects.spin.v_Zn"}
)


def loaded_or_explained(load: Load, content: Any) -> tuple[Campaign, Structure] | str:
    try:
        return load(content)
    except CampaignError as error:
        return str(error)


@settings(max_examples=150)
@given(path=st.sampled_from(PATHS), value=VALUES)
@example("host.supercell", [[2, 0, 0], [0, 2, 0], [0, 0, 10**30]])
@example("host.supercell", [-2, 1, 1])
@example("host.structure", "a" * 300)
@example("host.min_image_distance", float("inf"))
@example("levels.vbm", float("nan"))
def test_any_value_in_any_place_loads_or_gives_a_campaign_error(
    load: Load, path: str, value: Any
) -> None:
    found = loaded_or_explained(load, changed(path, value))
    if isinstance(found, str):
        assert "campaign.yaml" in found
    else:
        campaign, structure = found
        assert len(campaign_hash(campaign, structure)) == 64
        assert Campaign.from_dict(json.loads(json.dumps(campaign.as_dict()))) == campaign


@settings(max_examples=60)
@given(content=VALUES)
def test_any_mapping_gives_a_campaign_error(load: Load, content: Any) -> None:
    with pytest.raises(CampaignError):
        load(content if not isinstance(content, str | bytes) else [content])


@settings(max_examples=100)
@given(text=st.binary(max_size=60) | st.text("abx:-[]{}&*!|>#'\"\n 019._\t%@", max_size=60))
@example("a: !!timestamp x")
@example("a: !!bool x")
@example("a: 0b_")
@example("&x [*x]")
@example("[" * 3000)
def test_any_text_gives_a_campaign_error(load: Load, text: str | bytes) -> None:
    with pytest.raises(CampaignError):
        load(text)


# -- documentation, identity, serialisation --------------------------------------------


@pytest.mark.parametrize("kind", [*sections()], ids=lambda kind: kind.__name__)
def test_every_section_and_every_field_says_what_it_is(kind: type[Section]) -> None:
    assert kind.__doc__
    is_section = {
        name: isinstance(field.annotation, type) and issubclass(field.annotation, Section)
        for name, field in kind.model_fields.items()
    }
    silent = [
        name
        for name, field in kind.model_fields.items()
        if not (field.description or is_section[name])
    ]
    assert silent == []


def test_the_schema_describes_every_field() -> None:
    schema = campaign_schema()
    described = {*schema["$defs"], "Campaign"}
    assert {kind.__name__ for kind in sections()} <= described
    assert schema["properties"]["fidelities"]["description"]


def test_the_hash_does_not_depend_on_name_disclaimer_or_where_the_host_lies(
    load: Load, tmp_path: Path, zns_file: Path
) -> None:
    expected = campaign_hash(*load(BASE))
    (tmp_path / "deep").mkdir()
    shutil.copy(zns_file, tmp_path / "deep" / "other.cif")
    assert campaign_hash(*load(changed("name", "another"))) == expected
    assert campaign_hash(*load(changed("disclaimer", "text"))) == expected
    assert campaign_hash(*load(changed("host.structure", "deep/other.cif"))) == expected


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", 2),
        ("host.supercell", [2, 2, 2]),
        ("defects.charges", {"v_Zn": [0, 1]}),
        ("defects.spin", {"v_Zn": {0: 2}}),
        ("fidelities.pbe.fmax", 0.01),
        ("fidelities.hse.settings", {"method": "GFN2-xTB", "accuracy": 0.1}),
        ("training.max_epochs", 7),
        ("search.rattles", []),
        ("matching.energy", 0.02),
    ],
    ids=lambda value: str(value),
)
def test_the_hash_changes_with_everything_that_is_computed(
    load: Load, path: str, value: Any
) -> None:
    assert campaign_hash(*load(changed(path, value))) != campaign_hash(*load(BASE))


def test_the_hash_changes_with_the_host(load: Load, tmp_path: Path) -> None:
    expected = campaign_hash(*load(BASE))
    text = (tmp_path / "ZnS.cif").read_text()
    (tmp_path / "ZnS.cif").write_text(text.replace("5.4093", "5.4094"))
    assert campaign_hash(*load(BASE)) != expected


def test_roles_count_in_the_hash_and_the_order_of_keys_does_not(load: Load) -> None:
    expected = campaign_hash(*load(BASE))
    assert campaign_hash(*load(changed("roles", {"low": "hse", "high": "pbe"}))) != expected
    turned = yaml.safe_dump(dict(reversed(BASE.items())), sort_keys=False)
    assert campaign_hash(*load(turned)) == expected


@dataclass
class Holder(Maker):
    """A Maker that carries one section, as every Maker of the package does."""

    section: Section | None = None
    name: str = "holder"

    def make(self) -> None:
        """Nothing to do."""


def stored(maker: Maker) -> Any:
    """What becomes of a Maker in jobflow's database."""
    text = json.dumps(jsanitize(maker.as_dict(), strict=True, enum_values=True))
    return MontyDecoder().process_decoded(json.loads(text))


def all_sections(campaign: Campaign) -> list[Section]:
    nested = [value for _, value in campaign if isinstance(value, Section)]
    return [campaign, *nested, *campaign.fidelities.values()]


def test_sections_survive_jobflows_serialisation_inside_a_maker(load: Load) -> None:
    content = changed("defects.spin", {"v_Zn": {0: 2, -1: 1}})
    content["fidelities"]["pbe"] = {"engine": "ase", "settings": {**ASE, "kwargs": {"a": [1]}}}
    campaign, _ = load(content)
    kinds = set()
    for section in all_sections(campaign):
        back = stored(Holder(section=section))
        assert type(back.section) is type(section)
        assert back.section == section
        kinds.add(type(section))
    assert kinds == set(sections())


@pytest.mark.parametrize("kind", CalculationKind)
def test_a_reference_maker_survives_jobflows_serialisation(
    load: Load, kind: CalculationKind
) -> None:
    campaign, _ = load(BASE)
    maker = reference_maker("pbe", campaign.fidelities["pbe"], kind)
    back = stored(maker)
    assert type(back) is type(maker)
    assert back == maker
    assert isinstance(back.settings, FidelitySettings)
    assert CalculationKind(back.kind) is kind
