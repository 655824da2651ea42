"""Parts that need no server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from jobflow import Flow, run_locally
from jobs_for_tests import dynamic_flow

from defect_mf_flows.errors import ServiceError
from defect_mf_flows.launchpad.progress import StageProgress, _remaining
from defect_mf_flows.local.locks import FolderLock
from defect_mf_flows.local.mongod import find_mongod
from defect_mf_flows.local.printer import duration
from defect_mf_flows.local.store import disk_job_store
from defect_mf_flows.local.worker import make_fworker

READ = """
import sys
from defect_mf_flows.local.store import disk_job_store
store = disk_job_store(sys.argv[1])
store.connect()
document = store.query_one({"name": "blob"})
print(store.query_one({"name": "last"})["output"], len(document["output"]["big"]["blob_uuid"]))
print(store.get_output(document["uuid"], load=True)["big"][-1])
store.remove_docs({"name": "last"})
"""


def test_disk_store_outlives_its_process(tmp_path: Path, env: dict[str, str], log: str) -> None:
    store = disk_job_store(tmp_path)
    flow: Flow = dynamic_flow(log)
    run_locally(flow, store=store, ensure_success=True, root_dir=tmp_path / "jobs", log=False)
    command = [sys.executable, "-c", READ, str(tmp_path)]
    done = subprocess.run(
        command, env={**os.environ, **env}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["2013", "36", "1999"]
    again = disk_job_store(tmp_path)
    again.connect()
    assert again.query_one({"name": "last"}) is None
    assert again.count() == store.count() - 1


def test_folder_lock_refuses_the_second(tmp_path: Path) -> None:
    with FolderLock(tmp_path / "lock", "run"):
        with pytest.raises(ServiceError, match=f"Process {os.getpid()} .* Remedy"):
            FolderLock(tmp_path / "lock", "run").__enter__()
        assert FolderLock(tmp_path / "lock", "read").holder()["role"] == "run"
    with FolderLock(tmp_path / "lock", "run"):
        pass


def test_configured_mongod_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="Remedy"):
        find_mongod(str(tmp_path / "none"))
    executable = tmp_path / "mongod"
    executable.touch(mode=0o755)
    assert find_mongod(str(executable)) == executable


def test_missing_mongod_names_the_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("defect_mf_flows.local.mongod._embedded_mongod", lambda: None)
    with pytest.raises(ServiceError, match=r"embedded.*--serial"):
        find_mongod()


def test_categories() -> None:
    assert "spec._category" not in make_fworker("w", []).query
    assert make_fworker("w", ["learn"]).query["spec._category"] == {"$in": ["learn"]}
    assert "$and" in make_fworker("w", ["learn", "__none__"]).query


def test_remaining_time() -> None:
    known = StageProgress(total=5, done=2, running=1, mean_seconds=10.0)
    assert _remaining([known], 2) == pytest.approx(12.5)
    assert _remaining([known, StageProgress(total=1)], 2) is None
    assert _remaining([], None) == 0.0


def test_durations() -> None:
    assert [duration(s) for s in (5.2, 65, 3900)] == ["5 s", "1 min 05 s", "1 h 05 min"]
