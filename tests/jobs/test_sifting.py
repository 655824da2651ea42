from defect_mf_flows.jobs.sifting import _first_energy
from defect_mf_flows.schemas.calculation import Failure, FailureReason


def test_a_single_point_that_failed_has_no_energy_to_compare(vacancy, make_start, compute):
    single = compute(make_start(-1, 1), fidelity="high")
    assert _first_energy(single) == single.frames[0].energy
    failure = Failure(
        stage="static",
        reason=FailureReason.EXPLODED,
        message="force 900 eV/A",
        fidelity="high",
        defect="v_Zn",
        charge=-1,
        start=single.start,
    )
    assert _first_energy(single.model_copy(update={"failure": failure})) is None
