"""A campaign through qlaunch and Slurm: who runs what, and what survives a queue that kills.

``make test-integration`` runs this; it needs root, and installs Slurm first. Nothing here is a
stand-in: munge, slurmctld, slurmd, mongod, qlaunch, workers, tblite and MACE are real.
"""

from __future__ import annotations

import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from slurm_cluster import SlurmCluster, wait_until, why_not
from slurm_site import ROUTING, SlurmSite

from defect_mf_flows.jobs.common import Stage
from defect_mf_flows.local.mongod import PrivateMongod
from defect_mf_flows.results import CampaignResults
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.testing import write_campaign

pytestmark = [pytest.mark.slurm, pytest.mark.mongod, pytest.mark.slow]

LIMIT = 1200
#: What the last step of a relaxation to these loose limits is worth, eV.
A_STEP = 0.02
#: So many epochs that a training can be caught in the middle.
CHANGES = {"training.max_epochs": 40}


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    reason = why_not()
    if reason is not None:
        pytest.skip(f"NO SLURM, NOTHING OF IT IS TESTED: {reason}")

    def terminated(*_: object) -> None:
        pytest.exit("terminated")  # as by Ctrl-C: what was started is stopped

    before = signal.signal(signal.SIGTERM, terminated)
    try:
        with SlurmCluster() as started:
            yield started
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateMongod]:
    with PrivateMongod(tmp_path_factory.mktemp("mongod") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def new_site(
    cluster: SlurmCluster, mongod: PrivateMongod, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], SlurmSite]:
    folder = tmp_path_factory.mktemp("sites")
    return lambda name: SlurmSite(folder / name, cluster, mongod.port)


@pytest.fixture(scope="module")
def here(run_campaign_here: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same campaign under ``run_locally``, in this process."""
    return run_campaign_here(tmp_path_factory.mktemp("here"), CHANGES)


@pytest.fixture(scope="module")
def through_slurm(
    new_site: Callable[[str], SlurmSite], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[SlurmSite, str]]:
    """The campaign through the queue, undisturbed."""
    with new_site("undisturbed") as site:
        key = site.submit(write_campaign(tmp_path_factory.mktemp("campaign"), CHANGES))
        site.launch()
        site.finish(LIMIT)
        yield site, key


# -- what a job should have asked for --------------------------------------------------


def kind_of(name: str) -> str:
    """Kind of a job, from its name alone: not the rule that the package routes by."""
    if name.endswith("| output"):  # passes on what the job of that name's jobs found
        return "bookkeeping"
    if re.search(r"\| gfn1 (relax|static)$", name):
        return "reference"
    if re.search(r"\| gfn2 (relax|static)$", name):
        return "gfn2"
    if re.search(r"\btrain", name):
        return "training"
    if re.search(r"\| search \d|\bverif", name):
        return "search"
    return "bookkeeping"


def expected(kind: str) -> dict[str, Any]:
    return ROUTING["fidelities"][kind] if kind in ROUTING["fidelities"] else ROUTING[kind]


def ended(cluster: SlurmCluster, queue_job: str) -> dict[str, str]:
    """What Slurm says of a job whose Firework is done: its process may still be leaving."""
    leaving = ("RUNNING", "COMPLETING")
    wait_until(lambda: cluster.show(queue_job)["JobState"] not in leaving, 60, queue_job)
    return cluster.show(queue_job)


def same_results(one: Any, other: Any, *, within: float = 1e-3) -> None:
    """Equal within eV, and in every choice."""
    for a, b in zip(one.ground_states, other.ground_states, strict=True):
        assert (a.defect, a.charge, a.verdict, a.start) == (b.defect, b.charge, b.verdict, b.start)
        for field in ("energy_hf", "energy_model"):
            assert getattr(a, field) == pytest.approx(getattr(b, field), abs=within)
    for a, b in zip(one.transition_levels, other.transition_levels, strict=True):
        assert a.hf == pytest.approx(b.hf, abs=within)
        assert a.model == pytest.approx(b.model, abs=within)


def frames_of(api: CampaignResults, **filters: Any) -> Counter[tuple[str, str]]:
    """How often each frame, by its content and fidelity, is in the store."""
    return Counter((frame.fidelity, frame.content_hash) for frame in api.frames(**filters))


def verified(api: CampaignResults) -> dict[tuple[str | None, int, str], float]:
    """Final energy of every calculation of the verification."""
    done = api.documents(Calculation, stage=Stage.VERIFICATION.value)
    found = {(c.defect, c.charge, c.start): c.final_energy for c in done}
    return {key: energy for key, energy in found.items() if energy is not None}


# -- undisturbed -----------------------------------------------------------------------


def test_every_job_ran_where_it_should_with_the_limits_it_asked_for(
    through_slurm: tuple[SlurmSite, str], cluster: SlurmCluster
) -> None:
    site, _ = through_slurm
    kinds: Counter[str] = Counter()
    for job in site.jobs({}):
        kind = kind_of(job["name"])
        kinds[kind] += 1
        wanted = expected(kind)
        gpu = "gpus" in wanted
        (launch,) = site.launches(job)
        assert job["spec"]["_category"] == wanted["category"], job["name"]
        assert launch["fworker"]["name"].split("@")[0] == ("gpu" if gpu else "dft"), job["name"]
        queued = ended(cluster, site.queue_job(launch))
        assert queued["JobState"] == "COMPLETED", job["name"]
        assert queued["Partition"] == ("gpu" if gpu else "cpu"), job["name"]
        assert queued["TimeLimit"] == wanted["walltime"], job["name"]
        assert queued["CPUs/Task"] == str(wanted["cpus_per_task"]), job["name"]
        assert queued.get("TresPerNode") == ("gres:gpu:1" if gpu else None), job["name"]
        assert queued["MinMemoryNode"] == wanted.get("mem", "0"), job["name"]
        script = Path(queued["Command"]).read_text()
        assert f"#SBATCH --time={wanted['walltime']}\n" in script
        assert Path(launch["launch_dir"]) == Path(queued["WorkDir"])
    assert set(kinds) == {"bookkeeping", "reference", "gfn2", "training", "search"}
    assert kinds["reference"] >= 4
    assert kinds["gfn2"] >= 4


def test_the_queue_changes_no_result(through_slurm: tuple[SlurmSite, str], here: Any) -> None:
    site, key = through_slurm
    same_results(site.results(key), here.results)
    assert site.results(key).counts == here.results.counts
    assert frames_of(site.api(key)) == frames_of(here.api)


# -- a queue that kills ----------------------------------------------------------------


def losses(site: SlurmSite, pattern: str) -> int:
    """Starts of jobs that did not end by themselves."""
    jobs = site.jobs({"name": {"$regex": pattern}})
    return sum(len(job.get("archived_launches", [])) for job in jobs)


def running(site: SlurmSite, pattern: str) -> list[tuple[int, str]]:
    """Firework ids and queue jobs of what runs now."""
    site.check()
    found = site.jobs({"name": {"$regex": pattern}, "state": "RUNNING"})
    return [(job["fw_id"], site.queue_job(site.launches(job)[-1])) for job in found]


def epochs(site: SlurmSite) -> int:
    """Epochs of the training that are written down."""
    found = (site.folder / "scratch" / "training").glob("*/history.jsonl")
    return max((len(path.read_text().splitlines()) for path in found), default=0)


def scancel_until_lost(site: SlurmSite, cluster: SlurmCluster, pattern: str) -> None:
    """Cancel a running job; where it was faster than ``scancel``, the next one."""
    deadline = time.monotonic() + LIMIT
    while not losses(site, pattern):
        assert time.monotonic() < deadline, site.logs()
        assert not site.jobs({"name": {"$regex": "results"}, "state": "COMPLETED"}), "too late"
        for _, queue_job in running(site, pattern):
            cluster.command("scancel", queue_job)
            wait_until(
                lambda j=queue_job: cluster.show(j)["JobState"] in ("CANCELLED", "COMPLETED"),
                60,
                f"the end of queue job {queue_job}",
            )
        time.sleep(0.05)


def reach_walltime(site: SlurmSite, cluster: SlurmCluster) -> None:
    """Let the running training hang until Slurm's shortest limit, a minute, ends it."""
    _, queue_job = next(iter(running(site, "train")))
    workers = [p for p in cluster.processes(queue_job) if "train_worker" in " ".join(p.cmdline())]
    assert workers, "no training process"
    for process in workers:
        process.suspend()
    cluster.command("scontrol", "update", f"JobId={queue_job}", "TimeLimit=1")
    wait_until(lambda: cluster.show(queue_job)["JobState"] == "TIMEOUT", 240, "the walltime")
    # The state is known before the last process is gone.
    wait_until(lambda: not any(p.is_running() for p in workers), 60, "a training that outlives it")


def crash_the_node(site: SlurmSite, cluster: SlurmCluster, pattern: str) -> str:
    """Kill a running job, its step manager and slurmd at once; start slurmd again later."""
    wait_until(lambda: running(site, pattern), LIMIT, f"a running {pattern}\n{site.logs()}")
    _, queue_job = running(site, pattern)[0]
    cluster.crash_node(queue_job)
    time.sleep(25)  # slurmctld takes a younger job for one that has yet to start
    cluster.start_slurmd()
    return queue_job


def test_killed_jobs_are_given_back_and_the_campaign_ends_the_same(
    new_site: Callable[[str], SlurmSite],
    cluster: SlurmCluster,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    with new_site("disturbed") as site:
        key = site.submit(write_campaign(tmp_path, CHANGES))
        site.launch()
        scancel_until_lost(site, cluster, r"gfn1 relax$")
        wait_until(lambda: epochs(site) >= 3, LIMIT, f"a training\n{site.logs()}")
        scancel_until_lost(site, cluster, "train")
        reached = epochs(site)
        wait_until(lambda: epochs(site) > reached, LIMIT, f"a continued training\n{site.logs()}")
        reach_walltime(site, cluster)
        assert losses(site, "train") == 2
        crashed = crash_the_node(site, cluster, r"\| search \d")
        site.finish(LIMIT)

        assert cluster.show(crashed)["Restarts"] == "1"
        assert losses(site, r"\| search \d") == 1
        here = request.getfixturevalue("here")  # only now: it would keep the cluster waiting
        steps = [(f.lineage.calculation, f.lineage.step) for f in site.api(key).frames()]
        assert len(set(steps)) == len(steps), "a frame is there twice"
        before = [Stage.LOW.value, Stage.HIGH.value]
        assert frames_of(site.api(key), stage=before) == frames_of(here.api, stage=before)
        # A training that went on ends alike, but not to the last bit; what relaxes from its minima
        # can end a step earlier or later.
        assert verified(site.api(key)) == pytest.approx(verified(here.api), abs=A_STEP)
        same_results(site.results(key), here.results, within=A_STEP)
        mine, theirs = site.results(key).counts, here.results.counts
        assert {**mine, "frames": None} == {**theirs, "frames": None}
        assert mine["frames"]["gfn1"] == theirs["frames"]["gfn1"]
