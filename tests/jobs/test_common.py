"""What the jobs share."""

import pytest
from jobflow import Flow, JobStore, Response, job, run_locally
from maggma.stores import MemoryStore

from defect_mf_flows.errors import ResultsError
from defect_mf_flows.jobs.common import Stage, read_output, replaced_by, staged
from defect_mf_flows.schemas.defect import DefectSet
from defect_mf_flows.schemas.model import Model


@job
def end():
    return 1


@job
def spawn():
    return Response(replace=Flow([staged(end(), Stage.SEARCH)]))


def empty_store():
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    store.connect()
    return store


def test_a_store_without_the_job_says_so():
    with pytest.raises(ResultsError, match="no output of job nowhere"):
        read_output(empty_store(), "nowhere", Model, load=False)


def test_a_document_of_another_kind_is_refused(finished):
    uuid = finished.results.rounds[-1].dataset
    with pytest.raises(ResultsError, match="is a Dataset, not a DefectSet"):
        read_output(finished.store, uuid, DefectSet, load=True)


def test_jobs_that_replace_another_keep_their_own_stage():
    store = empty_store()
    run_locally(staged(spawn(), Stage.TRAINING), store=store, log=False)
    stages = {row["name"]: row["metadata"]["stage"] for row in store.query({})}
    assert stages["end"] == Stage.SEARCH.value
    assert stages["spawn"] == Stage.TRAINING.value


@job
def twice(x: int) -> int:
    return 2 * x


@job
def spread(n: int) -> Response:
    jobs = [twice(i) for i in range(n)]
    return replaced_by(jobs, [one.output for one in jobs])


def test_the_job_that_passes_an_output_on_is_named_after_the_job_it_stands_for():
    spreading = spread(2)
    spreading.name = "round 1"
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    answers = run_locally(spreading, store=store, ensure_success=True, log=False)
    names = sorted(row["name"] for row in store.query(properties=["name"]))
    assert names == ["round 1", "round 1 | output", "twice", "twice"]
    assert store.get_output(spreading.uuid, load=True) == [0, 2]
    assert max(answers[spreading.uuid]) == 2
