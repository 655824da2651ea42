"""Real worker processes: races, walltimes, reservations, a server that goes away."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from fireworks import FWorker
from jobflow import Flow
from jobs_for_tests import double, executions, meet, nap_flow

from defect_mf_flows.local.mongod import PrivateMongod
from defect_mf_flows.powerups import route, stamp
from defect_mf_flows.schemas.routing import Routing
from defect_mf_flows.site.campaigns import get_campaign
from defect_mf_flows.site.control import pause
from defect_mf_flows.site.losses import losses
from defect_mf_flows.site.submit import submit_flow
from defect_mf_flows.testing import write_campaign
from tests.site.conftest import KEY
from tests.sites import Workers, ask, command, environment, launches, states, wait_until, write_site

pytestmark = [pytest.mark.mongod, pytest.mark.slow]


def test_two_submissions_at_once_add_one_campaign(site, launchpad, tmp_path):
    campaign = write_campaign(tmp_path)
    call = command("submit", campaign, "--site", site.folder)
    both = [
        subprocess.Popen(call, env=environment(), stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], said
    assert "submitted already" in "".join(said)
    assert launchpad.workflows.count_documents({}) == 1
    nodes = launchpad.workflows.find_one()["nodes"]
    assert launchpad.fireworks.count_documents({}) == len(nodes)


def test_workers_that_race_for_jobs_run_each_once(site, launchpad, submit, log):
    quick = [double(i, log) for i in range(22)]
    meetings = [meet(log, 2) for _ in range(2)]  # one worker alone cannot end them
    for kind, jobs in (("job", quick), ("meet", meetings)):
        for i, one in enumerate(jobs):
            one.name = f"{kind}-{i}"
    submit(Flow([*quick, *meetings]))
    with Workers(site) as workers:
        for _ in range(3):
            workers.start(linger=0.0)
        for process in workers.processes:
            assert process.wait(timeout=300) == 0, workers.texts()[-3000:]
    assert set(states(launchpad).values()) == {"COMPLETED"}
    names = [*(f"job-{i}" for i in range(22)), "meet-0", "meet-1"]
    assert Counter(executions(log)) == dict.fromkeys(names, 1)
    assert len(launchpad.launches.distinct("fworker.name")) > 1


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGUSR1])
def test_the_walltime_ends_a_job_that_then_goes_on_elsewhere(site, launchpad, submit, log, ending):
    submit(nap_flow(log, 600.0))
    with Workers(site) as workers:
        process = workers.start()
        wait_until(lambda: "nap" in executions(log), workers)
        process.send_signal(ending)
        assert process.wait(timeout=60) == 128 + ending
        assert states(launchpad)["nap"] == "READY"
        workers.start()
        wait_until(lambda: set(states(launchpad).values()) == {"COMPLETED"}, workers)
    assert losses(launchpad, launchpad.workflows.find_one()["nodes"]) == {"walltime": 1}
    assert launches(launchpad) == {"quick-0": 1, "quick-1": 1, "quick-2": 1, "nap": 2, "last": 1}
    assert "1 by walltime" in ask("status", "test", "--site", site.folder)


def test_a_reserved_job_runs_once_and_only_while_its_campaign_is_active(
    site, launchpad, submit, log
):
    submit(Flow([double(1, log)]))
    job, _ = launchpad.reserve_fw(FWorker("queue"), "/tmp")
    with Workers(site) as workers:
        assert workers.start("singleshot", "--fw_id", job.fw_id).wait(timeout=120) == 0
        assert states(launchpad) == {"double": "COMPLETED"}
        assert workers.start("singleshot", "--fw_id", job.fw_id).wait(timeout=120) == 0
    assert executions(log) == ["double"]


def test_a_job_reserved_while_its_campaign_is_paused_is_not_run(site, launchpad, submit, log):
    entry = submit(Flow([double(1, log)]))
    # FireWorks' own qlaunch does not look into our collection, so it may come first.
    launchpad.db.campaigns.update_one({"_id": KEY}, {"$set": {"state": "paused"}})
    job, _ = launchpad.reserve_fw(FWorker("queue"), "/tmp")
    with Workers(site) as workers:
        assert workers.start("singleshot", "--fw_id", job.fw_id).wait(timeout=120) == 0
        assert "paused or cancelled" in workers.texts()
    assert executions(log) == []
    pause(launchpad, get_campaign(launchpad, entry.key))
    assert states(launchpad) == {"double": "PAUSED"}


def test_a_server_that_is_away_costs_nothing(tmp_path, log):
    """mongod is killed while workers run and idle, and comes back after a while."""
    with PrivateMongod(tmp_path / "mongo") as server:
        site = write_site(tmp_path / "site", server.port)
        launchpad = site.launchpad()
        flow = nap_flow(log, 600.0)
        stamp(route(flow, Routing()), campaign_hash=KEY)
        submit_flow(flow, launchpad, KEY, "test")
        with Workers(site) as workers:
            workers.start()
            wait_until(lambda: "nap" in executions(log), workers)
            workers.start()
            wait_until(lambda: list(states(launchpad).values()).count("COMPLETED") == 3, workers)
            os.kill(server.pid, signal.SIGKILL)
            Path(f"{log}.wake").touch()  # the job ends while nobody is there to be told
            assert "cannot be reached" in ask("status", "test", "--site", site.folder, code=1)
            server.ensure_running()
            wait_until(lambda: set(states(launchpad).values()) == {"COMPLETED"}, workers)
        assert set(Counter(executions(log)).values()) == {1}
