"""Every sampler: as many as asked, from every charge, the same again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defect_mf_flows.campaign import PickSettings
from defect_mf_flows.core.samplers import CHOOSERS, mean_soap, pick, quotas
from defect_mf_flows.core.stratified import Candidate
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.frame import Frame


@pytest.fixture(scope="module")
def candidates(
    make_start: Callable[..., StartStructure], make_frame: Callable[..., Frame]
) -> list[Candidate]:
    """Four relaxations of six steps per charge."""
    found = []
    for charge in (0, -1):
        for relaxation in range(4):
            for step in range(6):
                structure = make_start(charge, 1 + 10 * relaxation + step).structure
                frame = make_frame(
                    -10.0 - step, charge, structure=structure, start=f"r{relaxation}", step=step
                )
                found.append(
                    Candidate(frame=frame, basin=relaxation, progress=step / 5, is_end=step == 5)
                )
    return found


@given(
    sizes=st.dictionaries(st.text("abc", min_size=1), st.integers(1, 50), min_size=1),
    budget=st.integers(0, 200),
)
def test_quotas_spend_the_budget_and_leave_no_group_out(sizes: dict[str, int], budget: int) -> None:
    found = quotas(sizes, budget)
    assert sum(found.values()) == min(max(budget, len(sizes)), sum(sizes.values()))
    assert all(1 <= found[key] <= sizes[key] for key in sizes)


@pytest.mark.parametrize("sampler", sorted(CHOOSERS))
def test_a_sampler_takes_what_was_asked_of_every_charge_and_again_the_same(
    candidates: list[Candidate], sampler: str
) -> None:
    settings = PickSettings(sampler=sampler, fraction=0.25)
    chosen, strata = pick(candidates, settings=settings, seed=3)
    assert len(chosen) == len(set(chosen)) == 12
    assert chosen == sorted(chosen)
    assert strata == {"v_Zn|+0": 6, "v_Zn|-1": 6}
    assert pick(candidates, settings=settings, seed=3) == (chosen, strata)


def test_even_spacing_takes_the_end_first_and_all_relaxations_alike(
    candidates: list[Candidate],
) -> None:
    chosen, _ = pick(candidates, settings=PickSettings(sampler="even", fraction=8 / 48), seed=1)
    assert all(candidates[i].is_end for i in chosen)
    chosen, _ = pick(candidates, settings=PickSettings(sampler="even", fraction=16 / 48), seed=1)
    steps = Counter(candidates[i].progress for i in chosen)
    assert steps == {0.0: 8, 1.0: 8}


@pytest.mark.parametrize("sampler", ["farthest", "direct"])
def test_space_filling_samplers_reach_further_than_chance(
    candidates: list[Candidate], sampler: str
) -> None:
    """Largest distance of any frame to the nearest chosen one, against the mean of chance."""
    vectors = mean_soap([item.frame.structure for item in candidates])

    def hole(chosen: list[int]) -> float:
        gaps = np.linalg.norm(vectors[:, None] - vectors[chosen][None], axis=2)
        return float(gaps.min(axis=1).max())

    ways = {
        name: np.mean(
            [
                hole(pick(candidates, settings=PickSettings(sampler=name, fraction=0.3), seed=s)[0])
                for s in range(6)
            ]
        )
        for name in (sampler, "random")
    }
    assert ways[sampler] < ways["random"]


def test_stratified_is_still_the_default(candidates: list[Candidate]) -> None:
    chosen, strata = pick(candidates, settings=PickSettings(fraction=0.3), seed=1)
    assert all(i in chosen for i, item in enumerate(candidates) if item.is_end)
    assert all("|b" in key for key in strata)
