"""Relaxations on a model are not made twice where the model and the starts are the same."""

from __future__ import annotations

import pytest
from jobflow import run_locally

from defect_mf_flows.campaign import SearchSettings
from defect_mf_flows.jobs.search import relax_batch
from defect_mf_flows.jobs.search_reuse import batch_hash
from defect_mf_flows.schemas.calculation import FailureReason
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.search import RelaxationBatch

SEARCH = SearchSettings(steps=3)


@pytest.fixture
def starts(make_start):
    return [make_start(-1, 1), make_start(-1, 2)]


@pytest.fixture(scope="module")
def model(finished):
    return next(finished.api.documents(Model, load=True))


@pytest.fixture
def relaxed(finished, model):
    """Run a batch in the campaign's store."""

    def run(starts, *, search=SEARCH, reuse=True):
        item = relax_batch(starts, model.job_uuid, search, "cpu", reuse=reuse)
        answers = run_locally(item, store=finished.store, ensure_success=True, log=False)
        return item.uuid, RelaxationBatch.model_validate(answers[item.uuid][1].output)

    return run


def test_a_batch_that_was_relaxed_is_taken_over_and_says_from_where(relaxed, starts):
    first, done = relaxed(starts)
    _, again = relaxed(starts)
    assert done.reused_from is None
    assert again.reused_from == first
    assert again.model_copy(update={"reused_from": None}) == done
    assert relaxed(starts)[1].reused_from == first, "not the job that took it over"


def test_without_reuse_and_with_other_settings_it_is_relaxed(relaxed, starts):
    relaxed(starts)
    assert relaxed(starts, reuse=False)[1].reused_from is None
    assert relaxed(starts, search=SearchSettings(steps=4))[1].reused_from is None
    assert relaxed(starts[:1])[1].reused_from is None


def test_a_batch_that_lost_a_process_is_relaxed_again(finished, relaxed, starts):
    search = SearchSettings(steps=2)
    first, _ = relaxed(starts, search=search)
    docs = finished.store.docs_store
    (stored,) = docs.query({"uuid": first})
    stored["output"]["reasons"] = [FailureReason.LOST.value, None]
    docs.update(stored, key=["uuid", "index"])
    assert relaxed(starts, search=search)[1].reused_from is None


@pytest.mark.parametrize(
    "changes",
    [{"charge": 0}, {"spin": 2}, {"label": "another"}],
    ids=["charge", "spin", "label"],
)
def test_other_starts_are_another_batch(model, make_start, changes):
    start = make_start(-1, 1)
    other = make_start(0, 1) if "charge" in changes else start.model_copy(update=changes)
    assert key([start], model) != key([other], model)


def test_every_network_of_a_committee_counts(model, starts):
    members = model.model_copy(update={"members": [model]})
    other = model.model_copy(update={"model_hash": "0" * 64})
    keys = {key(starts, m) for m in (model, members, other)}
    assert len(keys) == 3


def test_how_fast_and_in_how_many_jobs_does_not_count(model, starts):
    fast = SearchSettings(steps=3, compile=True, batch=7, rattles=[0.3])
    assert key(starts, model, fast) == key(starts, model)
    assert key(starts, model, device="cuda:1") == key(starts, model, device="cuda:0")
    assert key(starts, model, device="cuda") != key(starts, model)
    assert key(starts, model, SearchSettings(steps=3, trust=0.3)) != key(starts, model)


def key(starts, model, search=SEARCH, device="cpu"):
    return batch_hash(starts, model, search, device=device)
