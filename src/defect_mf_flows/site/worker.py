"""A site's worker: a small process that watches over the one that computes.

The queue ends a job by a signal, the kernel by killing what takes too much memory. Either way
this process lives a moment longer and gives the unfinished job back, so that it continues
elsewhere instead of counting as running for hours.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from fireworks import FWAction, LaunchPad

from defect_mf_flows.launchpad.patience import patiently
from defect_mf_flows.site.connection import FWORKER_FILE, Site
from defect_mf_flows.site.versions import refuse_other_version

logger = logging.getLogger(__name__)

MAX_LOSSES = 3
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


@dataclass
class Worker:
    """Runs jobs of a site's LaunchPad.

    Parameters
    ----------
    site
        The site.
    fworker
        Its worker file, in the site's folder or any path.
    idle
        Seconds between looks at an empty queue.
    linger
        Seconds without work after which it ends.
    """

    site: Site
    fworker: str = FWORKER_FILE
    idle: float = 5.0
    linger: float = 0.0

    def __post_init__(self) -> None:
        kind = self.site.fworker(self.fworker).name
        self.name = f"{kind}@{socket.gethostname()}.{os.getpid()}"
        self._stopped: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, fw_id: int | None = None) -> int:
        """Run one reserved job, or whatever comes.

        Parameters
        ----------
        fw_id
            The job that the queue reserved; None to take any.

        Returns
        -------
        int
            Exit status: 0, or that of the computing process, or 128 + signal.

        Raises
        ------
        VersionError
            If the reserved job is one of another version of this package.
        """
        launchpad = self.site.launchpad(worker=True)
        if fw_id is not None:
            patiently(lambda: refuse_other_version(launchpad, fw_id))
            patiently(lambda: take_over(launchpad, fw_id))
        for number in STOPPING:
            signal.signal(number, self._stop)
        while self._stopped is None:
            status = self._compute(fw_id)
            lost = patiently(lambda: give_back(launchpad, self.name, self._cause(status)))
            if self._stopped is not None:
                return 128 + self._stopped
            if status == 0 or fw_id is not None or not lost:
                return status
        return 128 + self._stopped

    def _compute(self, fw_id: int | None) -> int:
        command = [sys.executable, "-m", "defect_mf_flows.site.rocket"]
        command += ["--site", str(self.site.folder), "--fworker", self.fworker]
        command += ["--name", self.name, "--idle", str(self.idle), "--linger", str(self.linger)]
        if fw_id is not None:
            command += ["--fw-id", str(fw_id)]
        env = dict(os.environ)
        if self.site.settings.is_file():
            env.setdefault("DEFECT_MF_CONFIG_FILE", str(self.site.settings))
        # Its own session: the engines that it starts can be ended with it.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, cwd=Path.cwd(), env=env, start_new_session=True
        )
        status = self._process.wait()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return status

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopped = number
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _cause(self, status: int) -> str:
        if self._stopped is not None:
            return f"ended by signal {self._stopped}, as a queue does at the walltime"
        if status == -signal.SIGKILL:
            return "killed, as a kernel does with a process that takes too much memory"
        return f"the computing process ended with status {status}"


def take_over(launchpad: LaunchPad, fw_id: int) -> None:
    """Free the job of this queue job's earlier start, which ended with its node.

    Slurm starts a job whose node has failed again, under the same id, and nobody else knows that
    the first start is dead.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    fw_id
        The job that the queue job was made for.
    """
    queue_job = os.environ.get("SLURM_JOB_ID")
    if queue_job is None or os.environ.get("SLURM_RESTART_COUNT", "0") == "0":
        return
    found = launchpad.fireworks.find_one({"fw_id": fw_id, "state": "RUNNING"}, {"launches": 1})
    own = {
        "launch_id": max((found or {}).get("launches", []), default=None),
        "state_history.reservation_id": {"$in": [queue_job, int(queue_job)]},
    }
    launch = launchpad.launches.find_one(own, {"fworker.name": 1})
    if launch is not None:
        give_back(launchpad, launch["fworker"]["name"], "ended with its node")


def give_back(launchpad: LaunchPad, worker: str, cause: str) -> list[int]:
    """Make the unfinished jobs of a worker ready again; what it finished is kept.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    worker
        Name of a worker that no longer computes.
    cause
        Why, for those who read the status.

    Returns
    -------
    list of int
        Firework ids of the jobs that run again or were given up.
    """
    lost = []
    query = {"state": {"$in": ["RUNNING", "RESERVED"]}}
    fields = {"fw_id": 1, "launches": 1, "archived_launches": 1}
    own = launchpad.launches.distinct("launch_id", {"fworker.name": worker})
    for found in list(launchpad.fireworks.find({**query, "launches": {"$in": own}}, fields)):
        launch_id = max(found["launches"])
        launch = launchpad.launches.find_one({"launch_id": launch_id}) or {}
        if launch.get("state") not in ("RUNNING", "RESERVED"):
            launchpad._refresh_wf(found["fw_id"])  # finished; only its workflow does not know
            continue
        lost.append(found["fw_id"])
        if len(found.get("archived_launches", [])) + 1 >= MAX_LOSSES:
            message = f"{cause}; this job was lost {MAX_LOSSES} times and is not tried again."
            action = FWAction(stored_data={"_exception": {"_stacktrace": message}}, exit=True)
            launchpad.complete_launch(launch_id, action, "FIZZLED")
        else:
            logger.warning("job %d is given back: %s", found["fw_id"], cause)
            launchpad.launches.update_one({"launch_id": launch_id}, {"$set": {"lost": cause}})
            launchpad.rerun_fw(found["fw_id"])
    return lost
