"""A row is measured once, and again when something that decides on it has changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from defect_mf_flows.benchmark import measured
from defect_mf_flows.benchmark.measured import remembered, sources
from defect_mf_flows.benchmark.sizes import FULL, Arm


@dataclass
class Count:
    calls: int = 0


COUNT = Count()


def measure(arm: Arm, *, job: Any, truth: dict[int, float] | None = None) -> dict[str, Any]:
    COUNT.calls += 1
    return {"arm": arm.name, "near": np.float64(1.5), "by": {"-1": (1, 2)}}


@pytest.fixture
def job(tmp_path: Path) -> Any:
    COUNT.calls = 0
    return SimpleNamespace(scratch=tmp_path, size=FULL, pool=SimpleNamespace(content="labels"))


def test_a_row_is_the_same_when_it_is_read_back(job: Any) -> None:
    first = remembered(Arm("none", 1), measure=measure, job=job)
    assert first == remembered(Arm("none", 1), measure=measure, job=job)
    assert first == {"arm": "none", "near": 1.5, "by": {"-1": [1, 2]}}
    assert COUNT.calls == 1


@pytest.mark.parametrize("change", ["arm", "labels", "settings", "truth", "sources"])
def test_whatever_decides_on_it_makes_it_another_row(
    job: Any, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    given = partial(measure, truth={0: -1.0, -1: -2.0})
    remembered(Arm("none", 1), measure=given, job=job)
    arm = Arm("none", 2 if change == "arm" else 1)
    if change == "labels":
        job.pool = SimpleNamespace(content="other labels")
    elif change == "settings":
        training = FULL.training.model_copy(update={"max_epochs": 7})
        job.size = replace(FULL, training=training)
    elif change == "truth":
        given = partial(measure, truth={0: -1.0, -1: -2.1})
    elif change == "sources":
        monkeypatch.setattr(measured, "sources", lambda: "another version")
    remembered(arm, measure=given, job=job)
    assert COUNT.calls == 2


def test_an_interrupted_measurement_leaves_no_row(job: Any) -> None:
    def fails(arm: Arm, *, job: Any) -> dict[str, Any]:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        remembered(Arm("none", 1), measure=fails, job=job)
    assert not list((job.scratch / "measured").glob("*.json"))


def test_the_sources_are_those_of_this_package() -> None:
    assert sources() == sources()
    assert len(sources()) == 64
