"""Whole runs with a real mongod and real workers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from jobflow import Flow
from jobs_for_tests import (
    double,
    dynamic_flow,
    executions,
    needs_file,
    stop_children,
    suicide,
    total,
)
from rich.console import Console

from conftest import alive
from defect_mf_flows.errors import ResultsError, ServiceError
from defect_mf_flows.local.printer import plain_line, render
from defect_mf_flows.local.runner import LocalRunner, Progress, connect, workflow_progress

pytestmark = pytest.mark.mongod


def test_dynamic_flow_runs_to_its_end(tmp_path: Path, log: str, env: dict[str, str]) -> None:
    folder = tmp_path / "run"
    seen: list[Progress] = []
    runner = LocalRunner(folder, 2, extra_env=env)
    runner.run(lambda: dynamic_flow(log), {"campaign_hash": "a"}, seen.append)

    assert Counter(executions(log)) == Counter(
        ["blob", "fan_out", "nap", "child-0", "child-1", "child-2", "child-3", "total", "last"]
    )
    assert seen[-1].complete
    assert seen[-1].done == seen[-1].total >= 9
    assert seen[-1].stages["children"].done == 4
    assert alive(folder) == []
    with connect(folder) as (launchpad, store):
        assert store.query_one({"name": "last"})["output"] == 12 + 2000 + 1
        document = store.query_one({"name": "blob"})
        assert "blob_uuid" in document["output"]["big"]
        assert store.get_output(document["uuid"], load=True)["big"] == list(range(2000))
        assert workflow_progress(launchpad, "a").complete
        with pytest.raises(ResultsError, match="Remedy"):
            workflow_progress(launchpad, "b")
        indexes = store.docs_store._collection.index_information()
        assert [("uuid", 1), ("index", -1)] in [index["key"] for index in indexes.values()]
    assert alive(folder) == []
    assert list((folder / "launches").rglob("*")) == []

    def never() -> Flow:
        raise AssertionError("a finished campaign is not built again")

    runner.run(never, {"campaign_hash": "a"})
    assert len(executions(log)) == 9


def test_failed_job_is_named_and_retried(tmp_path: Path, log: str, env: dict[str, str]) -> None:
    needed = tmp_path / "needed"
    runner = LocalRunner(tmp_path / "run", 1, extra_env=env)

    def make() -> Flow:
        first = double(1, log)
        second = needs_file(str(needed), log)
        return Flow([first, second, total([first.output, second.output], log)])

    with pytest.raises(ServiceError, match=r"needs_file: .*not there yet(.|\n)*Remedy"):
        runner.run(make, {"campaign_hash": "a"})
    assert sorted(executions(log)) == ["double", "needs_file"]

    # An abandoned campaign in the same folder must not be computed along with another.
    runner.run(lambda: Flow([double(2, log)]), {"campaign_hash": "b"})
    assert sorted(executions(log)) == ["double", "double", "needs_file"]

    needed.touch()
    with pytest.raises(ServiceError, match=r"total: .*int"):
        runner.run(make, {"campaign_hash": "a"})
    assert Counter(executions(log)) == {"double": 2, "needs_file": 2, "total": 1}


def test_job_that_kills_its_worker(tmp_path: Path, log: str, env: dict[str, str]) -> None:
    runner = LocalRunner(tmp_path / "run", 1, extra_env=env)
    with pytest.raises(ServiceError, match=r"suicide: The worker process died(.|\n)*Remedy"):
        runner.run(lambda: Flow([suicide(log), double(1, log)]), {"campaign_hash": "a"})
    assert Counter(executions(log)) == {"suicide": 3, "double": 1}


def test_stopped_children_end_the_run(tmp_path: Path, log: str, env: dict[str, str]) -> None:
    first = stop_children(log)
    first.update_config({"manager_config": {"_category": "learn"}, "pass_manager_config": False})
    second = double(first.output, log)
    third = total([second.output], log)
    seen: list[Progress] = []
    runner = LocalRunner(tmp_path / "run", categories=[["learn"], ["__none__"]], extra_env=env)
    runner.run(lambda: Flow([first, second, third]), {"campaign_hash": "a"}, seen.append)
    assert executions(log) == ["stop_children"]
    assert seen[-1].states == {"COMPLETED": 1, "DEFUSED": 1, "WAITING": 1}
    assert "jobs done" in plain_line(seen[-1])
    console = Console(record=True, width=100)
    console.print(render(seen[-1]))
    assert "stop_children" in console.export_text()
