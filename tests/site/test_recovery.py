"""What killed processes leave behind is found and mended while others are at work."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from fireworks import Firework, FWAction, FWorker, Workflow
from fireworks.core.launchpad import LockedWorkflowError
from jobs_for_tests import EmptyTask

from defect_mf_flows.launchpad.failures import stacktrace
from defect_mf_flows.site.launchpad import SiteLock
from defect_mf_flows.site.losses import Cause, losses
from defect_mf_flows.site.recovery import give_back, inspect, recover, release_reservation
from tests.site.test_control import committed, submit_fireworks, take
from tests.sites import launches, states

pytestmark = pytest.mark.mongod
DONE = {"parent": "COMPLETED", "detour": "READY", "child": "WAITING"}


class KilledError(BaseException):
    pass


def no_queue():
    return None


@pytest.fixture
def entry(launchpad):
    return submit_fireworks(launchpad)


def die_after(launchpad, monkeypatch, writes):
    """Complete a job in a process that dies after so many writes of the step."""
    launchpad.holder = "w"
    _, launch_id = take(launchpad, "w", name="parent")
    detour = Firework([EmptyTask()], name="detour", spec={"campaign_hash": "0123456789abcdef"})
    count = iter(range(100))
    kind = type(launchpad.fireworks)
    with monkeypatch.context() as patch:
        for method in ("find_one_and_replace", "replace_one", "update_one"):
            real = getattr(kind, method)

            def dying(collection, *args, _real=real, **kwargs):
                step = collection.name in ("fireworks", "workflows")
                if step and next(count) >= writes:
                    raise KilledError
                return _real(collection, *args, **kwargs)

            patch.setattr(kind, method, dying)
        with pytest.raises(KilledError):
            launchpad.complete_launch(launch_id, FWAction(detours=[Workflow([detour])]))
    launchpad._token = None
    launchpad.holder = ""


# Writes of the step: the lock, parent, detour, workflow; the lock's release is the fifth.
@pytest.mark.parametrize("writes", range(5))
def test_a_step_is_done_once_wherever_its_process_dies(launchpad, entry, monkeypatch, writes):
    die_after(launchpad, monkeypatch, writes)
    assert give_back(launchpad, "w", Cause.MEMORY) == []
    assert states(launchpad) == committed(launchpad) == DONE
    assert "locked" not in launchpad.workflows.find_one()
    assert launches(launchpad) == {"parent": 1, "detour": 0, "child": 0}
    assert give_back(launchpad, "w", Cause.MEMORY) == []


@pytest.mark.parametrize("writes", range(1, 5))
def test_retry_mends_it_when_the_supervisor_died_too(launchpad, entry, monkeypatch, writes):
    monkeypatch.setattr("defect_mf_flows.site.launchpad.STALE_SECONDS", 0.2)
    die_after(launchpad, monkeypatch, writes)
    time.sleep(0.4)
    found = inspect(launchpad, entry, no_queue)
    assert found.stale_lock == "w"
    assert found.any
    mended = recover(launchpad, entry, no_queue)
    assert (mended.torn, mended.orphans) == (found.torn, found.orphans)
    assert states(launchpad) == committed(launchpad) == DONE
    assert not inspect(launchpad, entry, no_queue).any


def test_living_workers_are_left_alone(launchpad, entry):
    take(launchpad, "gpu@node.1", name="parent")
    assert not inspect(launchpad, entry, no_queue).any
    assert not recover(launchpad, entry, no_queue).any
    assert states(launchpad)["parent"] == "RUNNING"


def silence(launchpad, hours):
    """Let the last sign of every launch lie in the past."""
    past = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
    for launch in launchpad.launches.find():
        history = [{**s, "created_on": past, "updated_on": past} for s in launch["state_history"]]
        launchpad.launches.update_one({"_id": launch["_id"]}, {"$set": {"state_history": history}})


@pytest.mark.parametrize(("worker", "hours"), [("dft@node7.812", 0.5), ("rlaunch", 5.0)])
def test_a_silent_worker_loses_its_job(launchpad, entry, worker, hours):
    take(launchpad, worker, name="parent")
    silence(launchpad, hours)
    assert [run.worker for run in inspect(launchpad, entry, no_queue).lost] == [worker]
    assert states(launchpad)["parent"] == "RUNNING"
    recover(launchpad, entry, no_queue)
    assert states(launchpad) == committed(launchpad) == {"parent": "READY", "child": "WAITING"}
    assert losses(launchpad, [1, 2]) == {"vanished": 1}


def test_fireworks_own_workers_may_be_silent_for_an_hour(launchpad, entry):
    take(launchpad, "rlaunch", name="parent")
    silence(launchpad, 1.0)
    assert not inspect(launchpad, entry, no_queue).any


def test_a_reservation_without_a_queue_job_is_released(launchpad, entry):
    _, launch_id = take(launchpad, name="parent", state="RESERVED")
    launchpad.set_reservation_id(launch_id, 81)
    assert not inspect(launchpad, entry, no_queue).any  # the queue is not known here
    assert not inspect(launchpad, entry, lambda: {"80", "81"}).any
    assert len(inspect(launchpad, entry, lambda: {"80"}).unreserved) == 1
    assert states(launchpad)["parent"] == "RESERVED"
    recover(launchpad, entry, lambda: {"80"})
    assert states(launchpad) == committed(launchpad) == {"parent": "READY", "child": "WAITING"}
    parent = launchpad.fireworks.find_one({"name": "parent"})["fw_id"]
    assert release_reservation(launchpad, parent) is None


def test_losses_are_counted_by_cause_and_walltimes_are_not_limited(launchpad, entry):
    for number in range(5):
        take(launchpad, f"w{number}", name="parent")
        (fw_id,) = give_back(launchpad, f"w{number}", Cause.WALLTIME)
        assert states(launchpad)["parent"] == "READY"
    for number in range(3):
        assert states(launchpad)["parent"] == "READY"
        take(launchpad, f"m{number}", name="parent")
        give_back(launchpad, f"m{number}", Cause.MEMORY)
    assert states(launchpad)["parent"] == "FIZZLED"
    assert losses(launchpad, [fw_id]) == {"walltime": 5, "memory": 3}
    assert "lost so 3 times" in stacktrace(launchpad, fw_id)[0]


def test_a_checkout_that_was_killed_is_undone(launchpad, entry, monkeypatch):
    def die(*args, **kwargs):
        raise KilledError

    parent = launchpad.fireworks.find_one({"name": "parent"})["fw_id"]
    with monkeypatch.context() as patch:
        patch.setattr(launchpad, "_upsert_fws", die)
        with pytest.raises(KilledError):
            launchpad.checkout_fw(FWorker("w"), "/tmp")
    assert states(launchpad)["parent"] == "RESERVED"
    assert give_back(launchpad, "w", Cause.CRASH) == [parent]
    assert states(launchpad)["parent"] == "READY"
    assert give_back(launchpad, "w", Cause.CRASH) == []


def test_a_lock_that_was_taken_over_cannot_be_written_through(launchpad, entry, monkeypatch):
    launchpad.holder = "slow"
    with SiteLock(launchpad, 1):
        workflow = launchpad.get_wf_by_fw_id_lzyfw(1)
        monkeypatch.setattr("defect_mf_flows.site.launchpad.STALE_SECONDS", 0.0)
        token = launchpad._token
        launchpad.holder = "other"
        with SiteLock(launchpad, 1):
            launchpad._token, other = token, launchpad._token
            with pytest.raises(LockedWorkflowError, match="taken over"):
                launchpad._update_wf(workflow, [1])
            launchpad._token = other
            launchpad._update_wf(workflow, [1])
    assert "locked" not in launchpad.workflows.find_one()
