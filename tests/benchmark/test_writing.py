"""Figures of the benchmarks' pages."""

from __future__ import annotations

from itertools import pairwise

import pytest

from defect_mf_flows.benchmark.metrics import Interval
from defect_mf_flows.benchmark.writing import curves


@pytest.mark.parametrize("shares", [[0.1], [0.1, 0.2], [0.01, 0.02, 0.5]])
def test_intervals_of_one_share_stand_side_by_side(shares: list[float]) -> None:
    points = [(100 * share, Interval(2.0, 1.0, 3.0)) for share in shares]
    names = ("even", "random", "direct")
    (axes,) = curves(dict.fromkeys(names, points), "labels", "error").axes
    places = [list(map(float, container[0].get_xdata())) for container in axes.containers]
    beside = [sorted(arm[k] for arm in places) for k in range(len(shares))]
    assert all(len(set(own)) == len(names) for own in beside)
    assert all(left[-1] < right[0] for left, right in pairwise(beside)), "shares stay apart"
    assert list(axes.get_xticks()) == pytest.approx([100 * share for share in shares])
