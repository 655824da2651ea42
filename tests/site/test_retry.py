"""Only what failed runs again; versions do not mix unless somebody says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from jobflow import Flow
from jobs_for_tests import double, executions, needs_file, suicide, total

from defect_mf_flows.errors import VersionError
from defect_mf_flows.powerups import VERSION_KEY, package_version
from defect_mf_flows.site.control import pause
from defect_mf_flows.site.retry import retry
from defect_mf_flows.site.versions import other_versions
from tests.sites import Workers, ask, launches, states, wait_until

pytestmark = [pytest.mark.mongod, pytest.mark.slow]


@pytest.fixture
def needing(log, tmp_path):
    """Two jobs that succeed, two that need a file, and one below them all."""
    quick = [double(i, log) for i in range(2)]
    late = [needs_file(str(tmp_path / "wanted"), log) for _ in range(2)]
    for i, one in enumerate(quick):
        one.name = f"quick-{i}"
    for i, one in enumerate(late):
        one.name = f"late-{i}"
    last = total([one.output for one in quick], log)
    last.name = "last"
    after = double(late[0].output, log)
    after.name = "after"
    return Flow([*quick, *late, last, after])


def over(launchpad):
    return not {"READY", "RUNNING", "RESERVED"} & set(states(launchpad).values())


def test_only_what_failed_runs_again(site, launchpad, submit, needing, log, tmp_path):
    submit(needing)
    with Workers(site) as workers:
        workers.start()
        wait_until(lambda: over(launchpad), workers)
        shown = ask("status", "test", "--site", site.folder)
        assert "failed" in shown
        assert "fizzled: 2 x RuntimeError:" in shown
        assert "late-0" in shown
        Path(tmp_path / "wanted").touch()
        answer = ask("retry", "test", "--site", site.folder)
        assert answer.count("runs again: late-") == 2
        assert "is not there yet" in answer
        wait_until(lambda: set(states(launchpad).values()) == {"COMPLETED"}, workers)
    assert launches(launchpad) == {
        "quick-0": 1, "quick-1": 1, "late-0": 2, "late-1": 2, "last": 1, "after": 1,
    }  # fmt: skip
    assert len(executions(log)) == 8


def test_a_job_that_kills_its_worker_is_given_up_and_can_be_retried(site, launchpad, submit, log):
    entry = submit(Flow([suicide(log), double(1, log)]))
    with Workers(site) as workers:
        workers.start()
        wait_until(lambda: states(launchpad).get("suicide") == "FIZZLED", workers)
        wait_until(lambda: states(launchpad)["double"] == "COMPLETED", workers)
        assert executions(log).count("suicide") == 3
        shown = ask("status", "test", "--site", site.folder)
        assert "lost and given back so far: 3 by memory" in shown
        retry(launchpad, entry)
        wait_until(lambda: executions(log).count("suicide") == 6, workers)
        wait_until(lambda: states(launchpad).get("suicide") == "FIZZLED", workers)
    assert executions(log).count("double") == 1


def test_retry_of_a_paused_campaign_keeps_it_paused(site, launchpad, submit, needing, tmp_path):
    entry = submit(needing)
    with Workers(site) as workers:
        workers.start()
        wait_until(lambda: over(launchpad), workers)
        pause(launchpad, entry)
        assert "nothing runs before" in ask("retry", "test", "--site", site.folder)
        assert states(launchpad)["late-0"] == "PAUSED"
        Path(tmp_path / "wanted").touch()
        ask("resume", "test", "--site", site.folder)
        wait_until(lambda: set(states(launchpad).values()) == {"COMPLETED"}, workers)


def make_old(launchpad):
    """Let the unfinished jobs be of a version that nobody has."""
    place = "spec._tasks.0.job"
    for job in list(launchpad.fireworks.find({}, {"spec._tasks.job.metadata_updates": 1})):
        updates = job["spec"]["_tasks"][0]["job"]["metadata_updates"]
        change = {f"spec.{VERSION_KEY}": "0.0.1", f"{place}.metadata.{VERSION_KEY}": "0.0.1"}
        for i, update in enumerate(updates):
            if VERSION_KEY in update["update"]:
                change[f"{place}.metadata_updates.{i}.update.{VERSION_KEY}"] = "0.0.1"
        launchpad.fireworks.update_one({"_id": job["_id"]}, {"$set": change})


def test_jobs_of_another_version_wait_and_can_be_moved(site, launchpad, submit, log):
    from jobs_for_tests import fan_out

    entry = submit(Flow([fan_out(2, log)]))
    make_old(launchpad)
    with Workers(site) as workers:
        workers.start()
        wait_until(lambda: "1 jobs wait for version 0.0.1" in workers.texts(), workers)
        assert executions(log) == []
        with pytest.raises(VersionError, match=r"1 of version 0\.0\.1.*--this-version"):
            retry(launchpad, entry)
        assert "of version 0.0.1" in ask("status", "test", "--site", site.folder)
        answer = ask("retry", "test", "--site", site.folder, "--this-version")
        assert "1 unfinished jobs were moved" in answer
        wait_until(lambda: set(states(launchpad).values()) == {"COMPLETED"}, workers)
    versions = launchpad.fireworks.distinct(f"spec.{VERSION_KEY}")
    assert versions == [package_version()]  # also those that were spawned
    assert launchpad.fireworks.count_documents({}) == 5
    assert other_versions(launchpad, entry.key) == {}


def test_a_reserved_job_of_another_version_is_refused_and_not_lost(site, launchpad, submit, log):
    from fireworks import FWorker

    submit(Flow([double(1, log)]))
    make_old(launchpad)
    job, launch_id = launchpad.reserve_fw(FWorker("queue"), "/tmp")
    launchpad.set_reservation_id(launch_id, 7)
    with Workers(site) as workers:
        process = workers.start("singleshot", "--fw_id", job.fw_id)
        assert process.wait(timeout=120) == 1
        assert "the reservation is given back" in workers.texts()
    assert states(launchpad) == {"double": "READY"}
    assert executions(log) == []
