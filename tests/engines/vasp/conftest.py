"""VASP without VASP: the stand-in, the invented POTCARs, and cells to compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.engines.base import ReferenceMaker
from defect_mf_flows.schemas.calculation import CalculationKind
from defect_mf_flows.testing.vasp import vasp_stand_in


@pytest.fixture
def machine(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A machine with the stand-in; parametrize indirectly with the faults it should have."""
    with vasp_stand_in(tmp_path, DEFECT_MF_STANDIN=getattr(request, "param", "")):
        yield tmp_path


@pytest.fixture
def vasp() -> Callable[..., ReferenceMaker]:
    """A Maker with VASP as the engine."""

    def make(
        functional: str = "PBE",
        kind: CalculationKind = CalculationKind.STATIC,
        *,
        fmax: float = 0.1,
        steps: int = 40,
        **settings: Any,
    ) -> ReferenceMaker:
        settings = {"functional": functional, "encut": 300, "gamma_only": True, **settings}
        fidelity = FidelitySettings(engine="vasp", settings=settings, fmax=fmax, steps=steps)
        return reference_maker(functional.lower(), fidelity, kind)

    return make
