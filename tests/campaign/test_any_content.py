"""Whatever the file holds, it loads or gives an error of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pymatgen.core import Structure

from defect_mf_flows.campaign import Campaign, FidelitySettings, Section, campaign_hash
from defect_mf_flows.errors import CampaignError
from tests.campaign.files import Load, changed, sections

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
