"""Success@k and residual steps, from what verification made of the model's minima."""

from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure

from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.core.refinement import refine, tried
from defect_mf_flows.schemas.search import Candidate, Verdict, Verification

CELL = with_charge(Structure(Lattice.cubic(5), ["Zn"], [[0, 0, 0]]), 0)


def candidate(
    rank: int, energy: float | None, uuid: str, *, number: int = 1, origin: str = "model"
):
    return Candidate(
        origin=origin, round=number, rank=rank, start="", energy_model=0.0,
        energy_relaxed=energy, structure=CELL, calculations=[uuid],
    )  # fmt: skip


def verification(*candidates: Candidate, number: int = 1) -> Verification:
    return Verification(
        defect="v_Zn", charge=0, round=number, verdict=Verdict.CONFIRMED, reason="",
        model_ground=None, ground_state=None, energy_error=None, candidates=list(candidates),
    )  # fmt: skip


def test_success_grows_with_the_number_of_minima_that_may_hold_the_ground_state() -> None:
    first = verification(candidate(0, -1.0, "a"), candidate(1, -0.5, "b"))
    second = verification(candidate(0, -1.0, "c"), candidate(2, -1.2, "d"))
    third = verification(candidate(0, -1.0, "e"), candidate(0, -3.0, "f", origin="low"))
    close = verification(candidate(0, -1.0, "g"), candidate(1, -1.009, "h"))
    found = refine([first, second, third, close], {})
    assert found is not None
    assert found.n_states == 4
    assert found.success == [0.5, 0.5, 0.75], "a ground state of the low fidelity alone is a miss"
    assert (found.steps, found.n_relaxed) == (None, 0)


def test_success_is_that_of_the_last_search_against_all_that_was_ever_verified() -> None:
    both = verification(
        candidate(0, -1.0, "new", number=2), candidate(0, -2.0, "old", number=1), number=2
    )
    found = refine([both], {})
    assert found is not None
    assert found.success == [0.0]


def test_steps_are_the_median_over_relaxations_of_the_models_minima_in_all_rounds() -> None:
    both = verification(
        candidate(0, -1.0, "new", number=2),
        candidate(0, -2.0, "old", number=1),
        candidate(1, None, "failed", number=1),
        candidate(0, -1.0, "low", origin="low"),
        number=2,
    )
    found = refine([both], {"new": 4, "old": 9, "low": 100})
    assert found is not None
    assert (found.steps, found.n_relaxed) == (6.5, 2)


@pytest.mark.parametrize("verified", [[], [verification(candidate(0, None, "a"))]])
def test_without_a_verified_ground_state_there_is_nothing_to_reach(
    verified: list[Verification],
) -> None:
    assert refine(verified, {}) is None


def test_candidates_are_told_by_round_with_energies_above_the_ground_state() -> None:
    known = candidate(0, -2.0, "single", number=2).model_copy(
        update={
            "calculations": ["single", "old"],
            "known_from": "is the minimum that round 1 relaxed",
            "energy_single_point": -1.9,
        }
    )
    spared = candidate(1, None, "far", number=2).model_copy(
        update={"spared": "its single point lies 1 eV above", "low_error": -0.2}
    )
    old, failed = candidate(0, -1.99, "old"), candidate(0, None, "f")
    found = tried(
        [verification(known, spared, old, failed, number=2)], {"old": 7, "single": 1, "far": 1}
    )
    assert [(t.round, t.outcome) for t in found] == [
        (1, "left its basin"),
        (1, "the relaxation failed"),
        (2, "the ground state"),
        (2, "not relaxed: its single point lies 1 eV above"),
    ]
    assert [t.calls for t in found] == [7, 0, 1, 1], "the shared relaxation counts once"
    assert found[0].energy_relaxed == pytest.approx(0.01)
    assert found[2].energy_single_point == pytest.approx(0.1)
    assert found[0].energy_model == 2.0
    assert found[3].low_error == -0.2


def test_without_a_ground_state_candidates_are_told_without_energies() -> None:
    (found,) = tried([verification(candidate(0, None, "a"))], {"a": 3})
    assert (found.energy_model, found.energy_relaxed, found.calls) == (None, None, 3)


def test_the_ground_state_is_the_candidate_that_was_relaxed_not_one_that_took_it_over() -> None:
    known = candidate(0, -2.0, "old", number=2).model_copy(update={"known_from": "is that of old"})
    found = tried([verification(known, candidate(1, -2.0, "old"), number=2)], {"old": 7})
    assert [(t.round, t.outcome, t.calls) for t in found] == [
        (1, "the ground state", 7),
        (2, "not relaxed: it is that of old", 0),
    ]


def test_minima_that_the_high_fidelity_was_not_asked_about_do_not_count_for_success() -> None:
    refused = candidate(0, None, "").model_copy(update={"calculations": [], "spared": "off"})
    reserve = refused.model_copy(update={"rank": 5})
    found = refine([verification(refused, candidate(1, -1.0, "a"), reserve)], {})
    assert found is not None
    assert found.success == [0.0, 1.0]
