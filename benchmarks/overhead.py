"""Time per job: FireWorks alone, jobflow on FireWorks, and this package's submit and worker."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fireworks.core.rocket as fw_rocket
import jobflow
from fireworks import FiretaskBase, Firework, FWAction, FWorker, LaunchPad, Workflow
from fireworks.core.rocket_launcher import rapidfire
from fireworks.utilities.fw_utilities import explicit_serialize
from jobflow import Flow, JobStore, job
from jobflow.managers.fireworks import flow_to_workflow

from defect_mf_flows.launchpad.indexes import ensure_indexes
from defect_mf_flows.powerups import route, stamp
from defect_mf_flows.schemas.routing import Routing
from defect_mf_flows.site.connection import SiteWorkerLaunchPad
from defect_mf_flows.site.rocket import run_jobs
from defect_mf_flows.site.versions import ChoosyFWorker

CHUNK = 10
CATEGORIES = ["dft", "train", "search"]


@explicit_serialize
class Nothing(FiretaskBase):
    """A Firetask that does nothing."""

    _fw_name = "benchmark nothing"

    def run_task(self, fw_spec: dict[str, Any]) -> FWAction:
        """Do nothing."""
        return FWAction()


@job
def nothing() -> None:
    """Do nothing, as a job."""


class CountedLaunchPad(SiteWorkerLaunchPad):
    """A site worker's LaunchPad that reports an empty queue after some jobs."""

    left = 0

    def run_exists(self, fworker: FWorker | None = None) -> bool:
        """Whether a job is waiting and may still be run."""
        if self.left <= 0:
            return False
        self.left -= 1
        return bool(super().run_exists(fworker))


@dataclass
class Way:
    """One way of submitting and running empty jobs.

    Parameters
    ----------
    name
        For the table.
    submit
        Adds a number of jobs in one workflow.
    run
        Runs a number of jobs.
    """

    name: str
    submit: Callable[[int], None]
    run: Callable[[int], None]
    submitted: float = 0.0
    chunks: list[float] = field(default_factory=list)

    @property
    def per_job(self) -> float:
        """Median over chunks, seconds per job."""
        return statistics.median(self.chunks) / CHUNK


def measure(port: int, n_jobs: int, run: int, scratch: Path, journal: bool) -> list[Way]:
    """Submit as many jobs each way and run some of each, chunk by chunk in turn.

    Parameters
    ----------
    port
        Of a mongod on this machine.
    n_jobs
        Jobs of each workflow.
    run
        Jobs run of each; FireWorks takes longer per job in a larger workflow.
    scratch
        Folder for launch folders.
    journal
        Whether this package's clients wait for the journal, as they do in production.

    Returns
    -------
    list of Way
        The bare one first.
    """
    made = [
        _bare(port, n_jobs, scratch),
        _stock(port, n_jobs, scratch),
        _ours(port, n_jobs, scratch, journal),
    ]
    for way in made:
        began = time.perf_counter()
        way.submit(n_jobs)
        way.submitted = time.perf_counter() - began
    for _ in range(run // CHUNK):
        for way in made:
            began = time.perf_counter()
            way.run(CHUNK)
            way.chunks.append(time.perf_counter() - began)
    return made


def _launchpad(kind: type[LaunchPad], port: int, name: str, **options: Any) -> LaunchPad:
    launchpad = kind(
        host="127.0.0.1", port=port, name=name, strm_lvl="CRITICAL", mongoclient_kwargs=options
    )
    launchpad.reset("", require_password=False, max_reset_wo_password=10**9)
    launchpad.m_logger.setLevel("CRITICAL")
    return launchpad


def _store(port: int, name: str, **options: Any) -> JobStore:
    place = {
        "database": name,
        "host": "127.0.0.1",
        "port": port,
        "mongoclient_kwargs": options,
    }
    store = JobStore.from_dict_spec(
        {
            "docs_store": {"type": "MongoStore", "collection_name": "outputs", **place},
            "additional_stores": {
                "data": {"type": "GridFSStore", "collection_name": "outputs_blobs", **place}
            },
        }
    )
    store.connect()
    ensure_indexes(store)
    return store


def _rapidfire(launchpad: LaunchPad, fworker: FWorker, folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    fw_rocket.PRINT_FW_JSON = True  # FireWorks' default
    rapidfire(
        launchpad, fworker, m_dir=str(folder), nlaunches=count, sleep_time=0, strm_lvl="CRITICAL"
    )


def _bare(port: int, n_jobs: int, scratch: Path) -> Way:
    name = f"bare_{n_jobs}"
    launchpad = _launchpad(LaunchPad, port, name)

    def submit(count: int) -> None:
        launchpad.add_wf(Workflow([Firework(Nothing(), name=f"{i}") for i in range(count)]))

    return Way(
        "FireWorks, empty jobs",
        submit,
        lambda count: _rapidfire(launchpad, FWorker("bare"), scratch / name, count),
    )


def _flow(count: int) -> Flow:
    return Flow([nothing() for _ in range(count)], name="empty")


def _stock(port: int, n_jobs: int, scratch: Path) -> Way:
    name = f"stock_{n_jobs}"
    launchpad, store = _launchpad(LaunchPad, port, name), _store(port, name)

    def run(count: int) -> None:
        jobflow.SETTINGS.JOB_STORE = store
        _rapidfire(launchpad, FWorker("stock"), scratch / name, count)

    return Way(
        "jobflow on FireWorks",
        lambda count: launchpad.add_wf(flow_to_workflow(_flow(count))) and None,
        run,
    )


def _ours(port: int, n_jobs: int, scratch: Path, journal: bool) -> Way:
    name = f"ours_{n_jobs}"
    options = {"journal": True} if journal else {}
    launchpad = _launchpad(CountedLaunchPad, port, name, **options)
    assert isinstance(launchpad, CountedLaunchPad)
    store = _store(port, name, **options)
    root = scratch / name
    root.mkdir(parents=True, exist_ok=True)
    fworker = ChoosyFWorker(FWorker("ours", category=CATEGORIES), launchpad)

    def submit(count: int) -> None:
        flow = stamp(route(_flow(count), Routing(), ["low", "high"]), campaign="benchmark")
        launchpad.add_wf(flow_to_workflow(flow, metadata={"campaign": "benchmark"}))

    def run(count: int) -> None:
        jobflow.SETTINGS.JOB_STORE = store
        fw_rocket.PRINT_FW_JSON = False  # as our worker sets it
        launchpad.left = count
        here = Path.cwd()
        run_jobs(launchpad, fworker, root, idle=0.0, linger=0.001)
        os.chdir(here)
        if launchpad.left:
            raise RuntimeError(f"{launchpad.left} of {count} jobs were not run")

    return Way("this package", submit, run)
