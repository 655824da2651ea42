"""Verification judges this round's model ground state, whatever else is known."""

import numpy as np
import pytest
from pymatgen.core import Structure

from defect_mf_flows.campaign import DefectSettings, MatchSettings, VerifySettings
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.core.known_minima import as_known
from defect_mf_flows.core.minima import Matcher
from defect_mf_flows.core.starts import nearest_neighbours
from defect_mf_flows.engines.base import ReferenceMaker
from defect_mf_flows.engines.vasp.makers import VaspReferenceMaker
from defect_mf_flows.engines.xtb import XtbReferenceMaker
from defect_mf_flows.jobs.judging import finish, unasked, verify
from defect_mf_flows.jobs.verification import VerifyMaker
from defect_mf_flows.schemas.calculation import CalculationKind, FailureReason
from defect_mf_flows.schemas.search import Candidate, Deviation, Verdict

STAYS = Deviation(rmsd=0.01, local_rmsd=0.01, max_displacement=0.02)


def candidate(vacancy, origin, energy, *, number=1, **changes):
    structure = with_charge(vacancy.supercell, -1)
    values = {
        "origin": origin,
        "round": number,
        "rank": 0,
        "start": f"{origin} start",
        "energy_model": energy,
        "energy_single_point": energy,
        "energy_relaxed": energy,
        "deviation": STAYS,
        "kept": True,
        "structure": structure,
        "relaxed": structure,
    }
    return Candidate(**{**values, **changes})


def judged(vacancy, candidates, number=1):
    return verify(vacancy, -1, candidates, number, VerifySettings(), MatchSettings())


def test_a_model_ground_state_that_stays_is_confirmed(vacancy):
    found = judged(vacancy, [candidate(vacancy, "model", -5.0), candidate(vacancy, "low", -5.0)])
    assert found.verdict is Verdict.CONFIRMED
    assert found.model_ground == 0


def test_a_low_ground_state_that_lies_higher_makes_it_lower(vacancy):
    found = judged(vacancy, [candidate(vacancy, "model", -5.0), candidate(vacancy, "low", -4.0)])
    assert found.verdict is Verdict.LOWER
    assert "1.000 eV" in found.reason


def test_without_any_surviving_surrogate_relaxation_the_verdict_is_wrong(vacancy):
    found = judged(vacancy, [candidate(vacancy, "low", -5.0)])
    assert found.verdict is Verdict.WRONG
    assert "no end of the relaxations on the model was believed" in found.reason
    assert found.model_ground is None
    assert found.ground_state == 0
    assert found.energy_error is None


def test_a_lower_candidate_of_an_earlier_round_refutes_this_rounds_model(vacancy):
    now = candidate(vacancy, "model", -4.0, number=2)
    before = candidate(vacancy, "model", -5.0, number=1)
    found = judged(vacancy, [now, before], number=2)
    assert found.verdict is Verdict.WRONG
    assert found.ground_state == 1
    assert found.model_ground == 0


def test_basins_are_numbered_from_the_lowest(vacancy):
    moved = vacancy.supercell.copy()
    moved.translate_sites([0], [0.08, 0.0, 0.0])
    other = with_charge(Structure.from_sites(moved.sites), -1)
    found = judged(
        vacancy,
        [candidate(vacancy, "model", -4.0, relaxed=other), candidate(vacancy, "low", -5.0)],
    )
    assert [c.basin for c in found.candidates] == [1, 0]


def test_the_spin_of_a_charge_state_reaches_its_verification(vacancy):
    maker = VerifyMaker(defects=DefectSettings(spin={"v_Zn": {-1: 1}}))
    (job,) = maker._jobs.relaxation(("v_Zn", -1), candidate(vacancy, "model", -5.0), "model")
    (start,) = job.function_args
    assert start.spin == 1
    assert start.charge == -1


def test_an_engine_that_moves_the_atoms_itself_begins_from_curvature_and_single_point(vacancy):
    found = candidate(vacancy, "model", -5.0)
    asked = VerifySettings(curvature=True)
    xtb = XtbReferenceMaker(fidelity="high", kind=CalculationKind.RELAX)
    maker = VerifyMaker(relax=xtb, verification=asked)
    bends, relax = maker._jobs.relaxation(("v_Zn", -1), found, "model", "single point")
    assert relax.function_kwargs["curvature_uuid"].uuid == bends.uuid
    assert relax.function_kwargs["single_point_uuid"] == "single point"
    assert bends.function_args == (relax.function_args[0], "model", "cpu")
    maker = VerifyMaker(relax=xtb)
    (relax,) = maker._jobs.relaxation(("v_Zn", -1), found, "model")
    assert relax.function_kwargs == {}
    vasp = VaspReferenceMaker(fidelity="high", kind=CalculationKind.RELAX)
    maker = VerifyMaker(relax=vasp, verification=asked)
    (relax,) = maker._jobs.relaxation(("v_Zn", -1), found, "model", "single point")
    assert relax.function_kwargs == {}


def test_a_spared_candidate_has_its_single_point_and_no_minimum(vacancy, make_start, compute):
    single = compute(make_start(-1, 1), fidelity="high", uuid="single point")
    spared = candidate(vacancy, "model", -5.0, energy_relaxed=None, relaxed=None, deviation=None)
    spared = spared.model_copy(update={"spared": "its single point lies 1.000 eV above that of X"})
    found = finish(spared, single, vacancy, VerifySettings())
    assert found.energy_single_point == single.final_energy
    assert found.calculations == ["single point"]
    assert found.energy_relaxed is None
    assert found.relaxed is None
    verdict = judged(vacancy, [found, candidate(vacancy, "low", -5.0)])
    assert verdict.verdict is Verdict.WRONG
    assert verdict.reason == spared.spared
    assert verdict.ground_state == 1


@pytest.fixture
def known(vacancy, defect_set):
    """Take a candidate for a minimum that was verified before, if it is one."""
    matcher = Matcher(vacancy, defect_set.host.supercell, MatchSettings())

    def look(found, *earlier, **settings):
        return as_known(found, list(earlier), matcher, settings=VerifySettings(**settings))

    return look


def predicted(vacancy, shift=0.0, **changes):
    """This round's minimum of the model: the verified one with a neighbour shifted, A."""
    moved = vacancy.supercell.copy()
    moved.translate_sites([nearest_neighbours(vacancy)[0]], [shift, 0.0, 0.0], frac_coords=False)
    values = {
        "number": 2,
        "structure": with_charge(Structure.from_sites(moved.sites), -1),
        "energy_single_point": None,
        "energy_relaxed": None,
        "deviation": None,
        "kept": False,
        "relaxed": None,
    }
    return candidate(vacancy, "model", -4.9, **{**values, **changes})


def test_a_minimum_that_was_verified_before_is_taken_over_and_says_from_where(vacancy, known):
    before = candidate(vacancy, "low", -5.0, calculations=["relaxation"])
    found = known(predicted(vacancy, 0.05), before)
    assert found.energy_relaxed == -5.0
    assert found.relaxed == before.relaxed
    assert found.calculations == ["relaxation"]
    assert found.known_from.startswith("is the minimum that round 1 relaxed from low start (low)")
    assert 0 < found.deviation.local_rmsd < 0.05
    assert found.energy_single_point is None, "that is its own, and computed"


@pytest.mark.parametrize(
    ("shift", "settings", "changes"),
    [
        (0.8, {}, {}),
        (0.05, {"max_local_rmsd": 1e-6}, {}),
        (0.05, {"max_displacement": 1e-6}, {}),
        (0.05, {}, {"energy_relaxed": None, "relaxed": None}),
        (0.05, {}, {"known_from": "is another's"}),
    ],
    ids=["elsewhere", "rmsd", "displacement", "failed", "taken over itself"],
)
def test_any_other_minimum_is_relaxed(vacancy, known, shift, settings, changes):
    before = candidate(vacancy, "model", -5.0, **changes)
    found = predicted(vacancy, shift)
    assert known(found, before, **settings) == found


def test_the_nearest_of_several_verified_minima_is_meant(vacancy, known):
    near, far = predicted(vacancy, 0.05), predicted(vacancy, 0.15)
    before = [
        candidate(vacancy, "model", -5.2, relaxed=far.structure),
        candidate(vacancy, "low", -5.0, relaxed=near.structure),
    ]
    assert known(predicted(vacancy, 0.06), *before).energy_relaxed == -5.0


@pytest.fixture
def relaxed(vacancy, make_start, compute):
    """A candidate whose relaxation at high fidelity has ended."""
    done = compute(make_start(-1), kind=CalculationKind.RELAX, fidelity="high", uuid="relaxation")
    first = candidate(
        vacancy,
        "model",
        done.final_energy,
        structure=done.frames[0].structure,
        energy_relaxed=None,
        relaxed=None,
    )
    return finish(first, done, vacancy, VerifySettings())


def test_a_known_minimum_costs_one_call_and_keeps_its_verdict(vacancy, relaxed, known, compute):
    maker = VerifyMaker(relax=ReferenceMaker(kind=CalculationKind.RELAX))
    (job,) = maker._jobs.relaxation(("v_Zn", -1), relaxed, "model")
    assert job.maker.kind is CalculationKind.RELAX
    found = known(predicted(vacancy, structure=relaxed.relaxed), relaxed)
    (job,) = maker._jobs.relaxation(("v_Zn", -1), found, "model")
    (start,) = job.function_args
    assert job.maker.kind is CalculationKind.STATIC
    assert start.charge == -1
    single = compute(start, fidelity="high", uuid="single point")
    assert single.n_calls == 1
    found = finish(found, single, vacancy, VerifySettings())
    assert found.energy_single_point == pytest.approx(relaxed.energy_relaxed, abs=1e-6)
    assert found.calculations == ["single point", "relaxation"]
    assert found.kept
    verdict = judged(vacancy, [found, relaxed], number=2)
    assert verdict.verdict is Verdict.CONFIRMED
    assert verdict.energy_error == pytest.approx(-4.9 - found.energy_single_point)
    assert [c.basin for c in verdict.candidates] == [0, 0]


def test_a_known_minimum_above_the_ground_state_is_kept_without_a_call(vacancy, known):
    before = candidate(vacancy, "model", -5.0)
    found = known(predicted(vacancy, 0.05, rank=1), before)
    done = unasked(found, VerifySettings())
    assert done == found.model_copy(update={"kept": True})
    unknown = predicted(vacancy, 0.05, rank=1)
    assert unasked(unknown, VerifySettings()) == unknown


def test_a_single_point_below_the_known_minimum_contradicts_it(vacancy, relaxed, known, compute):
    wrong = relaxed.model_copy(update={"energy_relaxed": relaxed.energy_relaxed + 0.1})
    found = known(predicted(vacancy, structure=relaxed.relaxed), wrong)
    (job,) = VerifyMaker()._jobs.relaxation(("v_Zn", -1), found, "model")
    (start,) = job.function_args
    found = finish(found, compute(start, fidelity="high"), vacancy, VerifySettings())
    assert found.energy_relaxed is None
    verdict = judged(vacancy, [found, wrong], number=2)
    assert verdict.verdict is Verdict.WRONG
    assert "does not bear out that it is the minimum that round 1 relaxed" in verdict.reason
    again = predicted(vacancy, structure=relaxed.relaxed, number=3)
    assert known(again, found, wrong) == again, "the next round relaxes it"


def test_a_failed_single_point_verifies_nothing(vacancy, relaxed, known, compute):
    found = known(predicted(vacancy, structure=relaxed.relaxed), relaxed)
    (job,) = VerifyMaker()._jobs.relaxation(("v_Zn", -1), found, "model")
    (start,) = job.function_args
    failed = compute(start, fidelity="high", max_iterations=1)
    assert failed.failure is not None
    found = finish(found, failed, vacancy, VerifySettings())
    assert found.energy_relaxed is None
    assert judged(vacancy, [found, relaxed], number=2).verdict is Verdict.WRONG


def test_a_relaxation_out_of_steps_gives_an_upper_bound_and_no_verification(
    vacancy, make_start, compute, known
):
    start = make_start(-1)
    done = compute(start, kind=CalculationKind.RELAX, fidelity="high", fmax=1e-4, steps=2)
    assert done.failure.reason is FailureReason.STEPS
    begun = candidate(
        vacancy, "model", -4.9, structure=start.structure, energy_relaxed=None, relaxed=None
    )
    found = finish(begun, done, vacancy, VerifySettings())
    assert found.energy_relaxed == done.final_energy
    largest = max(float(np.linalg.norm(force)) for force in done.frames[-1].forces)
    assert found.residual_force == pytest.approx(largest)
    verdict = verify(
        vacancy, -1, [found], 1, VerifySettings(max_local_rmsd=9, max_displacement=9),
        MatchSettings(),
    )  # fmt: skip
    assert verdict.ground_state == 0
    assert verdict.verdict is Verdict.WRONG
    assert f"ran out at forces of {largest:.2f} eV/A: an upper bound" in verdict.reason
    again = predicted(vacancy, structure=found.relaxed)
    assert known(again, found) == again, "it is no minimum yet"


def test_an_scf_that_failed_gives_no_bound(vacancy, make_start, compute):
    start = make_start(-1)
    failed = compute(start, kind=CalculationKind.RELAX, fidelity="high", max_iterations=1)
    begun = candidate(vacancy, "model", -4.9, energy_relaxed=None, relaxed=None)
    found = finish(begun, failed, vacancy, VerifySettings())
    assert (found.energy_relaxed, found.residual_force) == (None, None)


def test_nothing_is_lower_than_a_low_ground_state_that_could_still_fall(vacancy):
    ground = candidate(vacancy, "model", -5.0)
    falling = candidate(vacancy, "low", -4.0, residual_force=0.4)
    found = judged(vacancy, [ground, falling])
    assert found.verdict is Verdict.CONFIRMED
    assert "ran out of steps at high fidelity, 1.000 eV above it" in found.reason
