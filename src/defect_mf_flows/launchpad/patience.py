"""A worker's LaunchPad that outlasts a server that goes away for a while."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from fireworks.core.launchpad import LaunchPad, LockedWorkflowError
from jobflow import JobStore
from pymongo.errors import ConnectionFailure

logger = logging.getLogger(__name__)

T = TypeVar("T")

# An interrupted call is not sent again by pymongo on a single server, so acknowledge a write only
# when it is in the journal: what a worker believes to be stored then survives a kill of mongod.
CLIENT_OPTIONS: dict[str, Any] = {"journal": True, "connectTimeoutMS": 5000}
# A worker waits this long for mongod to come back before it gives up its job.
WORKER_PATIENCE = 90.0
RETRY_SECONDS = 60.0


class UnrecordedRunError(BaseException):
    """The end of a job is stored in its launch, but its workflow could not be brought up to date.

    Not an Exception: FireWorks must not take it for the job's failure. The worker ends on it, and
    the supervisor's repair does the rest, without running the job again.
    """


class PatientMixin(LaunchPad):
    """Makes any LaunchPad a worker's: the result of a job outlasts a restart of the server."""

    _only_launch = False

    def ping_launch(self, launch_id: int, ptime: Any = None, checkpoint: Any = None) -> None:
        """Note that a job is alive; of no use here, so a failure does not matter."""
        try:
            super().ping_launch(launch_id, ptime=ptime, checkpoint=checkpoint)
        except ConnectionFailure as error:
            logger.warning("no ping: %s", str(error)[:200])

    def complete_launch(self, launch_id: int, action: Any = None, state: str = "COMPLETED") -> Any:
        """Store the end of a job.

        Raises
        ------
        UnrecordedRunError
            When the connection broke on the way; the launch is stored all the same.
        """
        try:
            return super().complete_launch(launch_id, action, state)
        except (ConnectionFailure, LockedWorkflowError) as error:
            # What of the workflow was written is unknown, and doing it again would lose detours.
            self._only_launch = True
            patiently(lambda: LaunchPad.complete_launch(self, launch_id, action, state))
            raise UnrecordedRunError from error

    def _refresh_wf(self, fw_id: int) -> None:
        if not self._only_launch:
            super()._refresh_wf(fw_id)


class PatientJobStore(JobStore):
    """A worker's job store: the connection may break just when a result is written.

    Writing again replaces what was written; blobs that nothing refers to may stay behind.
    """

    def update(self, docs: Any, key: Any = None, save: Any = None) -> None:
        """Store documents; see :meth:`jobflow.JobStore.update`."""
        patiently(lambda: super(PatientJobStore, self).update(docs, key=key, save=save))


def patiently(call: Callable[[], T], seconds: float = RETRY_SECONDS) -> T:
    """Repeat a harmless call while the server is away.

    Parameters
    ----------
    call
        A call that may be repeated.
    seconds
        How long to go on.
    """
    deadline, pause = time.monotonic() + seconds, 0.1
    while True:
        try:
            return call()
        except ConnectionFailure as error:
            if time.monotonic() > deadline:
                raise
            logger.warning("the server is away: %s", str(error)[:200])
            time.sleep(pause)
            pause = min(2 * pause, 5.0)
