"""Sections document themselves and survive a database."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from jobflow import Maker
from monty.json import MontyDecoder, jsanitize

from defect_mf_flows.campaign import (
    Campaign,
    FidelitySettings,
    FilterSettings,
    LearningSettings,
    Section,
    campaign_schema,
)
from defect_mf_flows.campaign.cp2k import Cp2kSettings
from defect_mf_flows.campaign.gpaw import GpawMixer, GpawSettings
from defect_mf_flows.campaign.vasp import Hubbard, VaspSettings
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.errors import CampaignError
from defect_mf_flows.schemas.calculation import CalculationKind
from tests.campaign.files import ASE, BASE, Load, changed, sections

#: What stands under fidelities.NAME.settings; the campaign keeps it as a plain mapping.
OF_ENGINES = {VaspSettings, Hubbard, GpawSettings, GpawMixer, Cp2kSettings}
#: What no campaign file holds under its own name.
APART = {FilterSettings, LearningSettings}


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
    assert {kind.__name__ for kind in sections()} - {
        k.__name__ for k in OF_ENGINES | APART
    } <= described
    assert schema["properties"]["fidelities"]["description"]


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
    assert kinds == set(sections()) - OF_ENGINES - APART


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


def test_a_share_of_high_labels_needs_a_strategy_that_mixes_fidelities(load: Load) -> None:
    """Any other would leave the setting without effect, and without a word."""
    content = changed("training.high_share", 0.5)
    assert load(content)[0].training.high_share == 0.5
    content["training"]["strategy"] = "transfer"
    with pytest.raises(CampaignError, match="high_share mixes fidelities in an epoch"):
        load(content)
    content["training"] = {**content["training"], "high_share": None, "high_prior": 0.1}
    with pytest.raises(CampaignError, match="high_prior mixes fidelities in an epoch"):
        load(content)
