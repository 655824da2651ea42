import pytest
from jobflow import CURRENT_JOB

from defect_mf_flows.campaign import VerifySettings
from defect_mf_flows.core.start_labels import verified_label
from defect_mf_flows.jobs.sifting import _first_energy, sifted_candidates
from defect_mf_flows.schemas.calculation import Failure, FailureReason
from defect_mf_flows.schemas.loop import LoopState
from defect_mf_flows.schemas.search import Candidate, CandidateSet, VerificationSet


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


@pytest.fixture
def predicted(finished, monkeypatch):
    """A prediction where a verified relaxation began, into which the model led its end."""
    monkeypatch.setattr(CURRENT_JOB, "store", finished.store)
    state = list(finished.api.documents(LoopState))[-1]
    verdicts = list(finished.api.documents(VerificationSet, load=True))[-1]
    owner, number, verified = next(
        ((v.defect, v.charge), number, c)
        for v in verdicts.verifications
        for number, c in enumerate(v.candidates)
        if c.relaxed is not None and c.residual_force is None and not c.known_from
    )
    candidate = Candidate(
        origin="model",
        round=len(state.rounds) + 1,
        rank=0,
        start="Unperturbed",
        energy_model=0.0,
        structure=verified.structure,
        led_by=[verified_label(owner[1], number)],
    )
    return CandidateSet(job_uuid="here", candidates=[candidate], owners=[owner]), verified, state


@pytest.mark.parametrize("trace", [True, False])
def test_where_verified_minima_lead_is_relaxed_only_if_the_settings_do_not_trace(
    finished, predicted, trace
):
    chosen, verified, state = predicted
    single = verified.calculations[0]
    settings = VerifySettings(relax_within=100.0, relaxations=1, trace_verified=trace)
    (found,) = sifted_candidates(chosen, [single], state, finished.api.defects(), settings=settings)
    assert found.energy_single_point == verified.energy_single_point
    assert not found.spared
    if trace:
        assert "where the model relaxes the minimum" in found.known_from
        assert found.energy_relaxed == verified.energy_relaxed
        assert found.calculations == verified.calculations, "it has no relaxation of its own"
    else:
        assert not found.known_from
        assert found.energy_relaxed is None
        assert found.calculations == [single], "its relaxation begins there"
