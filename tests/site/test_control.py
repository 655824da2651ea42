"""Pause, resume and cancel, with jobs in every state and with real workers."""

from __future__ import annotations

from pathlib import Path

import pytest
from fireworks import Firework, FWAction, FWorker, Workflow
from jobs_for_tests import EmptyTask, dynamic_flow, executions, nap_flow

from defect_mf_flows.errors import SiteError
from defect_mf_flows.site.campaigns import find_campaign, get_campaign
from defect_mf_flows.site.control import cancel, pause, resume
from defect_mf_flows.site.submit import submit_flow
from tests.site.conftest import KEY
from tests.sites import Workers, ask, launches, states, wait_until

pytestmark = pytest.mark.mongod


def take(launchpad, worker="w", state="RUNNING", name=None):
    fw_id = None if name is None else launchpad.fireworks.find_one({"name": name})["fw_id"]
    return launchpad.checkout_fw(FWorker(worker), "/tmp", fw_id=fw_id, state=state)


def committed(launchpad):
    workflow = launchpad.workflows.find_one()
    names = {f["fw_id"]: f["name"] for f in launchpad.fireworks.find({}, {"fw_id": 1, "name": 1})}
    return {names[int(fw_id)]: state for fw_id, state in workflow["fw_states"].items()}


def test_resume_brings_back_exactly_what_was_paused(launchpad, submit, log):
    entry = submit(nap_flow(log, 1.0))
    by_hand = launchpad.fireworks.find_one({"name": "quick-2"})["fw_id"]
    launchpad.pause_fw(by_hand)
    take(launchpad, name="quick-0")
    _, launch_id = take(launchpad, name="quick-1", state="RESERVED")
    launchpad.set_reservation_id(launch_id, 4711)
    held = pause(launchpad, entry)
    expected = dict.fromkeys(["quick-1", "quick-2", "nap", "last"], "PAUSED")
    assert states(launchpad) == committed(launchpad) == {**expected, "quick-0": "RUNNING"}
    assert held.jobs == 3
    assert held.running == ("quick-0",)
    assert held.queue_jobs == ("4711",)
    pause(launchpad, get_campaign(launchpad, KEY))  # twice is as once
    assert resume(launchpad, get_campaign(launchpad, KEY)).jobs == 3
    assert (
        states(launchpad)
        == committed(launchpad)
        == {
            "quick-0": "RUNNING",
            "quick-1": "READY",
            "quick-2": "PAUSED",
            "nap": "READY",
            "last": "WAITING",
        }
    )
    # The queue job of the reservation that was taken back may still run it, once.
    assert take(launchpad, name="quick-1")[0] is not None
    assert take(launchpad, "other", name="quick-1")[0] is None


def test_a_resume_that_was_killed_can_be_done_again(launchpad, submit, log, monkeypatch):
    entry = submit(nap_flow(log, 1.0))
    launchpad.pause_fw(launchpad.fireworks.find_one({"name": "quick-2"})["fw_id"])
    pause(launchpad, entry)

    class KilledError(BaseException):
        pass

    def die(*arguments):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(launchpad, "_update_wf", die)
        with pytest.raises(KilledError):
            resume(launchpad, get_campaign(launchpad, KEY))
    assert resume(launchpad, get_campaign(launchpad, KEY)).jobs == 4
    paused = [name for name, state in states(launchpad).items() if state == "PAUSED"]
    assert paused == ["quick-2"]
    with pytest.raises(SiteError, match="only a paused"):
        resume(launchpad, get_campaign(launchpad, KEY))


def test_what_a_running_job_adds_to_a_paused_campaign_does_not_run(launchpad, submit):
    entry = submit_fireworks(launchpad)
    _, launch_id = take(launchpad, name="parent")
    pause(launchpad, entry)
    detour = Workflow([Firework([EmptyTask()], name="detour")])
    launchpad.complete_launch(launch_id, FWAction(detours=[detour]))
    expected = {"parent": "COMPLETED", "detour": "PAUSED", "child": "PAUSED"}
    assert states(launchpad) == committed(launchpad) == expected
    assert not launchpad.run_exists(FWorker("rlaunch"))
    resume(launchpad, get_campaign(launchpad, KEY))
    expected = {"parent": "COMPLETED", "detour": "READY", "child": "WAITING"}
    assert states(launchpad) == committed(launchpad) == expected


def submit_fireworks(launchpad):
    """A campaign of bare Fireworks: a parent and its child."""
    parent = Firework([EmptyTask()], name="parent", spec={"campaign_hash": KEY})
    child = Firework([EmptyTask()], name="child", parents=[parent], spec={"campaign_hash": KEY})
    launchpad.add_wf(Workflow([parent, child], metadata={"campaign_hash": KEY}))
    launchpad.db.campaigns.insert_one({"_id": KEY, "campaign": "bare", "state": "active"})
    return get_campaign(launchpad, KEY)


@pytest.mark.slow
def test_workers_stop_at_a_pause_and_go_on_after_it(site, launchpad, submit, log):
    submit(nap_flow(log, 600.0))
    with Workers(site) as workers:
        workers.start()
        wait_until(lambda: "nap" in executions(log), workers)
        ran = set(executions(log))
        assert "nap is" not in ask("pause", "test", "--site", site.folder)
        Path(f"{log}.wake").touch()
        wait_until(lambda: states(launchpad)["nap"] == "COMPLETED", workers)
        workers.start()
        with pytest.raises(AssertionError, match="waited in vain"):
            wait_until(lambda: set(executions(log)) != ran, seconds=4)
        assert "wait for their turn" in ask("resume", "test", "--site", site.folder)
        wait_until(lambda: states(launchpad)["last"] == "COMPLETED", workers)
    assert set(launches(launchpad).values()) == {1}


@pytest.mark.slow
def test_a_paused_dynamic_job_spawns_nothing_that_runs(site, launchpad, submit, log):
    submit(dynamic_flow(log))
    with Workers(site) as workers:
        workers.start()
        wait_until(lambda: any(name == "fan_out" for name in executions(log)), workers)
        ask("pause", "test", "--site", site.folder)
        wait_until(lambda: "RUNNING" not in states(launchpad).values(), workers)
        assert not launchpad.run_exists(FWorker("rlaunch"))
        ask("resume", "test", "--site", site.folder)
        done = {"COMPLETED"}
        wait_until(lambda: set(states(launchpad).values()) == done, workers)
    assert set(launches(launchpad).values()) == {1}


def test_a_cancelled_campaign_goes_on_when_it_is_submitted_again(launchpad, submit, log, site):
    flow = nap_flow(log, 1.0)
    entry = submit(flow)
    take(launchpad, name="quick-0")
    held = cancel(launchpad, entry)
    assert (held.jobs, held.running) == (4, ("quick-0",))
    with pytest.raises(SiteError, match="was cancelled"):
        pause(launchpad, get_campaign(launchpad, KEY))
    assert "cancelled" in ask("status", KEY, "--site", site.folder)
    again = submit_flow(nap_flow(log, 1.0), launchpad, KEY, "test")
    assert (again.resumed, again.jobs) == (True, 4)
    assert launchpad.workflows.count_documents({}) == 1
    assert states(launchpad)["quick-0"] == "RUNNING"
    assert states(launchpad)["quick-1"] == "READY"


def test_cancel_asks_first(site, launchpad, submit, log):
    submit(nap_flow(log, 1.0))
    assert "Aborted" in ask("cancel", "test", "--site", site.folder, code=1)
    assert get_campaign(launchpad, KEY).state == "active"
    assert "will not run" in ask("cancel", "test", "--site", site.folder, "--yes")
    assert get_campaign(launchpad, KEY).state == "cancelled"


def test_a_campaign_is_found_by_file_name_and_hash(launchpad, submit, log, tiny_campaign):
    entry = submit(nap_flow(log, 1.0))
    assert find_campaign(launchpad, "test") == find_campaign(launchpad, KEY[:8]) == entry
    with pytest.raises(SiteError, match="was not submitted"):
        find_campaign(launchpad, str(tiny_campaign))
    with pytest.raises(SiteError, match="no file, and no name"):
        find_campaign(launchpad, ".*")
    submit(nap_flow(log, 1.0), key="f" * 16)
    with pytest.raises(SiteError, match="2 campaigns are called"):
        find_campaign(launchpad, "test")
