"""What every engine's Maker is told when a campaign builds it."""

from __future__ import annotations

from typing import get_args

import pytest

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.schemas.calculation import CalculationKind

ENGINES = get_args(FidelitySettings.model_fields["engine"].annotation)
SETTINGS = {"ase": {"calculator": "ase.calculators.emt.EMT", "charge_keyword": "charge"}}


@pytest.mark.parametrize("reuse", [True, False])
@pytest.mark.parametrize("kind", CalculationKind)
@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_is_told_all_that_the_campaign_says(
    engine: str, kind: CalculationKind, reuse: bool
) -> None:
    settings = FidelitySettings(
        engine=engine, settings=SETTINGS.get(engine, {}), fmax=0.07, steps=11
    )
    maker = reference_maker("level", settings, kind, reuse=reuse)
    assert (maker.fidelity, maker.kind, maker.reuse) == ("level", kind, reuse)
    assert maker.settings == settings
