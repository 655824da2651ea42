"""Errors of held-out labels say how far a model can be trusted."""

from __future__ import annotations

import numpy as np
import pytest

from defect_mf_flows.core.trust import trusted_distance
from defect_mf_flows.errors import TrainingError


def test_trust_ends_where_errors_grow_beyond_the_limit() -> None:
    rng = np.random.default_rng(1)
    distances = rng.uniform(0, 10, size=4000)
    errors = rng.normal(scale=0.1 * distances)
    for error in (0.2, 0.5):
        assert trusted_distance(distances, errors, error=error) == pytest.approx(
            10 * error, rel=0.2
        )


def test_a_larger_error_is_trusted_no_less_far() -> None:
    rng = np.random.default_rng(2)
    distances = rng.uniform(0, 5, size=60)
    errors = rng.normal(scale=distances)
    found = [trusted_distance(distances, errors, error=e) for e in (0.1, 0.5, 1, 2, 10)]
    assert found == sorted(found)
    assert found[-1] == distances.max(), "and never beyond what was held out"


def test_a_model_that_is_wrong_everywhere_is_trusted_nowhere() -> None:
    assert trusted_distance([1.0, 2.0, 3.0], [9.0, -9.0, 9.0], error=0.3) == 0.0


def test_without_held_out_labels_nothing_can_be_said() -> None:
    with pytest.raises(TrainingError, match=r"split\.valid"):
        trusted_distance([], [], error=0.3)
