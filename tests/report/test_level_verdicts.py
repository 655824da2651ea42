"""Why a level of the model is not that of the high fidelity."""

from __future__ import annotations

import csv

import pytest

from defect_mf_flows.report.csv_tables import write_tables
from defect_mf_flows.report.html import render_report
from defect_mf_flows.report.level_verdicts import (
    Cause,
    borrowed_corrections,
    level_verdict,
    verdict_text,
)
from defect_mf_flows.report.words import summary
from defect_mf_flows.schemas.levels import Correction, CorrectionMethod
from defect_mf_flows.schemas.results import TransitionLevel
from defect_mf_flows.schemas.search import Verdict

NEAR = {"local_rmsd": 0.02, "max_displacement": 0.05}
FAR = {"local_rmsd": 0.4, "max_displacement": 0.9}


@pytest.fixture
def campaign(make_results, make_ground_state):
    """Results whose levels follow from the energies: errors per charge in eV per cell."""

    def build(errors, *, corrections=(), states=None, **changes):
        states = states or {}
        grounds = [
            make_ground_state(
                "v_Zn", q, states.get(q, {}).get("verdict", Verdict.CONFIRMED),
                energy_hf=-800.0 - 0.5 * q * q,
                energy_model=None if error is None else -800.0 - 0.5 * q * q + error,
                **{"energy_error": error, **NEAR,
                   **{k: v for k, v in states.get(q, {}).items() if k != "verdict"}},
            )
            for q, error in errors.items()
        ]  # fmt: skip
        energies = {g.charge: (g.energy_hf, g.energy_model) for g in grounds}
        high, low = max(errors), min(errors)
        level = [
            None if None in ends else (ends[1] - ends[0]) / (high - low) - 1.0
            for ends in zip(energies[high], energies[low], strict=True)
        ]
        levels = [
            TransitionLevel(
                defect="v_Zn", from_charge=high, to_charge=low, hf=level[0], model=level[1],
                thermodynamic=True,
            )
        ]  # fmt: skip
        return make_results(
            ground_states=grounds,
            transition_levels=levels,
            corrections=[
                Correction(method=CorrectionMethod.EFNV, defect="v_Zn", charge=q, energy=0.3)
                for q in corrections
            ],
            **changes,
        )

    return build


def judged(results):
    return level_verdict(results.transition_levels[0], results)


def test_the_shares_of_two_energies_add_up_to_the_error_of_the_level(campaign):
    results = campaign({1: 0.03, -1: 0.11})
    verdict = judged(results)
    assert verdict.error == pytest.approx((0.11 - 0.03) / 2)
    assert verdict.blame.ground.charge == -1
    assert verdict.blame.share == pytest.approx(0.055)


def test_the_state_with_the_larger_error_is_named_with_its_labels_and_held_out_error(campaign):
    results = campaign({0: 0.005, -1: -0.060})
    verdict = judged(results)
    assert (verdict.blame.ground.charge, verdict.blame.cause) == (-1, Cause.OFFSET)
    assert (verdict.blame.labels, verdict.blame.held_out) == (27, 28.4)
    text = verdict_text(verdict)
    assert text.startswith("65 meV below the high fidelity, most of it from V<sub>Zn</sub><sup>−1")
    for shown in ("−60 meV of the level", "verdict confirmed: energy offset of the same minimum",
                  "27 high-fidelity labels of charge −1", "error 28.4 meV/cell"):  # fmt: skip
        assert shown in text


def test_another_minimum_is_told_from_an_offset_of_the_same_one(campaign):
    wrong = {"verdict": Verdict.WRONG, "energy_error": -0.01, **FAR}
    verdict = judged(campaign({0: 0.2, -1: 0.0}, states={0: wrong}))
    assert (verdict.blame.ground.charge, verdict.blame.cause) == (0, Cause.OTHER)
    text = verdict_text(verdict)
    assert "verdict wrong: another minimum, whose model energy is −10 meV/cell off" in text
    assert "lies 210 meV/cell above the verified one" in text
    limited = {"verdict": Verdict.WRONG, **NEAR}
    offset = judged(campaign({0: 0.2, -1: 0.0}, states={0: limited}))
    assert offset.blame.cause is Cause.OFFSET, "a model error beyond the limit is wrong as well"
    lost = {"verdict": Verdict.WRONG, "local_rmsd": None, "max_displacement": None}
    assert judged(campaign({0: 0.2, -1: 0.0}, states={0: lost})).blame.cause is Cause.UNKNOWN


def test_the_campaigns_own_tolerance_decides_what_another_minimum_is(campaign):
    loose = {"verification": {"max_local_rmsd": 1.0, "max_displacement": 2.0}}
    assert judged(campaign({0: 0.2, -1: 0.0}, states={0: FAR})).blame.cause is Cause.OTHER
    found = judged(campaign({0: 0.2, -1: 0.0}, states={0: FAR}, settings=loose))
    assert found.blame.cause is Cause.OFFSET


def test_a_level_that_only_cancelling_errors_make_right_is_told_as_such(campaign):
    right = judged(campaign({0: 0.004, -1: -0.003}))
    assert right.equal
    assert verdict_text(right) == "within 10 meV of the high fidelity"
    lucky = judged(campaign({0: 0.304, -1: 0.300}))
    assert lucky.equal
    assert "because two errors cancel" in verdict_text(lucky)


def test_a_level_without_a_model_energy_has_no_verdict(campaign):
    results = campaign({0: None, -1: 0.1})
    assert judged(results).error is None
    assert verdict_text(judged(results)) == ""
    assert "Model: " not in render_report(results)


def test_page_summary_and_table_carry_the_verdict(campaign, tmp_path):
    results = campaign({0: 0.005, -1: -0.060})
    assert "Model: 65 meV below the high fidelity" in render_report(results)
    assert "0 of 1 levels of the model lie within 10 meV" in " ".join(summary(results))
    tables = {path.stem: path for path in write_tables(results, tmp_path)}
    with tables["levels"].open(encoding="utf-8", newline="") as handle:
        (row,) = csv.DictReader(handle)
    assert float(row["model_error_eV"]) == pytest.approx(-0.065)
    assert (row["within_10_meV"], row["largest_share_charge"]) == ("False", "-1")
    assert (row["its_cause"], row["its_high_labels"]) == (Cause.OFFSET.value, "27")


def test_a_borrowed_correction_is_told_of_every_charge_state_that_has_one(campaign):
    other = {"verdict": Verdict.WRONG, **FAR, "low_is_ground_state": True}
    low = {"low_is_ground_state": False}
    both = {"verdict": Verdict.WRONG, **FAR, "low_is_ground_state": False}
    same = {"low_is_ground_state": True}
    results = campaign(
        {2: 0.0, 1: 0.0, 0: 0.0, -1: 0.0, -2: 0.0},
        corrections=(2, 1, -1, -2),
        states={2: other, 1: low, 0: both, -1: both, -2: same},
    )
    told = borrowed_corrections(results)
    assert len(told) == 3, "a neutral cell has no correction to borrow, and -2 has its own"
    assert told[0] == (
        "Of V<sub>Zn</sub><sup>+2</sup>, the model's energy carries the correction of the verified "
        "minimum, although it belongs to another minimum."
    )
    assert "<sup>+1</sup>, the low-fidelity search's energy carries" in told[1]
    assert "the model's and the low-fidelity search's energies carry" in told[2]
    assert told[2] in render_report(results)
    plain = results.model_copy(update={"corrections": []})
    assert borrowed_corrections(plain) == []
