"""What the model makes of a verified minimum, high fidelity need not relax back."""

from __future__ import annotations

from typing import Any

import pytest
from pymatgen.core import Structure

from defect_mf_flows.campaign import VerifySettings
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.core.known_minima import as_traced, found_first, verified_minima
from defect_mf_flows.core.start_labels import is_verified_at, verified_label
from defect_mf_flows.core.starts import nearest_neighbours
from defect_mf_flows.core.verdicts import judge
from defect_mf_flows.schemas.defect import Defect
from defect_mf_flows.schemas.search import Candidate, Verdict


def shifted(vacancy: Defect, by: float) -> Structure:
    """The unrelaxed vacancy with one neighbour moved, A."""
    moved = vacancy.supercell.copy()
    moved.translate_sites([nearest_neighbours(vacancy)[0]], [by, 0.0, 0.0], frac_coords=False)
    return with_charge(Structure.from_sites(moved.sites), -1)


def candidate(vacancy: Defect, single: float | None, by: float = 0.0, **changes: Any) -> Candidate:
    values = {
        "origin": "model",
        "round": 2,
        "rank": 0,
        "start": "Unperturbed",
        "energy_model": -5.0,
        "energy_single_point": single,
        "structure": shifted(vacancy, by),
    }
    return Candidate(**{**values, **changes})


def verified(vacancy: Defect, energy: float, **changes: Any) -> Candidate:
    values = {"round": 1, "energy_relaxed": energy, "relaxed": shifted(vacancy, 0.0)}
    return candidate(vacancy, energy + 0.1, **{**values, **changes})


def traced(vacancy: Defect, found: Candidate, *earlier: Candidate) -> Candidate:
    return as_traced(found, earlier, charge=-1, site=vacancy.site)


def test_labels_of_verified_minima_tell_charge_and_place() -> None:
    assert verified_label(-1, 12) == "Verified_-1_12"
    assert verified_label(0, 3) == "Verified_+0_3"
    assert is_verified_at("Verified_-1_12", -1)
    assert not is_verified_at("Verified_-1_12", 1)
    assert not is_verified_at("Low_-1_12", -1)


def test_starts_of_the_next_search_are_what_was_relaxed_and_not_taken_over(vacancy) -> None:
    spared = candidate(vacancy, -4.0, spared="too high")
    first, again = verified(vacancy, -5.0), verified(vacancy, -5.0, known_from="is another's")
    assert verified_minima([spared, first, again], -1) == {"Verified_-1_1": first}


def test_a_verified_minimum_that_the_model_moves_is_taken_over_however_far(vacancy) -> None:
    before = verified(vacancy, -5.0, calculations=["relaxation"])
    found = traced(vacancy, candidate(vacancy, -4.6, 0.7, led_by=["Verified_-1_0"]), before)
    assert found.energy_relaxed == -5.0
    assert found.relaxed == before.relaxed
    assert found.calculations == ["relaxation"]
    assert found.energy_single_point == -4.6
    assert found.deviation is not None
    assert found.deviation.max_displacement > 0.5
    assert "where the model relaxes the minimum that round 1 relaxed from Unp" in found.known_from
    verdict, reason = judge([found, before], 0, settings=VerifySettings())
    assert verdict is Verdict.WRONG
    assert reason.startswith(f"it {found.known_from}")


def test_a_single_point_below_the_verified_minimum_is_of_another_one(vacancy) -> None:
    lower = candidate(vacancy, -5.1, 0.2, led_by=["Verified_-1_0"])
    assert traced(vacancy, lower, verified(vacancy, -5.0)) == lower


@pytest.mark.parametrize(
    "changes",
    [
        {"led_by": []},
        {"led_by": ["Verified_-1_7"]},
        {"energy_single_point": None},
        {"spared": "too high"},
    ],
    ids=["not led", "by nobody known", "no single point", "spared"],
)
def test_any_other_prediction_stays_as_it_is(vacancy, changes) -> None:
    found = candidate(vacancy, -4.6, **{"led_by": ["Verified_-1_0"], **changes})
    assert traced(vacancy, found, verified(vacancy, -5.0)) == found


def test_a_relaxation_that_ran_out_of_steps_is_no_minimum_to_go_back_to(vacancy) -> None:
    found = candidate(vacancy, -4.6, led_by=["Verified_-1_0"])
    assert traced(vacancy, found, verified(vacancy, -5.0, residual_force=0.3)) == found


def test_of_several_that_lead_there_the_lowest_counts(vacancy) -> None:
    found = candidate(vacancy, -4.6, led_by=["Verified_-1_0", "Verified_-1_1"])
    both = verified(vacancy, -4.9), verified(vacancy, -5.0)
    assert traced(vacancy, found, *both).energy_relaxed == -5.0


def test_a_ground_state_that_was_taken_over_was_found_by_whoever_relaxed_it(vacancy) -> None:
    rattled = verified(vacancy, -5.0, origin="rattled", round=0, start="Rattled_1")
    other = verified(vacancy, -4.0, origin="low")
    known = [
        verified(vacancy, -5.0, known_from="is the minimum of round 0", round=n) for n in (3, 2)
    ]
    assert found_first([*known, other, rattled], known[0]) is rattled
    assert found_first([*known, other, rattled], other) is other
    assert found_first(known, known[0]) is known[0], "older documents may lack the first"
