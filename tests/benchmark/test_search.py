"""The benchmark of searches: what it counts, and a whole run at the smallest size."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from defect_mf_flows.benchmark.running import run_search
from defect_mf_flows.benchmark.search import QUICK, Comparison
from defect_mf_flows.benchmark.search_ways import OURS, RANDOM, STAGED, STEPWISE, Trial, Way

PAIRS = [("v_Zn", 0), ("v_Zn", -1)]


@pytest.fixture
def comparison() -> Comparison:
    """Ground states -10.0 and -20.0; the staged search misses the second."""

    def way(name: str, trials: list[list[Trial]], low: float, *, ordered: bool) -> Way:
        return Way(
            name, dict(zip(PAIRS, trials, strict=True)), dict.fromkeys(PAIRS, low), ordered=ordered
        )

    failed = Trial(math.inf, 5)
    ways = [
        way(OURS, [[Trial(-9.995, 6)], [Trial(-20.0, 6)]], 20, ordered=True),
        way(STAGED, [[Trial(-9.0, 10), Trial(-10.0, 10)], [Trial(-19.0, 10)]], 20, ordered=True),
        way(
            STEPWISE,
            [[Trial(-10.0, 40), Trial(-9.0, 40)], [Trial(-20.0, 40), failed]],
            0,
            ordered=False,
        ),
        way(RANDOM, [[failed], [failed]], 0, ordered=False),
    ]
    return Comparison(QUICK, ways, 0.5)


def test_a_ground_state_counts_within_the_tolerance_of_the_lowest_known(
    comparison: Comparison,
) -> None:
    assert [comparison.reached(way) for way in comparison.ways] == [2, 1, 2, 0]
    assert comparison.excess(comparison.ways[0], PAIRS[0]) == pytest.approx(0.005)
    assert comparison.excess(comparison.ways[3], PAIRS[0]) == math.inf


def test_low_calls_count_at_their_price_and_come_first(comparison: Comparison) -> None:
    own, staged, stepwise, random = (comparison.curve(way) for way in comparison.ways)
    assert own == [(16.0, 0.5), (16.0, 1.0)]
    assert staged == [(30.0, 0.5)], "20 low calls at half, then both minima of the first"
    # The right start comes first or second, equally often.
    assert stepwise[0][0] == 40
    assert stepwise[-1] == (80.0, 1.0)
    assert dict(stepwise)[40.0] == pytest.approx(0.5, abs=0.05)
    assert random == []


def test_targets_are_judged_by_the_numbers(comparison: Comparison) -> None:
    found, saved, missed = comparison._targets()
    assert found[1:] == ["100.0", "95.0", "yes"]
    assert saved[1:] == ["90.4", "90.0", "yes"], "12 calls instead of 125"
    assert missed[1:] == ["1.0", "1.0", "yes"]


@pytest.mark.long
@pytest.mark.mongod
def test_a_run_writes_its_page_and_computes_nothing_twice(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    page = run_search(quick=True, out=tmp_path, folder=cache, workers=1)
    text = page.read_text()
    for name in (OURS, STAGED, STEPWISE, RANDOM):
        assert f"| {name} |" in text
    rows = json.loads((tmp_path / "search-quick.json").read_text())["rows"]
    assert len(rows) == 8
    best = {charge: min(r["excess"] for r in rows if r["charge"] == charge) for charge in (0, -1)}
    assert best == {0: 0.0, -1: 0.0}, "somebody knows the lowest minimum"
    assert all(row["high_calls"] > 0 for row in rows)
    files = {path: path.stat().st_mtime_ns for path in (cache / "labels").iterdir()}
    assert run_search(quick=True, out=tmp_path, folder=cache, workers=1).read_text() == text
    assert {path: path.stat().st_mtime_ns for path in (cache / "labels").iterdir()} == files
