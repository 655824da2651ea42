"""Nothing is lost and nothing repeated, whoever is killed."""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from jobs_for_tests import executions

from conftest import alive, alive_with, wait_for
from defect_mf_flows.errors import ServiceError
from defect_mf_flows.local.mongod import PrivateMongod
from defect_mf_flows.local.runner import LocalRunner, connect, workflow_progress

pytestmark = pytest.mark.mongod

Supervise = Callable[[float], subprocess.Popen[str]]
ALL = {"quick-0": 1, "quick-1": 1, "quick-2": 1, "nap": 1, "last": 1}


def quick_jobs_done(log: str) -> bool:
    done = executions(log)
    return "nap" in done and sum(name.startswith("quick") for name in done) == 3


def committed(folder: Path) -> bool:
    with connect(folder) as (launchpad, _):
        return workflow_progress(launchpad, "naps").done == 3


def napping_worker(folder: Path) -> int:
    with connect(folder) as (launchpad, _):
        name = launchpad.launches.find_one({"state": "RUNNING"})["fworker"]["name"]
    return next(p.pid for p in alive_with(folder, "local.worker") if name in p.cmdline())


def test_killed_worker(tmp_path: Path, log: str, supervise: Supervise) -> None:
    folder = tmp_path / "run"
    process = supervise(300)
    wait_for(lambda: quick_jobs_done(log) and committed(folder))
    # Status from another process while a run is going.
    with connect(folder) as (launchpad, store):
        progress = workflow_progress(launchpad, "naps")
        assert progress.running == ("nap",)
        assert store.count({"name": {"$regex": "quick"}}) == 3
    subprocess.run(["kill", "-9", str(napping_worker(folder))], check=True)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert Counter(executions(log)) == {**ALL, "nap": 2}
    assert "while running nap" in output
    assert alive(folder) == []


def test_killed_supervisor(tmp_path: Path, log: str, supervise: Supervise) -> None:
    folder = tmp_path / "run"
    process = supervise(300)
    wait_for(lambda: quick_jobs_done(log) and committed(folder))
    with pytest.raises(ServiceError, match=f"Process {process.pid} .*Remedy"):
        LocalRunner(folder, 1).run(lambda: None, {"campaign_hash": "naps"})  # type: ignore[arg-type,return-value]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_for(lambda: alive(folder) == [])  # even without another run
    process = supervise(300)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert Counter(executions(log)) == {**ALL, "nap": 2}
    assert "nap had been interrupted" in output
    assert alive(folder) == []


def test_interrupted_supervisor(tmp_path: Path, log: str, supervise: Supervise) -> None:
    folder = tmp_path / "run"
    process = supervise(300)
    wait_for(lambda: quick_jobs_done(log) and committed(folder))
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM, output
    assert alive(folder) == []
    process = supervise(300)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert Counter(executions(log)) == {**ALL, "nap": 2}


def test_killed_mongod(tmp_path: Path, log: str, supervise: Supervise) -> None:
    folder = tmp_path / "run"
    process = supervise(300)
    wait_for(lambda: quick_jobs_done(log) and committed(folder))
    for server in alive_with(folder, "--dbpath"):
        server.kill()
    Path(f"{log}.wake").touch()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "mongod died" in output
    # Repeated only where its result was on its way when the server died.
    count = Counter(executions(log))
    assert count["nap"] <= 2
    assert {**count, "nap": 1} == ALL
    assert alive(folder) == []


def test_server_of_a_killed_supervisor_is_stopped(tmp_path: Path) -> None:
    first = PrivateMongod(tmp_path / "data")
    first.start()
    pid = first.pid
    second = PrivateMongod(tmp_path / "data")
    second.start()
    assert second.pid != pid
    assert len(alive_with(tmp_path, "--dbpath")) == 1
    second.stop()
    first.stop()
    assert alive(tmp_path) == []
    assert not second.record.exists()
