"""The worker processes of a local run."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pymongo.errors import PyMongoError

from defect_mf_flows.errors import ServiceError
from defect_mf_flows.local.launchpad import LocalLaunchPad
from defect_mf_flows.local.layout import Layout
from defect_mf_flows.local.recovery import LostRun, repair
from defect_mf_flows.local.store import write_jobflow_config

logger = logging.getLogger(__name__)

GRACE_SECONDS = 5.0
MAX_LOSSES_PER_JOB = 3
MAX_FRUITLESS_STARTS = 3
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# These would override the settings that the workers are given.
FOREIGN_VARIABLES = ("JOBFLOW_JOB_STORE", "MONGOMOCK_SERVERSTORE_FILE")


@dataclass
class _Worker:
    """One place in the pool; its process may be replaced."""

    number: int
    categories: Sequence[str]
    name: str = ""
    process: subprocess.Popen[bytes] | None = None


class WorkerPool:
    """Worker processes that are watched and replaced.

    Parameters
    ----------
    folder
        The campaign's folder.
    launchpad
        The LaunchPad on the private server.
    n_workers
        How many workers; one per core by default.
    categories
        For each worker the FireWorks categories that it takes; an empty list takes every job,
        ``__none__`` stands for jobs without a category. Gives the number of workers, too.
    extra_env
        Further environment variables of the workers.
    keep_launch_dirs
        Whether to keep the working folders of jobs that completed.
    max_replacements
        How many dead workers are replaced before the run is given up.
    """

    def __init__(
        self,
        folder: Path | str,
        launchpad: LocalLaunchPad,
        n_workers: int | None = None,
        *,
        categories: Sequence[Sequence[str]] | None = None,
        extra_env: Mapping[str, str] | None = None,
        keep_launch_dirs: bool = False,
        max_replacements: int = 20,
    ) -> None:
        self.layout = Layout.of(folder)
        self.launchpad = launchpad
        self.extra_env = dict(extra_env or {})
        self.keep_launch_dirs = keep_launch_dirs
        self.max_replacements = max_replacements
        if categories is None:
            categories = [()] * (n_workers or usable_cores())
        self._workers = [_Worker(number, list(c)) for number, c in enumerate(categories, start=1)]
        self._losses: Counter[int] = Counter()
        self._replacements = 0
        self._fruitless = 0

    @property
    def pids(self) -> list[int]:
        """Process ids of the present workers."""
        return [worker.process.pid for worker in self._workers if worker.process]

    def start(self) -> None:
        """Start all workers."""
        self.layout.make()
        write_jobflow_config(self.layout.folder, self.launchpad.port)
        for worker in self._workers:
            self._spawn(worker)
        logger.info("%d workers are at work", len(self._workers))

    def check(self) -> list[LostRun]:
        """Replace dead workers and make the jobs that they ran ready again.

        Returns
        -------
        list of LostRun
            The jobs that were lost.

        Raises
        ------
        ServiceError
            When workers die too often.
        pymongo.errors.PyMongoError
            When the server is away; call again when it is back.
        """
        lost = []
        for worker in self._workers:
            if worker.process is not None and worker.process.poll() is not None:
                lost += self._replace(worker, worker.process)
        return lost

    def stop(self, grace: float = GRACE_SECONDS) -> None:
        """End all workers and make their jobs ready again.

        Parameters
        ----------
        grace
            Seconds between SIGTERM and SIGKILL.
        """
        processes = [worker.process for worker in self._workers if worker.process]
        for process in processes:
            _signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + grace
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        for process in processes:
            _end_group(process)
        for worker in self._workers:
            worker.process = None
            self._remove_empty_folder(worker)
        if processes:
            self._release_jobs()

    def _release_jobs(self) -> None:
        try:
            lost = repair(self.launchpad)
        except (PyMongoError, TimeoutError) as error:
            logger.warning("unfinished jobs stay marked until the next start: %s", error)
            return
        for run in lost:
            logger.info("%s was interrupted and runs again at the next start", run.name)

    def _replace(self, worker: _Worker, process: subprocess.Popen[bytes]) -> list[LostRun]:
        _end_group(process)  # engines that the worker had started
        hopeless = [f for f, count in self._losses.items() if count >= MAX_LOSSES_PER_JOB - 1]
        lost = repair(self.launchpad, dead=[worker.name], hopeless=hopeless)
        self._losses.update(run.fw_id for run in lost)
        jobs = ", ".join(run.name for run in lost) or "no job"
        logger.warning(
            "%s died (exit status %s) while running %s; it is replaced, log %s",
            *(worker.name, process.returncode, jobs, self.layout.worker_log(worker.name)),
        )
        self._count_replacement(worker, bool(lost))
        self._remove_empty_folder(worker)
        self._spawn(worker)
        return lost

    def _count_replacement(self, worker: _Worker, was_at_work: bool) -> None:
        self._replacements += 1
        self._fruitless = 0 if was_at_work else self._fruitless + 1
        often = self._replacements > self.max_replacements
        if often or self._fruitless > MAX_FRUITLESS_STARTS:
            log = self.layout.worker_log(worker.name)
            raise ServiceError(
                f"Workers died {self._replacements} times. The last lines of {log} are: "
                f"{_last_lines(log)} Remedy: see to the cause (an import that fails, too little "
                "memory: try fewer workers), then run the same command again; nothing that had "
                "finished is repeated."
            )

    def _spawn(self, worker: _Worker) -> None:
        # A new name each time: what carries a dead worker's name is lost for certain.
        worker.name = f"worker-{worker.number}.{uuid.uuid4().hex[:8]}"
        command = [sys.executable, "-m", "defect_mf_flows.local.worker"]
        command += ["--folder", str(self.layout.folder), "--name", worker.name]
        command += ["--port", str(self.launchpad.port)]
        for category in worker.categories:
            command += ["--category", category]
        if self.keep_launch_dirs:
            command.append("--keep-launch-dirs")
        with self.layout.worker_log(worker.name).open("ab") as log:
            # Its own session: Ctrl-C reaches the supervisor alone, and the engines that the worker
            # starts can be ended with it.
            worker.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.layout.launches,
                env=self._environment(),
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        env = {k: v for k, v in os.environ.items() if k not in FOREIGN_VARIABLES}
        env.update(dict.fromkeys(THREAD_VARIABLES, "1"))
        env["JOBFLOW_CONFIG_FILE"] = str(self.layout.jobflow_config)
        env["PYTHONUNBUFFERED"] = "1"
        env.update(self.extra_env)
        if env.get("PYTHONPATH"):  # relative entries would be looked up below the launch folder
            entries = env["PYTHONPATH"].split(os.pathsep)
            env["PYTHONPATH"] = os.pathsep.join(str(Path(e).absolute()) for e in entries if e)
        return env

    def _remove_empty_folder(self, worker: _Worker) -> None:
        with suppress(OSError):
            folder = self.layout.launches / worker.name
            for left in folder.iterdir():
                if left.is_dir() and not any(left.iterdir()):
                    left.rmdir()
            folder.rmdir()


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Kill whatever is left of a worker's process group, and close the pipe of its watchdog."""
    _signal_group(process, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


def _last_lines(log: Path, count: int = 3) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "(none)."
    return " | ".join(line.strip() for line in lines[-count:] if line.strip())[-800:] + "."
