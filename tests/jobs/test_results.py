"""Results are gathered from a loop that ended, with what the last model says of itself."""

import pytest

from defect_mf_flows.errors import ResultsError
from defect_mf_flows.jobs.results import Gathering
from defect_mf_flows.schemas.dataset import Picks
from defect_mf_flows.schemas.loop import LoopState
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.search import Exploration


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
