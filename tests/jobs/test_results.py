"""Results are gathered from a loop that ended, with what the last model says of itself."""

import pytest

from defect_mf_flows.errors import ResultsError
from defect_mf_flows.jobs.results import Gathering, no_ground_state
from defect_mf_flows.schemas.dataset import Picks
from defect_mf_flows.schemas.loop import LoopState
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.search import Candidate, Exploration, Verdict, Verification


def test_a_loop_without_a_stop_verdict_has_no_results(defect_set):
    """No verdict is made up for it."""
    picks = Picks(frames=[], n_candidates=0, strata={})
    state = LoopState(low=[], labels=[], origins={}, picks=picks)
    exploration = Exploration(calculations=[], hosts={}, searches=[])
    with pytest.raises(ResultsError, match="no stop verdict after 0"):
        Gathering(None, defect_set, exploration, state)


def test_the_best_epoch_is_that_of_the_last_model(finished):
    (model,) = finished.api.documents(Model)
    assert finished.results.best_epoch == model.best_epoch


def test_a_charge_without_a_ground_state_says_why_its_relaxations_failed(make_start, compute):
    start = make_start(-1)
    failed = [compute(start, uuid=f"job {k}", max_iterations=1) for k in range(3)]
    candidate = Candidate(
        origin="model",
        round=1,
        rank=0,
        start="Unperturbed",
        energy_model=0.0,
        structure=start.structure,
        calculations=["job 0", "job 1"],
    )
    verification = Verification(
        defect="v_Zn",
        charge=-1,
        round=1,
        verdict=Verdict.WRONG,
        reason="",
        model_ground=0,
        ground_state=None,
        energy_error=None,
        candidates=[candidate],
    )
    failure = no_ground_state(verification, failed)
    assert (failure.defect, failure.charge) == ("v_Zn", -1)
    assert "not converged in 1 cycles (2 times)" in failure.message, "the third is another's"
    assert "left none" in no_ground_state(verification, []).message
