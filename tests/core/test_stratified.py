from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defect_mf_flows.campaign import PickSettings
from defect_mf_flows.core.stratified import Candidate, evenly_spaced, pick_stratified
from defect_mf_flows.schemas.frame import Frame

MakeCandidates = Callable[[dict[tuple[int, int], int]], list[Candidate]]


@given(n_frames=st.integers(0, 300), count=st.integers(2, 50))
def test_evenly_spaced_frames_include_both_ends_and_leave_equal_gaps(
    n_frames: int, count: int
) -> None:
    chosen = evenly_spaced(n_frames, count)
    assert len(chosen) == min(n_frames, count)
    assert chosen == sorted(set(chosen))
    if n_frames:
        assert (chosen[0], chosen[-1]) == (0, n_frames - 1)
    gaps = [b - a for a, b in pairwise(chosen)]
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.fixture(scope="module")
def candidates_of(make_frame: Callable[..., Frame]) -> MakeCandidates:
    """Candidates per (charge, basin): one relaxation each, falling in energy to its end."""
    cache: dict[tuple[int, int, int], Frame] = {}

    def frame(charge: int, basin: int, step: int) -> Frame:
        key = (charge, basin, step)
        if key not in cache:
            cache[key] = make_frame(-10.0 + basin - 0.01 * step, charge, step=step)
        return cache[key]

    def make(sizes: dict[tuple[int, int], int]) -> list[Candidate]:
        return [
            Candidate(
                frame=frame(charge, basin, step),
                basin=basin,
                progress=step / max(size - 1, 1),
                is_end=step == size - 1,
            )
            for (charge, basin), size in sizes.items()
            for step in range(size)
        ]

    return make


SIZES = st.dictionaries(
    st.tuples(st.integers(-1, 1), st.integers(0, 2)), st.integers(1, 25), min_size=1, max_size=6
)


@settings(max_examples=40)
@given(sizes=SIZES, fraction=st.floats(0.01, 0.95), seed=st.integers(0, 2**31))
def test_picks_keep_the_budget_and_every_end_point(
    candidates_of: MakeCandidates, sizes: dict, fraction: float, seed: int
) -> None:
    candidates = candidates_of(sizes)
    chosen, strata = pick_stratified(
        candidates, settings=PickSettings(fraction=fraction), seed=seed
    )
    ends = {i for i, item in enumerate(candidates) if item.is_end}
    assert ends <= set(chosen)
    assert len(chosen) == max(len(ends), round(fraction * len(candidates)))
    assert chosen == sorted(set(chosen))
    assert sum(strata.values()) == len(chosen)
    represented = {(candidates[i].frame.charge, candidates[i].basin) for i in chosen}
    assert represented == set(sizes)


@settings(max_examples=20)
@given(sizes=SIZES, seed=st.integers(0, 2**31))
def test_the_same_seed_picks_the_same_frames(
    candidates_of: MakeCandidates, sizes: dict, seed: int
) -> None:
    candidates = candidates_of(sizes)
    options = PickSettings(fraction=0.4)
    first = pick_stratified(candidates, settings=options, seed=seed)
    assert pick_stratified(candidates, settings=options, seed=seed) == first


def test_another_seed_picks_other_frames_from_the_same_strata(
    candidates_of: MakeCandidates,
) -> None:
    candidates = candidates_of({(0, 0): 60, (-1, 0): 60})
    runs = [pick_stratified(candidates, settings=PickSettings(), seed=s) for s in range(5)]
    assert len({tuple(chosen) for chosen, _ in runs}) > 1
    assert all(strata == runs[0][1] for _, strata in runs)


def test_picks_are_spread_over_early_and_late_steps(candidates_of: MakeCandidates) -> None:
    candidates = candidates_of({(0, 0): 60, (-1, 0): 60})
    chosen, _ = pick_stratified(candidates, settings=PickSettings(fraction=0.2), seed=1)
    thirds = Counter(
        (candidates[i].frame.charge, min(int(3 * candidates[i].progress), 2)) for i in chosen
    )
    assert len(thirds) == 6, "every third of every charge's relaxation has a pick"
    assert max(thirds.values()) - min(thirds.values()) <= 1


def test_a_large_basin_does_not_crowd_out_a_small_one(candidates_of: MakeCandidates) -> None:
    candidates = candidates_of({(0, 0): 200, (0, 1): 9})
    chosen, _ = pick_stratified(candidates, settings=PickSettings(fraction=0.1), seed=3)
    basins = Counter(candidates[i].basin for i in chosen)
    assert basins[1] >= 3, "each of its strata gets one before any gets two"
    assert basins[0] > basins[1]


@pytest.mark.parametrize("rich", [-1, 0, 1])
def test_a_charge_of_many_basins_leaves_the_others_their_share(
    candidates_of: MakeCandidates, rich: int
) -> None:
    """More strata than labels: none may go to the charge whose name comes first."""
    poor = [charge for charge in (-1, 0, 1) if charge != rich]
    sizes = {(rich, basin): 30 for basin in range(8)} | {(charge, 0): 240 for charge in poor}
    candidates = candidates_of(sizes)
    for seed in range(3):
        chosen, _ = pick_stratified(candidates, settings=PickSettings(fraction=0.05), seed=seed)
        counts = Counter(candidates[i].frame.charge for i in chosen)
        assert counts == {rich: 12, **dict.fromkeys(poor, 12)}


def test_ends_beyond_a_charges_share_come_off_the_others_alike(
    candidates_of: MakeCandidates,
) -> None:
    sizes = {(0, basin): 8 for basin in range(10)} | {(-1, 0): 80, (1, 0): 80}
    candidates = candidates_of(sizes)
    chosen, _ = pick_stratified(candidates, settings=PickSettings(fraction=0.1), seed=1)
    counts = Counter(candidates[i].frame.charge for i in chosen)
    assert counts == {0: 10, -1: 7, 1: 7}


def test_no_candidates_give_no_picks() -> None:
    assert pick_stratified([], settings=PickSettings(), seed=1) == ([], {})
