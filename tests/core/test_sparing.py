"""A single point far above another of its charge state spares a relaxation."""

from __future__ import annotations

import pytest

from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.core.sparing import (
    LATER,
    LOW_ALONE,
    ask_near,
    fill_places,
    refuted,
    spare,
    weigh,
)
from defect_mf_flows.schemas.defect import Defect
from defect_mf_flows.schemas.search import Candidate, Verdict, Verification


def candidate(vacancy: Defect, energy: float | None, **changes: object) -> Candidate:
    values = {
        "origin": "model",
        "round": 1,
        "rank": 0,
        "start": f"start at {energy}",
        "energy_model": 0.0,
        "energy_single_point": energy,
        "structure": with_charge(vacancy.supercell, -1),
    }
    return Candidate(**{**values, **changes})


def test_candidates_near_the_lowest_single_point_are_relaxed(vacancy: Defect) -> None:
    energies = [-1.0, -2.0, -1.75, -1.65]
    found = spare([candidate(vacancy, e) for e in energies], within=0.3)
    assert [bool(c.spared) for c in found] == [True, False, False, True]
    assert [c.energy_single_point for c in found] == energies
    assert "1.000 eV above that of start at -2.0 (model)" in found[0].spared


def test_the_lowest_is_always_relaxed_and_a_failed_one_never(vacancy: Defect) -> None:
    lonely = spare([candidate(vacancy, 5.0), candidate(vacancy, None)], within=1e-6)
    assert lonely[0].spared == ""
    assert "failed" in lonely[1].spared
    (failed,) = spare([candidate(vacancy, None)], within=1.0)
    assert "failed" in failed.spared


@pytest.mark.parametrize(("known", "spared"), [(-2.0, True), (-1.1, False)])
def test_a_known_minimum_is_compared_with_and_never_spared(
    vacancy: Defect, known: float, spared: bool
) -> None:
    verified = candidate(vacancy, known, known_from="is the minimum of round 1")
    same, other = spare([verified, candidate(vacancy, -1.0)], within=0.5)
    assert same == verified
    assert bool(other.spared) is spared
    higher = candidate(vacancy, 9.0, known_from="is the minimum of round 1")
    assert spare([higher, candidate(vacancy, -1.0)], within=0.5)[0] == higher


@pytest.mark.parametrize(
    ("error", "spared"),
    [(0.1, ""), (-0.1, ""), (0.4, "+0.400 eV"), (-3.0, "-3.000 eV"), (None, "failed")],
)
def test_where_the_model_does_not_know_the_low_fidelity_it_is_not_believed(
    vacancy: Defect, error: float | None, spared: str
) -> None:
    found = weigh(candidate(vacancy, None), low_error=error, limit=0.3)
    assert found.low_error == error
    assert bool(found.spared) is bool(spared)
    assert spared in found.spared


def test_what_the_low_fidelity_refuted_stays_spared_whatever_others_say(vacancy: Defect) -> None:
    off = weigh(candidate(vacancy, None), low_error=2.0, limit=0.3)
    (same, other) = spare([off, candidate(vacancy, -1.0)], within=0.5)
    assert same == off
    assert other.spared == ""


def test_a_charge_state_is_refuted_if_its_predicted_ground_state_is(vacancy: Defect) -> None:
    off = weigh(candidate(vacancy, None), low_error=2.0, limit=0.3)
    for ground, expected in ((0, True), (1, False), (None, False)):
        verification = Verification(
            defect="v_Zn",
            charge=-1,
            round=1,
            verdict=Verdict.WRONG,
            reason="",
            model_ground=ground,
            ground_state=None,
            energy_error=None,
            candidates=[off, candidate(vacancy, -1.0)],
        )
        assert refuted(verification) is expected
        asked = off.model_copy(update={"calculations": ["a failed single point"]})
        changed = verification.model_copy(update={"candidates": [asked, asked]})
        assert not refuted(changed), "the high fidelity was asked and failed"
    ground = candidate(vacancy, None, spared=LOW_ALONE)
    changed = verification.model_copy(update={"candidates": [ground], "model_ground": 0})
    assert not refuted(changed), "the low fidelity had nothing against it"


def test_single_points_of_earlier_rounds_count(vacancy: Defect) -> None:
    earlier = [candidate(vacancy, -2.0), candidate(vacancy, None)]
    near, far = spare([candidate(vacancy, -1.9), candidate(vacancy, -1.5)], earlier, within=0.3)
    assert near.spared == ""
    assert "0.500 eV above that of start at -2.0 (model)" in far.spared


def test_what_earlier_rounds_relaxed_to_counts_as_a_single_point_there(vacancy: Defect) -> None:
    verified = candidate(vacancy, -1.0, energy_relaxed=-2.0, round=1)
    near, far = spare([candidate(vacancy, -1.8), candidate(vacancy, -1.5)], [verified], within=0.3)
    assert near.spared == ""
    assert "0.500 eV above what start at -1.0 (model) relaxed to in round 1" in far.spared
    assert spare([candidate(vacancy, -1.5)], within=0.3)[0].spared == ""


def test_no_more_are_relaxed_than_asked_for_and_those_with_the_lowest_single_points(
    vacancy: Defect,
) -> None:
    energies = [-1.9, -2.0, None, -1.95, 3.0]
    found = spare([candidate(vacancy, e) for e in energies], within=0.3, most=1)
    assert [bool(c.spared) for c in found] == [True, False, True, True, True]
    assert "others of this round have lower single points" in found[0].spared
    assert "failed" in found[2].spared
    assert "5.000 eV above" in found[4].spared
    two = spare([candidate(vacancy, e) for e in energies], within=0.3, most=2)
    assert [bool(c.spared) for c in two] == [True, False, True, False, True]


def test_a_known_minimum_is_relaxed_already_and_others_must_promise_more(vacancy: Defect) -> None:
    known = candidate(vacancy, -2.0, known_from="is the minimum of round 1")
    found = spare([known, candidate(vacancy, -1.9)], within=0.3, most=1)
    assert [c.spared for c in found] == ["", LATER]
    found = spare([known, candidate(vacancy, -2.1)], within=0.3, most=1)
    assert [c.spared for c in found] == ["", ""]
    unasked = candidate(vacancy, None, known_from="is the minimum of round 1", rank=1)
    found = spare([unasked, candidate(vacancy, -1.9)], within=0.3, most=1)
    assert [c.spared for c in found] == ["", ""]


def test_predictions_far_above_the_lowest_are_not_asked_about(vacancy: Defect) -> None:
    energies = [(0.0, 0.0), (0.4, 0.0), (0.4, -0.2), (0.9, 0.3), (0.6, None)]
    found = [
        candidate(vacancy, None, rank=rank, energy_model=energy, low_error=error)
        for rank, (energy, error) in enumerate(energies)
    ]
    asked = ask_near(found, within=0.5)
    assert [c.spared for c in asked[:2]] == ["", ""]
    assert "0.600 eV above its lowest" in asked[2].spared
    assert "0.600 eV above its lowest" in asked[3].spared
    assert "0.600 eV above its lowest" in asked[4].spared


def test_the_lowest_is_one_that_nobody_refused_and_the_ground_state_is_always_asked_about(
    vacancy: Defect,
) -> None:
    hole = candidate(vacancy, None, rank=0, energy_model=-3.0, spared="the model is -3 eV off")
    high = candidate(vacancy, None, rank=1, energy_model=1.0)
    assert ask_near([hole, high], within=0.5) == [hole, high]
    ground = candidate(vacancy, None, rank=0, energy_model=0.0, low_error=-0.3)
    lower = candidate(vacancy, None, rank=1, energy_model=0.1, low_error=0.3)
    assert ask_near([ground, lower], within=0.1) == [ground, lower]


def test_a_known_minimum_counts_as_lowest_and_others_are_left_alone(vacancy: Defect) -> None:
    known = candidate(vacancy, None, rank=1, energy_model=0.0, known_from="is a minimum")
    far = candidate(vacancy, None, rank=2, energy_model=2.0)
    low = candidate(vacancy, None, origin="low", energy_model=9.0)
    again = candidate(vacancy, None, rank=3, energy_model=4.0, known_from="is another")
    found = ask_near([known, far, low, again], within=0.5)
    assert [bool(c.spared) for c in found] == [False, True, False, False]


def predictions(
    vacancy: Defect, energies: list[tuple[float, float]], *, asked: int
) -> list[Candidate]:
    """Weighed minima of the model, those beyond the first ones in reserve."""
    return [
        weigh(
            candidate(vacancy, None, rank=rank, energy_model=energy, reserve=rank >= asked),
            low_error=error,
            limit=0.3,
        )
        for rank, (energy, error) in enumerate(energies)
    ]


def test_what_the_low_fidelity_refuses_leaves_its_place_to_the_next(vacancy: Defect) -> None:
    found = fill_places(
        predictions(vacancy, [(0.0, 1.0), (0.1, -2.0), (0.2, 0.0), (0.3, 0.0), (0.4, 0.0)], asked=2)
    )
    assert [bool(c.spared) for c in found] == [True, True, False, False, True]
    assert "off the low fidelity" in found[0].spared
    assert "its place went to others" in found[4].spared


def test_places_go_by_the_energy_without_the_low_heads_error(vacancy: Defect) -> None:
    """The model puts the second 0.2 eV too low, so that the third lies lower."""
    found = fill_places(predictions(vacancy, [(0.0, 0.0), (0.1, -0.2), (0.2, 0.0)], asked=2))
    assert [bool(c.spared) for c in found] == [False, True, False]
    turned = fill_places(predictions(vacancy, [(0.0, 0.0), (0.1, 0.2), (0.2, 0.0)], asked=2))
    assert [bool(c.spared) for c in turned] == [False, False, True]


def test_the_models_ground_state_keeps_its_place_if_the_low_fidelity_bears_it_out(
    vacancy: Defect,
) -> None:
    found = fill_places(predictions(vacancy, [(0.0, -0.29), (0.1, 0.0)], asked=1))
    assert [bool(c.spared) for c in found] == [False, True]


def test_places_are_for_predictions_alone(vacancy: Defect) -> None:
    known = candidate(vacancy, None, rank=1, known_from="is the minimum of round 1")
    low = candidate(vacancy, None, origin="low")
    label = candidate(vacancy, None, origin="label")
    mine = predictions(vacancy, [(0.0, 0.0)], asked=1)
    assert fill_places([*mine, known, low, label]) == [*mine, known, low, label]
    assert fill_places([]) == []
