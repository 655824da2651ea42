from __future__ import annotations

from typing import Any

import pytest

from defect_mf_flows.campaign import LoopSettings, VerifySettings
from defect_mf_flows.core.verdicts import (
    in_own_basin,
    judge,
    lower_unrelaxed,
    lowest,
    model_error,
    own_basin_energy,
    stop_verdict,
)
from defect_mf_flows.schemas.defect import Defect
from defect_mf_flows.schemas.loop import RoundSummary, StopVerdict
from defect_mf_flows.schemas.search import Candidate, Deviation, Verdict

SETTINGS = VerifySettings(
    max_local_rmsd=0.1,
    max_displacement=0.3,
    basin_displacement=0.6,
    energy_tolerance=0.02,
    max_energy_error=0.05,
)


def moved(local: float = 0.01, largest: float = 0.02) -> Deviation:
    return Deviation(rmsd=local, local_rmsd=local, max_displacement=largest)


@pytest.fixture
def candidate(vacancy: Defect) -> Any:
    def make(energy: float | None = -10.0, origin: str = "model", **changes: Any) -> Candidate:
        values = {
            "origin": origin,
            "round": 1,
            "rank": 0,
            "start": f"{origin} start",
            "energy_model": -10.0,
            "energy_single_point": -10.0,
            "energy_relaxed": energy,
            "deviation": moved(),
            "structure": vacancy.supercell,
        }
        return Candidate(**{**values, **changes})

    return make


def verdict(candidates: list[Candidate], settings: VerifySettings = SETTINGS) -> Verdict:
    return judge(candidates, 0, settings=settings)[0]


# -- judge -----------------------------------------------------------------------------


def test_a_ground_state_that_stays_and_equals_the_low_one_is_confirmed(candidate: Any) -> None:
    found, reason = judge([candidate(), candidate(origin="low")], 0, settings=SETTINGS)
    assert found is Verdict.CONFIRMED
    assert "equals" in reason


def test_a_ground_state_without_a_low_one_to_compare_is_confirmed(candidate: Any) -> None:
    found, reason = judge([candidate()], 0, settings=SETTINGS)
    assert found is Verdict.CONFIRMED
    assert "no ground state" in reason


def test_a_lower_geometry_that_could_not_be_relaxed_overrules_a_ground_state(
    candidate: Any,
) -> None:
    """Its single point is high fidelity's word that the ground state is another."""
    failed = candidate(None, origin="low", energy_single_point=-10.5)
    found, reason = judge([candidate(), failed], 0, settings=SETTINGS)
    assert found is Verdict.WRONG
    assert reason.startswith("low start (low) lies 0.500 eV lower")
    assert "not been relaxed to an end" in reason


def test_lower_unrelaxed_is_the_lowest_of_those_without_a_relaxation(candidate: Any) -> None:
    relaxed = candidate(-10.0, energy_single_point=-9.0)
    failed = [candidate(None, energy_single_point=e) for e in (-10.3, -10.6, -9.5, None)]
    assert lower_unrelaxed([relaxed, *failed], tolerance=0.02) is failed[1]
    assert lower_unrelaxed([relaxed, failed[2], failed[3]], tolerance=0.02) is None
    near = candidate(None, energy_single_point=-10.01)
    assert lower_unrelaxed([relaxed, near], tolerance=0.02) is None
    assert lower_unrelaxed(failed, tolerance=0.02) is None, "nothing was relaxed"


@pytest.mark.parametrize("missing", ["energy_relaxed", "deviation"])
def test_a_failed_relaxation_is_wrong(candidate: Any, missing: str) -> None:
    found, reason = judge([candidate(**{missing: None})], 0, settings=SETTINGS)
    assert found is Verdict.WRONG
    assert "failed" in reason


@pytest.mark.parametrize(
    ("local", "largest", "expected"),
    [
        (0.10, 0.30, Verdict.CONFIRMED),
        (0.101, 0.20, Verdict.WRONG),
        (0.05, 0.301, Verdict.WRONG),
    ],
)
def test_a_ground_state_that_high_fidelity_moves_too_far_is_wrong(
    candidate: Any, local: float, largest: float, expected: Verdict
) -> None:
    assert verdict([candidate(deviation=moved(local, largest))]) is expected


@pytest.mark.parametrize(
    ("other", "expected"),
    [(-10.019, Verdict.CONFIRMED), (-10.021, Verdict.WRONG), (-9.0, Verdict.CONFIRMED)],
)
def test_another_candidate_below_the_ground_state_makes_it_wrong(
    candidate: Any, other: float, expected: Verdict
) -> None:
    assert verdict([candidate(-10.0), candidate(other, rank=1)]) is expected


def test_the_reason_names_the_better_candidate_and_the_gap(candidate: Any) -> None:
    _, reason = judge([candidate(), candidate(-10.5, origin="low")], 0, settings=SETTINGS)
    assert "low start (low) lies 0.500 eV lower" in reason


@pytest.mark.parametrize("sign", [+1, -1])
@pytest.mark.parametrize(("error", "expected"), [(0.049, "confirmed"), (0.051, "wrong")])
def test_a_model_energy_that_is_too_far_off_is_wrong(
    candidate: Any, sign: int, error: float, expected: str
) -> None:
    state = candidate(energy_model=-10.0 + sign * error)
    assert verdict([state]) == expected
    lenient = SETTINGS.model_copy(update={"max_energy_error": None})
    assert verdict([state], lenient) is Verdict.CONFIRMED, "null switches the limit off"


def test_a_ground_state_below_the_low_one_in_its_own_basin_is_lower(candidate: Any) -> None:
    low = candidate(-9.9, origin="low")
    found, reason = judge([candidate(), low], 0, settings=SETTINGS)
    assert found is Verdict.LOWER
    assert "0.100 eV below" in reason
    assert "stays" in reason


def test_a_low_state_that_leaves_its_basin_is_compared_where_it_was(candidate: Any) -> None:
    """Its relaxed energy belongs to another basin, the model's own perhaps."""
    low = candidate(-10.0, origin="low", energy_single_point=-9.5, deviation=moved(0.3, 0.61))
    found, reason = judge([candidate(), low], 0, settings=SETTINGS)
    assert found is Verdict.LOWER
    assert "0.500 eV below" in reason
    assert "does not survive" in reason
    stays = low.model_copy(update={"deviation": moved(0.3, 0.59)})
    assert verdict([candidate(), stays]) is Verdict.CONFIRMED


def test_a_low_state_without_any_energy_cannot_be_beaten(candidate: Any) -> None:
    low = candidate(None, origin="low", energy_single_point=None, deviation=None)
    assert verdict([candidate(), low]) is Verdict.CONFIRMED


def test_gains_within_the_tolerance_do_not_count_as_lower(candidate: Any) -> None:
    assert verdict([candidate(), candidate(-9.981, origin="low")]) is Verdict.CONFIRMED
    assert verdict([candidate(), candidate(-9.979, origin="low")]) is Verdict.LOWER


def test_the_lowest_is_sought_among_those_that_ended(candidate: Any) -> None:
    assert lowest([candidate(None), candidate(-9.0), candidate(-11.0), candidate(0.0)]) == 2
    assert lowest([candidate(None)]) is None
    assert lowest([candidate(0.5), candidate(0.0)]) == 1, "an energy of zero is an energy"


def test_basin_energies_and_model_errors_by_hand(candidate: Any) -> None:
    stays = candidate(-11.0, energy_single_point=-10.4, energy_model=-10.1)
    leaves = stays.model_copy(update={"deviation": moved(0.4, 0.7)})
    assert in_own_basin(stays, SETTINGS)
    assert not in_own_basin(leaves, SETTINGS)
    assert own_basin_energy(stays, SETTINGS) == -11.0
    assert own_basin_energy(leaves, SETTINGS) == -10.4
    assert model_error(stays) == pytest.approx(0.3)
    assert model_error(candidate(energy_single_point=None)) is None


# -- stop ------------------------------------------------------------------------------


def round_(
    number: int,
    verdict: Verdict = Verdict.WRONG,
    *,
    energy: float = -10.0,
    errors: dict[str, float] | None = None,
    other: Verdict = Verdict.CONFIRMED,
) -> RoundSummary:
    return RoundSummary(
        round=number,
        model="m",
        dataset="d",
        searches="s",
        verifications="v",
        verdicts={"v_Zn|+0": verdict, "v_Zn|-1": other},
        ground_energies={"v_Zn|+0": energy, "v_Zn|-1": -20.0},
        energy_errors={"v_Zn|+0": 0.1} if errors is None else errors,
        new_labels=8,
    )


def stop(
    rounds: list[RoundSummary], calls: int = 100, **settings: Any
) -> tuple[StopVerdict | None, str]:
    options = LoopSettings(**{"max_rounds": 5, **settings})
    return stop_verdict(rounds, high_calls=calls, settings=options, tolerance=0.02)


@pytest.mark.parametrize("good", [Verdict.CONFIRMED, Verdict.LOWER])
def test_the_loop_ends_when_every_verdict_holds(good: Verdict) -> None:
    assert stop([round_(1, good)])[0] is StopVerdict.CONVERGED
    assert stop([round_(1, good, other=Verdict.WRONG)])[0] is None


def test_convergence_counts_more_than_an_exhausted_budget() -> None:
    found, _ = stop([round_(1, Verdict.CONFIRMED)], calls=10**6, max_rounds=1, max_high_calls=1)
    assert found is StopVerdict.CONVERGED


def test_the_loop_ends_with_its_rounds() -> None:
    found, reason = stop([round_(1)], max_rounds=1)
    assert found is StopVerdict.BUDGET
    assert "v_Zn|+0 still wrong after max_rounds = 1" in reason
    assert "v_Zn|-1" not in reason
    assert stop([round_(1)], max_rounds=2)[0] is None


def test_a_round_that_asked_the_low_fidelity_alone_never_stalls() -> None:
    nothing_new = [round_(1), round_(2)]
    assert stop(nothing_new, max_rounds=4)[0] is StopVerdict.STALLED
    found, reason = stop(nothing_new, max_rounds=4, low_rounds=2)
    assert found is None
    assert "asked the low fidelity alone" in reason


def test_the_first_round_that_asks_the_high_fidelity_does_not_stall_against_one_that_did_not():
    unasked, first = round_(1, energy=float("nan")), round_(2)
    assert stop([unasked, first], max_rounds=4, low_rounds=1)[0] is None
    nothing = round_(2, energy=float("nan"))
    assert stop([unasked, nothing], max_rounds=4, low_rounds=1)[0] is None
    assert stop([unasked, nothing], max_rounds=4)[0] is StopVerdict.STALLED
    assert stop([unasked, first], max_rounds=4)[0] is None, (
        "a first ground state is lower than none"
    )


def test_the_loop_ends_with_its_budget_of_calls() -> None:
    assert stop([round_(1)], calls=100, max_high_calls=100)[0] is StopVerdict.BUDGET
    assert stop([round_(1)], calls=99, max_high_calls=100)[0] is None
    assert stop([round_(1)], calls=10**9)[0] is None, "null is no budget"


def test_the_loop_ends_when_a_round_improved_nothing() -> None:
    found, reason = stop([round_(1), round_(2)])
    assert found is StopVerdict.STALLED
    assert "round 2 improved nothing for v_Zn|+0" in reason


@pytest.mark.parametrize(
    "second",
    [
        round_(2, energy=-10.03),
        round_(2, errors={"v_Zn|+0": 0.089}),
        round_(2, Verdict.CONFIRMED, other=Verdict.WRONG),
    ],
    ids=["lower ground state", "error a tenth smaller", "another charge is wrong now"],
)
def test_a_round_that_improved_something_goes_on(second: RoundSummary) -> None:
    found, reason = stop([round_(1), second])
    assert found is None
    assert "wrong in round 2" in reason


@pytest.mark.parametrize(
    "second",
    [
        round_(2, energy=-10.01),
        round_(2, energy=-9.0),
        round_(2, errors={"v_Zn|+0": 0.095}),
        round_(2, errors={}),
    ],
    ids=["within the tolerance", "higher", "error hardly smaller", "no error known"],
)
def test_a_round_that_changed_without_improving_has_stalled(second: RoundSummary) -> None:
    assert stop([round_(1), second])[0] is StopVerdict.STALLED


def test_a_first_round_cannot_have_stalled() -> None:
    assert stop([round_(1)])[0] is None
