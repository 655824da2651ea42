"""What two fidelities have in common, from labels whose relation is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from defect_mf_flows.benchmark.agreement import agreements, write_agreement
from defect_mf_flows.benchmark.pool import Pool, PoolPoint
from defect_mf_flows.benchmark.writing import Page
from defect_mf_flows.schemas.frame import Frame


def pool_of(
    make_frame: Callable[..., Frame], low: list[float], high: list[float], push: float = 0.1
) -> Pool:
    """Relaxation ends of one charge at both fidelities; the high forces are ``push`` larger."""
    flat, pushed = np.zeros((7, 3)), np.full((7, 3), push)
    points = [
        PoolPoint(
            relaxation=f"{k}",
            is_end=True,
            low=make_frame(one, -1, forces=flat.tolist()),
            high=make_frame(other, -1, forces=pushed.tolist()),
        )
        for k, (one, other) in enumerate(zip(low, high, strict=True))
    ]
    return Pool(None, small=points)


def test_a_constant_between_the_fidelities_is_no_disagreement(
    make_frame: Callable[..., Frame],
) -> None:
    (found,) = agreements(pool_of(make_frame, [-5.0, -4.0, -3.0], [-15.0, -14.0, -13.0]))
    assert (found.charge, found.near, found.right, found.pairs) == (-1, 3, 3, 3)
    assert found.difference == pytest.approx(0.0, abs=1e-6)
    assert found.spread == pytest.approx(1000 * np.std([-5.0, -4.0, -3.0]))
    assert found.force == pytest.approx(100.0)


def test_turned_order_and_ties_are_counted(make_frame: Callable[..., Frame]) -> None:
    (found,) = agreements(pool_of(make_frame, [-5.0, -4.0, -3.0], [-5.0, -5.01, -6.0]))
    assert (found.right, found.pairs) == (0, 2)
    assert found.difference > 1000


def test_what_is_far_from_a_minimum_is_not_near_one(
    make_frame: Callable[..., Frame], tmp_path: Path
) -> None:
    pool = pool_of(make_frame, [-5.0, -4.0], [-5.0, -4.0], push=5.0)
    (found,) = agreements(pool)
    assert found.near == 0
    assert np.isnan(found.difference)
    page = Page("fidelity", "", tmp_path, "command")
    write_agreement(page, pool)
    assert "| -1 | 0 | - | - | - | 100 % of 1 |" in page.parts[-1]
