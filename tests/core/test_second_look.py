"""A candidate that was left out is relaxed if, by its forces, it may end lower."""

from __future__ import annotations

from typing import Any

import pytest

from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.core.second_look import may_end_lower
from defect_mf_flows.core.sparing import LATER
from defect_mf_flows.schemas.defect import Defect
from defect_mf_flows.schemas.search import Candidate


def candidate(vacancy: Defect, single: float | None, ended: float | None = None, **changes: Any):
    values = {
        "origin": "model",
        "round": 1,
        "rank": 0,
        "start": "",
        "energy_model": 0.0,
        "energy_single_point": single,
        "energy_relaxed": ended,
        "spared": "" if ended is not None else LATER,
        "structure": with_charge(vacancy.supercell, -1),
    }
    return Candidate(**{**values, **changes})


def looked(candidates: dict[str, list], gains: dict[str, list], **earlier: Any):
    found = may_end_lower(
        {(name, -1): mine for name, mine in candidates.items()},
        {(name, -1): mine for name, mine in gains.items()},
        {(name, -1): earlier.get(name, []) for name in candidates},
        within=0.1,
    )
    return {name: places for (name, _), places in found.items()}


def test_forces_decide_between_two_single_points_of_one_height(vacancy: Defect) -> None:
    """The relaxation gained 0.2 eV, twice what springs would have."""
    mine = [candidate(vacancy, -1.0, -1.2), candidate(vacancy, -0.95), candidate(vacancy, -0.95)]
    assert looked({"a": mine}, {"a": [0.1, 0.1, 0.2]}) == {"a": [2]}


def test_a_stiffer_cell_promises_less(vacancy: Defect) -> None:
    stiff = [candidate(vacancy, -1.0, -1.05), candidate(vacancy, -0.95)]
    assert looked({"a": stiff}, {"a": [0.1, 0.1]}) == {}
    assert looked({"a": stiff}, {"a": [0.1, 0.3]}) == {"a": [1]}


def test_what_other_charge_states_gained_counts(vacancy: Defect) -> None:
    mine = [candidate(vacancy, -1.0, -1.05), candidate(vacancy, -0.95)]
    soft = [candidate(vacancy, -3.0, -3.5)]
    assert looked({"a": mine, "b": soft}, {"a": [0.1, 0.1], "b": [0.1]}) == {"a": [1]}


def test_one_relaxation_out_of_many_that_ran_far_does_not_count(vacancy: Defect) -> None:
    mine = [candidate(vacancy, -1.0, -1.05), candidate(vacancy, -0.95)]
    others = {str(k): [candidate(vacancy, 0.0, -0.05)] for k in range(5)}
    far = {"far": [candidate(vacancy, 0.0, -2.0)]}
    gains = {name: [0.1] for name in {**others, **far}}
    assert looked({"a": mine, **others, **far}, {"a": [0.1, 0.1], **gains}) == {}


def test_an_earlier_round_may_have_ended_lower_already(vacancy: Defect) -> None:
    mine = [candidate(vacancy, -1.0, -1.2), candidate(vacancy, -0.95)]
    assert looked({"a": mine}, {"a": [0.1, 0.2]}) == {"a": [1]}
    before = candidate(vacancy, -1.0, -1.4)
    assert looked({"a": mine}, {"a": [0.1, 0.2]}, a=[before]) == {}


def test_the_window_counts_from_the_single_points_of_earlier_rounds_too(vacancy: Defect) -> None:
    mine = [candidate(vacancy, -1.0, -1.2), candidate(vacancy, -0.95)]
    spared = candidate(vacancy, -1.06)
    assert looked({"a": mine}, {"a": [0.1, 0.2]}, a=[spared]) == {}


@pytest.mark.parametrize(
    "other",
    [
        {"single": None},
        {"single": -0.8},
        {"single": -0.95, "spared": "", "known_from": "is the minimum of round 1"},
    ],
    ids=["refused or failed", "too high", "known"],
)
def test_others_are_not_looked_at(vacancy: Defect, other: dict[str, Any]) -> None:
    single = other.pop("single")
    mine = [candidate(vacancy, -1.0, -1.2), candidate(vacancy, single, **other)]
    assert looked({"a": mine}, {"a": [0.1, 9.0]}) == {}


def test_without_forces_or_something_relaxed_nothing_is_promised(vacancy: Defect) -> None:
    mine = [candidate(vacancy, -1.0, -1.2), candidate(vacancy, -0.95)]
    assert looked({"a": mine}, {"a": [0.1, None]}) == {}
    assert looked({"a": mine[1:]}, {"a": [0.3]}) == {}


def test_where_no_relaxation_of_the_round_tells_how_soft_cells_are_all_may_end_lower(
    vacancy: Defect,
) -> None:
    known = candidate(vacancy, -1.0, -1.2, known_from="is the minimum of round 1")
    mine = [known, candidate(vacancy, -0.95), candidate(vacancy, -0.85)]
    assert looked({"a": mine}, {"a": [0.1, 0.01, 0.01]}) == {"a": [1]}, "the last is too high"
