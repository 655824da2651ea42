"""What a training job does beside the training."""

from __future__ import annotations

from typing import Any

import pytest

from defect_mf_flows.errors import ChargeError
from defect_mf_flows.jobs import training
from defect_mf_flows.learning import descriptors


def maps(monkeypatch: pytest.MonkeyPatch, error: Exception) -> dict[str, Any]:
    def failing(*_: object) -> None:
        raise error

    class Trained:
        model_hash = "0" * 64

    monkeypatch.setattr(descriptors, "descriptor_maps", failing)
    return training._maps(Trained(), [], None)  # type: ignore[arg-type]


def test_a_map_that_cannot_be_made_costs_no_training_and_says_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = maps(monkeypatch, ValueError("no such layer"))
    assert found == {"descriptors_missing": "ValueError: no such layer"}


def test_a_wrong_charge_in_the_map_is_an_error_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ChargeError):
        maps(monkeypatch, ChargeError("charge -1, atoms carry 0"))
