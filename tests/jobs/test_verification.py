"""Verification judges this round's model ground state, whatever else is known."""

from pymatgen.core import Structure

from defect_mf_flows.campaign import DefectSettings, MatchSettings, VerifySettings
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.jobs.verification import VerifyMaker, verify
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
    job = maker._relax("v_Zn", -1, candidate(vacancy, "model", -5.0), 1)
    (start,) = job.function_args
    assert start.spin == 1
    assert start.charge == -1
