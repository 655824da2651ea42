"""Run a flow to its end on one machine, through a LaunchPad that survives every kill."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobflow import Flow
from jobflow.managers.fireworks import flow_to_workflow
from pymongo.errors import PyMongoError

from defect_mf_flows.errors import ServiceError
from defect_mf_flows.launchpad.failures import lost_connection, stacktrace
from defect_mf_flows.launchpad.indexes import ensure_indexes
from defect_mf_flows.launchpad.progress import (
    Progress,
    ProgressTracker,
    find_workflow,
    workflow_progress,
)
from defect_mf_flows.local.connection import connect
from defect_mf_flows.local.launchpad import LocalLaunchPad
from defect_mf_flows.local.layout import Layout
from defect_mf_flows.local.locks import FolderLock
from defect_mf_flows.local.mongod import PrivateMongod, find_mongod
from defect_mf_flows.local.printer import ProgressPrinter
from defect_mf_flows.local.recovery import release_stuck, repair
from defect_mf_flows.local.signals import StopSignals
from defect_mf_flows.local.store import local_job_store
from defect_mf_flows.local.workers import WorkerPool, usable_cores

__all__ = ["LocalRunner", "Progress", "ProgressPrinter", "connect", "workflow_progress"]

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
AWAY_SECONDS = 120.0
MAX_CONNECTION_RETRIES = 3
MAX_REPORTED_FAILURES = 10


class LocalRunner:
    """Runs campaigns in one folder with a private server and one worker process per core.

    Parameters
    ----------
    folder
        The campaign's folder.
    n_workers
        Number of workers; one per usable core by default.
    mongod
        The configured mongod, see :func:`~defect_mf_flows.local.mongod.find_mongod`.
    categories
        For each worker the FireWorks categories that it takes, see
        :class:`~defect_mf_flows.local.workers.WorkerPool`.
    extra_env
        Further environment variables of the workers.
    keep_launch_dirs
        Whether to keep the working folders of completed jobs in ``launches``.
    """

    def __init__(
        self,
        folder: Path | str,
        n_workers: int | None = None,
        mongod: str | None = None,
        *,
        categories: Sequence[Sequence[str]] | None = None,
        extra_env: Mapping[str, str] | None = None,
        keep_launch_dirs: bool = False,
    ) -> None:
        self.layout = Layout.of(folder)
        self.categories = categories or [()] * (n_workers or usable_cores())
        self.mongod = mongod
        self.extra_env = extra_env
        self.keep_launch_dirs = keep_launch_dirs

    def run(
        self,
        make_flow: Callable[[], Flow],
        metadata: Mapping[str, Any],
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        """Run a campaign to its end, or take it up where an earlier run left it.

        Parameters
        ----------
        make_flow
            Builds the flow; called only when the folder does not hold the campaign yet.
        metadata
            The workflow's metadata; ``campaign_hash`` in it tells campaigns apart.
        on_progress
            Called with a snapshot about twice a second, in this thread.

        Raises
        ------
        ServiceError
            When another process uses the folder, a service cannot be started or is lost, or jobs
            failed.
        KeyboardInterrupt
            After SIGINT, when server and workers are down.
        SystemExit
            After SIGTERM or SIGHUP, likewise.
        """
        binary = find_mongod(self.mongod)
        self.layout.make()
        server = PrivateMongod(self.layout.data, binary)
        with (
            StopSignals() as signals,
            FolderLock(self.layout.folder_lock, "run", wait=1.0),
        ):
            try:
                server.start()
                signals.check()
                self._run(server, signals, make_flow, dict(metadata), on_progress)
            except PyMongoError as error:
                raise ServiceError(
                    f"The private mongod failed: {str(error)[:300]}. Remedy: read {server.log}, "
                    "then run the same command again; nothing that had finished is repeated."
                ) from error
            finally:
                server.stop()

    def _run(
        self,
        server: PrivateMongod,
        signals: StopSignals,
        make_flow: Callable[[], Flow],
        metadata: dict[str, Any],
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        launchpad = LocalLaunchPad(self.layout, server.port)
        pool = WorkerPool(
            self.layout.folder,
            launchpad,
            categories=self.categories,
            extra_env=self.extra_env,
            keep_launch_dirs=self.keep_launch_dirs,
        )
        try:
            self._prepare(launchpad, signals, make_flow, metadata)
            tracker = ProgressTracker(launchpad, metadata["campaign_hash"], len(self.categories))
            watch = _Watch(self.layout, server, pool, tracker, signals)
            if watch.tracker.read().active:
                pool.start()
            watch.until_end(on_progress)
        finally:
            pool.stop()
            launchpad.close()

    def _prepare(
        self,
        launchpad: LocalLaunchPad,
        signals: StopSignals,
        make_flow: Callable[[], Flow],
        metadata: dict[str, Any],
    ) -> None:
        """Bring the LaunchPad in order and see that it holds the campaign."""
        launchpad.initialize()
        store = local_job_store(launchpad.port)
        store.connect()
        ensure_indexes(store)
        store.close()
        for run in repair(launchpad):
            logger.info("%s had been interrupted and runs again", run.name)
        campaign_hash = metadata["campaign_hash"]
        if find_workflow(launchpad, campaign_hash, {"_id": 1}) is None:
            self._add(launchpad, signals, make_flow, metadata)
        else:
            rerun_failed(launchpad, campaign_hash)
        make_current(launchpad, campaign_hash)

    def _add(
        self,
        launchpad: LocalLaunchPad,
        signals: StopSignals,
        make_flow: Callable[[], Flow],
        metadata: dict[str, Any],
    ) -> None:
        signals.immediate = True
        try:
            workflow = flow_to_workflow(make_flow(), metadata=metadata)
        finally:
            signals.immediate = False
        signals.check()
        # The workflow document is written last. Should this process be killed before, the next
        # start removes the jobs that belong to no workflow and adds the flow anew.
        launchpad.add_wf(workflow)
        logger.info("the campaign was added with %d jobs", len(workflow))


class _Watch:
    """Polls a run until nothing is left to run."""

    def __init__(
        self,
        layout: Layout,
        server: PrivateMongod,
        pool: WorkerPool,
        tracker: ProgressTracker,
        signals: StopSignals,
    ) -> None:
        self.layout = layout
        self.server = server
        self.pool = pool
        self.tracker = tracker
        self.signals = signals
        self.launchpad = tracker.launchpad
        self._retries: Counter[int] = Counter()
        self._judged: set[tuple[int, int]] = set()

    def until_end(self, on_progress: Callable[[Progress], None] | None) -> None:
        last_contact = time.monotonic()
        while True:
            self.signals.check()
            self.server.ensure_running()
            try:
                progress = self._step()
            except (PyMongoError, TimeoutError) as error:
                self._bear(error, last_contact)
                progress = None
            if progress is not None:
                last_contact = time.monotonic()
                if on_progress is not None:
                    on_progress(progress)
                if not progress.active:
                    self._conclude(progress)
                    return
            time.sleep(POLL_SECONDS)

    def _step(self) -> Progress:
        self.pool.check()
        release_stuck(self.launchpad)
        progress = self.tracker.read()
        retried = [self._retry(fw_id) for fw_id in progress.failed_ids]
        return self.tracker.read() if any(retried) else progress

    def _retry(self, fw_id: int) -> bool:
        """Run a job again that failed only because mongod was away for a moment."""
        attempt = (fw_id, self._retries[fw_id])
        if attempt in self._judged or self._retries[fw_id] >= MAX_CONNECTION_RETRIES:
            return False
        trace, _ = stacktrace(self.launchpad, fw_id)
        self._judged.add(attempt)
        if not lost_connection(trace):
            return False
        logger.warning("job %d lost its connection to mongod and runs again", fw_id)
        self.launchpad.rerun_fw(fw_id)
        self._retries[fw_id] += 1
        return True

    def _bear(self, error: Exception, last_contact: float) -> None:
        logger.warning("mongod does not answer: %s", str(error)[:200])
        if time.monotonic() - last_contact > AWAY_SECONDS:
            raise ServiceError(
                f"mongod has not answered for {AWAY_SECONDS:.0f} s. Remedy: read "
                f"{self.server.log}, see to free memory and disk space, then run the same command "
                "again; nothing that had finished is repeated."
            ) from error

    def _conclude(self, progress: Progress) -> None:
        if progress.failed_ids:
            raise ServiceError(self._failures(progress))
        if not progress.complete:
            raise ServiceError(
                f"{progress.total - progress.done} jobs wait, but none can run: {progress.states}. "
                "Remedy: run the same command again, which also resumes paused jobs; if that does "
                "not help, start the campaign in a new folder."
            )

    def _failures(self, progress: Progress) -> str:
        failed = list(zip(progress.failed_ids, progress.failed, strict=True))
        lines = [f"{len(failed)} jobs failed and the rest needs them:"]
        for fw_id, name in failed[:MAX_REPORTED_FAILURES]:
            trace, worker = stacktrace(self.launchpad, fw_id)
            last = [line.strip() for line in trace.splitlines() if line.strip()][-3:]
            log = self.layout.worker_log(worker) if worker else self.layout.logs
            lines.append(f"  {name}: {' | '.join(last) or 'no exception was stored'} (log {log})")
        if len(failed) > MAX_REPORTED_FAILURES:
            lines.append(f"  and {len(failed) - MAX_REPORTED_FAILURES} more")
        lines.append(
            "Remedy: see to the cause, then run the same command again: it repeats the failed "
            "jobs and nothing that had finished."
        )
        return "\n".join(lines)


def rerun_failed(launchpad: LocalLaunchPad, campaign_hash: str) -> list[int]:
    """Make the failed jobs of a campaign ready again.

    Parameters
    ----------
    launchpad
        The LaunchPad; no worker may be at work.
    campaign_hash
        The campaign.

    Returns
    -------
    list of int
        Firework ids of the failed jobs.
    """
    progress = workflow_progress(launchpad, campaign_hash)
    for fw_id, name in zip(progress.failed_ids, progress.failed, strict=True):
        logger.info("%s had failed and runs again", name)
        launchpad.rerun_fw(fw_id)
    return list(progress.failed_ids)


def make_current(launchpad: LocalLaunchPad, campaign_hash: str) -> None:
    """Let only one campaign's jobs run: pause those of others, resume its own.

    Workers take any ready job. A campaign file that was changed makes another campaign in the same
    folder, and nobody wants the rest of the abandoned one to be computed first.

    Parameters
    ----------
    launchpad
        The LaunchPad; no worker may be at work.
    campaign_hash
        The campaign that is to run.
    """
    for workflow in list(launchpad.workflows.find({}, {"fw_states": 1, "metadata": 1})):
        own = workflow["metadata"].get("campaign_hash") == campaign_hash
        change = launchpad.resume_fw if own else launchpad.pause_fw
        for fw_id, state in workflow["fw_states"].items():
            if state == ("PAUSED" if own else "READY"):
                change(int(fw_id))
