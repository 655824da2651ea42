"""The benchmark of searches: what it counts, and a whole run at the smallest size."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
from pymatgen.core import Structure

from defect_mf_flows.benchmark.pool import HIGH, LOW, compute
from defect_mf_flows.benchmark.processes import executor
from defect_mf_flows.benchmark.running import run_search
from defect_mf_flows.benchmark.search import QUICK, Comparison
from defect_mf_flows.benchmark.search_campaign import first_to_reach, in_full, own_way, share
from defect_mf_flows.benchmark.search_ways import (
    OURS,
    RANDOM,
    STAGED,
    STEPWISE,
    Searches,
    Trial,
    Way,
    missed_minima,
)
from defect_mf_flows.campaign import StartSettings
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind, Guide

PAIRS = [("v_Zn", 0), ("v_Zn", -1)]
TINY = replace(QUICK, steps=4, starts=StartSettings(distortions=[-0.3]))


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
    return Comparison(QUICK, ways, 0.5, 3, dict.fromkeys(PAIRS, math.inf))


def test_a_ground_state_counts_within_the_tolerance_of_the_lowest_known(
    comparison: Comparison,
) -> None:
    assert [comparison.reached(way) for way in comparison.ways] == [2, 1, 2, 0]
    assert comparison.excess(comparison.ways[0], PAIRS[0]) == pytest.approx(0.005)
    assert comparison.excess(comparison.ways[3], PAIRS[0]) == math.inf


def test_what_an_earlier_campaign_found_lower_counts_as_the_lowest_known(
    comparison: Comparison,
) -> None:
    lower = {PAIRS[0]: -10.5, PAIRS[1]: math.inf}
    harder = Comparison(QUICK, comparison.ways, 0.5, 3, lower)
    assert [harder.reached(way) for way in harder.ways] == [1, 0, 1, 0]
    assert harder.excess(harder.ways[0], PAIRS[0]) == pytest.approx(0.505)


def test_low_calls_count_at_their_price_and_come_first(comparison: Comparison) -> None:
    own, staged, stepwise, random = (comparison.curve(way, ratio=0.5) for way in comparison.ways)
    assert own == [(16.0, 0.5), (16.0, 1.0)]
    assert staged == [(30.0, 0.5)], "20 low calls at half, then both minima of the first"
    # The right start comes first or second, equally often.
    assert stepwise[0][0] == 40
    assert stepwise[-1] == (80.0, 1.0)
    assert dict(stepwise)[40.0] == pytest.approx(0.5, abs=0.05)
    assert random == []
    assert comparison.curve(comparison.ways[1], ratio=0.0) == [(20.0, 0.5)]


def test_targets_are_judged_by_the_numbers(comparison: Comparison) -> None:
    found, saved, minima, missed = comparison._targets()
    assert found[1:] == ["100.0", "95.0", "yes"]
    assert saved[1:] == ["90.4", "90.0", "yes"], "12 calls instead of 125"
    assert minima[1:] == ["3.0", "1.0", "yes"]
    assert missed[1:] == ["1.0", "1.0", "yes"]
    assert "more than a minimum" in missed[0]


def test_random_starts_displace_every_atom_and_no_two_are_alike(tmp_path: Path) -> None:
    with executor(1) as processes:
        searches = Searches(QUICK, tmp_path, processes)
    for pair in (("v_Zn", 0), ("v_Zn", -1)):
        unperturbed = searches.defects.get(pair[0]).supercell
        starts = [start.structure for start in searches.random_starts(pair)]
        assert len(starts) == QUICK.n_random
        for start in starts:
            moved = [a.distance(b) for a, b in zip(start, unperturbed, strict=True)]
            assert min(moved) > 0.01
            assert max(moved) < 1.5
        places = [start.cart_coords for start in starts]
        assert all(abs(a - b).max() > 0.01 for a, b in combinations(places, 2))


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Searches, list[Calculation]]:
    """The staged search at the smallest size, and its low-fidelity relaxations."""
    folder = tmp_path_factory.mktemp("labels")
    with executor(1) as processes:
        searches = Searches(TINY, folder, processes)
        searches.staged()
    starts = [start for pair in TINY.each() for start in searches.starts(pair)]
    tasks = [searches.task(LOW, start) for start in starts]
    return searches, [compute(task, folder) for task in tasks]


def as_campaign(done: list[Calculation]) -> list[Calculation]:
    """The same calculations under the uuids of other jobs."""
    return [c.model_copy(update={"job_uuid": f"campaign {k}"}) for k, c in enumerate(done)]


ENGINES = {LOW: {"engine": "xtb", "settings": {"method": "GFN1-xTB"}, "fmax": 0.05, "steps": 4}}


def test_the_staged_search_is_the_same_with_relaxations_of_the_campaign(
    computed: tuple[Searches, list[Calculation]], tmp_path: Path
) -> None:
    alone, done = computed
    with executor(1) as processes:
        searches = Searches(TINY, tmp_path, processes)
        assert share(searches, ENGINES, as_campaign(done)) == len(done) > 1
        before = {path.name for path in tmp_path.iterdir()}
        found = searches.staged()
        again = Searches(TINY, alone.labels, processes)
        assert found == again.staged(), "what it found, and what it is charged"
    fidelities = [
        Calculation.model_validate_json(path.read_text()).fidelity
        for path in tmp_path.iterdir()
        if path.name not in before
    ]
    assert set(fidelities) == {HIGH}, "no low-fidelity relaxation was computed"
    assert sum(found.low_calls.values()) == sum(c.n_calls for c in done)


def test_the_price_of_a_low_call_is_measured_side_by_side(
    computed: tuple[Searches, list[Calculation]],
) -> None:
    searches, _ = computed
    assert 0.05 < searches.price(most=1) < 5


@pytest.mark.parametrize("difference", ["fmax", "steps", "spin", "label", "geometry"])
def test_what_differs_is_computed_instead(
    computed: tuple[Searches, list[Calculation]], tmp_path: Path, difference: str
) -> None:
    alone, done = computed
    first, *others = as_campaign(done)
    settings = ENGINES[LOW]
    frames = first.frames[1:]
    changes = {
        "spin": {"spin": 1},
        "label": {"start": "another"},
        "geometry": {"frames": frames, "n_frames": len(frames)},
    }
    if difference in changes:
        first = first.model_copy(update=changes[difference])
    else:
        settings = {**settings, difference: {"fmax": 0.04, "steps": 5}[difference]}
    searches = Searches(TINY, tmp_path, alone.processes)
    count = share(searches, {LOW: settings}, [first, *others])
    assert count == len(list(tmp_path.iterdir())) == (len(others) if difference in changes else 0)


def test_what_an_earlier_campaign_computed_is_charged_in_full(
    computed: tuple[Searches, list[Calculation]], tmp_path: Path
) -> None:
    alone, done = computed
    free = {"n_calls": 0, "reused_from": "earlier"}
    taken = [c.model_copy(update={**free, "calls_saved": c.n_calls}) for c in as_campaign(done)]
    charged = [in_full(c) for c in taken]
    assert [c.n_calls for c in charged] == [c.n_calls for c in done]
    searches = Searches(TINY, tmp_path, alone.processes)
    assert share(searches, ENGINES, charged) == len(done), "the staged search reads them, too"
    assert [in_full(c).n_calls for c in charged] == [c.n_calls for c in done]


def test_what_guided_a_relaxation_is_a_low_fidelity_call_and_charged_in_full(
    computed: tuple[Searches, list[Calculation]],
) -> None:
    searches, done = computed
    high = done[0].model_copy(update={"fidelity": HIGH})
    guide = Guide(fidelity=LOW, engine=high.engine, calls=3, calls_saved=4)
    led = in_full(high.model_copy(update={"guide": guide}))
    assert (led.guide.calls, led.guide.calls_saved) == (7, 0)
    ways = [own_way(TINY, [one], searches.defects.host.supercell) for one in (high, led)]
    pair = (str(high.defect), high.charge)
    assert [way.low_calls[pair] for way in ways] == [0, 7]
    assert [sum(t.calls for t in way.trials[pair]) for way in ways] == [high.n_calls] * 2


def test_only_the_end_of_a_converged_relaxation_scores(
    computed: tuple[Searches, list[Calculation]],
) -> None:
    searches, done = computed
    host = searches.defects.host.supercell
    relaxation = done[0].model_copy(update={"converged": True, "failure": None})
    trial = Trial.of(relaxation, host)
    assert trial.energy == relaxation.frames[-1].energy
    assert trial.end == relaxation.frames[-1].structure
    cut = relaxation.model_copy(update={"converged": False})
    assert Trial.of(cut, host) == Trial(math.inf, cut.n_calls)
    label = relaxation.model_copy(update={"kind": CalculationKind.STATIC})
    assert Trial.of(label, host) == Trial(math.inf, label.n_calls), "a label is no minimum"


def test_each_pair_bears_its_own_calls_and_a_share_of_the_hosts(
    computed: tuple[Searches, list[Calculation]],
) -> None:
    searches, done = computed
    own = [c for c in done if c.charge == -1]
    frames = [f.model_copy(update={"fidelity": HIGH, "content_hash": ""}) for f in own[0].frames]
    high = own[0].model_copy(update={"fidelity": HIGH, "frames": frames, "n_calls": 7})
    host = own[0].model_copy(update={"defect": None, "n_calls": 2})
    way = own_way(TINY, [host, *done, high], searches.defects.host.supercell)
    assert [t.calls for t in way.trials["v_Zn", -1]] == [0, 7]
    assert [t.calls for t in way.trials["v_Zn", 0]] == [0]
    for charge in (0, -1):
        calls = sum(c.n_calls for c in done if c.charge == charge)
        assert way.low_calls["v_Zn", charge] == calls + 1


def test_it_is_told_what_the_relaxations_that_first_reached_a_ground_state_began_from(
    computed: tuple[Searches, list[Calculation]],
) -> None:
    searches, done = computed
    host = searches.defects.host.supercell
    one = done[0].model_copy(update={"converged": True, "failure": None, "fidelity": HIGH})
    energy, pair = Trial.of(one, host).energy, (str(one.defect), one.charge)
    high = [
        one.model_copy(update={"start": start})
        for start in ("round2_low0_Unperturbed", "Rattled_1", "round1_model3_Low_+0_1")
    ]

    def told(order: list[Calculation], lowest: float) -> dict[str, int]:
        return dict(first_to_reach(TINY, order, host, {pair: lowest}))

    assert told(high, energy) == {"low-fidelity minimum": 1}
    assert told(high[1:], energy) == {"rattled start": 1}
    assert told(high[2:], energy - 0.009) == {"minimum of the model": 1}
    assert told(high, energy - 0.02) == {}, "nobody came near"
    assert told([done[0]], energy) == {}, "the low fidelity reaches nothing"


def test_a_minimum_that_the_staged_search_has_at_either_fidelity_is_not_missed(
    computed: tuple[Searches, list[Calculation]],
) -> None:
    searches, _ = computed
    pair = ("v_Zn", 0)
    plain, moved = (searches.starts(pair)[k].structure for k in (0, 1))

    def way(end: Structure, low: list[Structure]) -> Way:
        return Way("", {pair: [Trial(-1.0, 1, end)]}, {}, ordered=True, low_ends={pair: low})

    def missed(own: Way, staged: Way) -> int:
        return missed_minima(searches.defects, pair, own, staged)

    assert missed(way(moved, []), way(plain, [plain])) == 1
    assert missed(way(moved, []), way(moved, [])) == 0
    assert missed(way(moved, []), way(plain, [plain, moved])) == 0


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
    best = {r["charge"] for r in rows if r["excess"] == 0.0}
    assert best == {0, -1}, "somebody knows the lowest minimum"
    assert all(row["high_calls"] > 0 for row in rows)
    low = [row["low_calls"] for row in rows if row["search"] in (OURS, STAGED)]
    assert sorted(low[:2]) == pytest.approx([calls + 0.5 for calls in sorted(low[2:])]), (
        "both are charged for the relaxations that they share, this package for the host too"
    )
    files = {path: path.stat().st_mtime_ns for path in (cache / "labels").iterdir()}
    assert run_search(quick=True, out=tmp_path, folder=cache, workers=1).read_text() == text
    assert {path: path.stat().st_mtime_ns for path in (cache / "labels").iterdir()} == files
