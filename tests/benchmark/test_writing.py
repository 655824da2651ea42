"""Figures of the benchmarks' pages."""

from __future__ import annotations

from itertools import pairwise

import pytest

from defect_mf_flows.benchmark.metrics import Interval
from defect_mf_flows.benchmark.writing import curves, intervals, staircases


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


def test_every_arm_has_a_mark_with_its_interval_on_an_axis_of_plain_numbers() -> None:
    values = {"none": Interval(460.0, 440.0, 470.0), "per_charge": Interval(700.0, 400.0, 1300.0)}
    (axes,) = intervals(values, "error").axes
    (container,) = axes.containers
    assert list(container[0].get_xdata()) == [460.0, 700.0]
    ((low, high),) = [segment[:, 0] for segment in container[2][0].get_segments()[1:]]
    assert (low, high) == pytest.approx((400.0, 1300.0))
    assert [tick.get_text() for tick in axes.get_yticklabels()] == list(values)
    assert axes.yaxis_inverted(), "the first arm stands on top"
    assert axes.get_xscale() == "log"
    shown = axes.xaxis.get_major_formatter().format_ticks(axes.get_xticks())
    assert {"500", "1000"} <= set(shown)


def test_an_arm_without_a_number_has_no_mark_and_zero_keeps_the_axis_linear() -> None:
    values = {"none": Interval(float("nan"), 0.0, 0.0), "per_charge": Interval(7.0, 0.0, 13.0)}
    (axes,) = intervals(values, "error").axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["per_charge"]
    assert axes.get_xscale() == "linear"


@pytest.mark.parametrize(("scale", "start"), [("linear", 0.0), ("log", 1.0)])
def test_a_stair_rises_where_its_arm_does(scale: str, start: float) -> None:
    lines = {"a": [(start, 0.0), (5.0, 0.5), (9.0, 1.0)], "b": [(7.0, 1.0)]}
    (axes,) = staircases({"calls": lines}, "share", scale=scale).axes
    assert axes.get_xscale() == scale
    shown = axes.xaxis.get_major_formatter().format_ticks(axes.get_xticks())
    assert "5" in shown or scale == "linear"
    stair, mark = axes.get_lines()
    assert list(stair.get_xdata()) == [start, 5.0, 9.0]
    assert stair.get_drawstyle() == "steps-post"
    assert (stair.get_marker(), mark.get_marker()) == ("None", "o")
    assert axes.get_ylim()[0] == 0


def test_stairs_of_two_panels_stand_side_by_side_with_one_legend() -> None:
    lines = {"a": [(1.0, 0.0), (5.0, 0.5)], "b" * 99: [(7.0, 1.0)]}
    figure = staircases({"calls": lines, "hours": lines}, "share", scale="log")
    left, right = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == ["calls", "hours"]
    assert (left.get_ylabel(), right.get_ylabel()) == ("share", "")
    assert left.get_ylim() == right.get_ylim()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b" * 99]
