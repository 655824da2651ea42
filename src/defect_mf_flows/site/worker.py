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
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType

from defect_mf_flows.errors import VersionError
from defect_mf_flows.launchpad.patience import patiently
from defect_mf_flows.launchpad.service import FAILED
from defect_mf_flows.site.connection import FWORKER_FILE, Site
from defect_mf_flows.site.launchpad import SiteLaunchPad, held_campaigns
from defect_mf_flows.site.losses import Cause
from defect_mf_flows.site.recovery import give_back, release_reservation
from defect_mf_flows.site.versions import refuse_other_version

logger = logging.getLogger(__name__)

FRESH_STARTS = 5  # after failures that cost no job: the server was away at a bad moment
REST_SECONDS = 10.0
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
        launchpad.holder = self.name
        if fw_id is not None:
            if not self._may_run(launchpad, fw_id):
                return 0
            patiently(lambda: take_over(launchpad, fw_id))
        for number in STOPPING:
            signal.signal(number, self._stop)
        fresh_starts = 0
        while self._stopped is None:
            status = self._compute(fw_id)
            cause, message = self._cause(status)
            lost = patiently(partial(give_back, launchpad, self.name, cause, message))
            if self._stopped is not None:
                break
            if status == 0 or fw_id is not None:
                return status
            fresh_starts = 0 if lost else fresh_starts + 1
            if (status != FAILED and not lost) or fresh_starts > FRESH_STARTS:
                return status
            logger.warning("starts again: %s", message or cause.value)
            time.sleep(0.0 if lost else REST_SECONDS)
        return 128 + (self._stopped or 0)

    def _may_run(self, launchpad: SiteLaunchPad, fw_id: int) -> bool:
        """Give a reservation back that must not be used.

        Raises
        ------
        VersionError
            If the job is one of another version.
        """
        try:
            patiently(lambda: refuse_other_version(launchpad, fw_id))
        except VersionError:
            patiently(lambda: release_reservation(launchpad, fw_id))
            raise
        field = "spec.campaign_hash"
        job = patiently(lambda: launchpad.fireworks.find_one({"fw_id": fw_id}, {field: 1})) or {}
        key = job.get("spec", {}).get("campaign_hash")
        if key is None or not patiently(lambda: held_campaigns(launchpad, key)):
            return True
        patiently(lambda: release_reservation(launchpad, fw_id))
        logger.warning("job %d belongs to a campaign that is paused or cancelled", fw_id)
        return False

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
        if self._stopped is not None:  # a signal that came before there was anything to end
            self._stop(self._stopped, None)
        status = self._process.wait()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return status

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopped = number
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _cause(self, status: int) -> tuple[Cause, str]:
        if self._stopped is not None:
            return Cause.WALLTIME, f"signal {self._stopped}"
        if status == -signal.SIGKILL:
            return Cause.MEMORY, ""
        if status == FAILED:
            return Cause.SERVER, "or its answer could not be recorded, see the worker's log"
        return Cause.CRASH, f"status {status}"


def take_over(launchpad: SiteLaunchPad, fw_id: int) -> None:
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
        give_back(launchpad, launch["fworker"]["name"], Cause.VANISHED, "with its node")
