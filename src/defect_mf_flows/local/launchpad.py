"""A FireWorks LaunchPad whose workflow lock does not outlive its holder.

FireWorks locks a workflow by a field in its document. A worker that is killed while it rewrites
the workflow leaves that field behind, and everybody else waits five minutes and then gives up.
Here all processes are on one machine, so a file lock stands in front of that field: the kernel
gives it back when its holder dies, and nobody has to poll the database for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any, TypeVar

import fireworks.core.launchpad as fw_launchpad
from fireworks.core.launchpad import LaunchPad, LockedWorkflowError
from pymongo import MongoClient
from pymongo.errors import ConnectionFailure

from defect_mf_flows.local.layout import DATABASE, Layout
from defect_mf_flows.local.locks import file_lock

logger = logging.getLogger(__name__)

T = TypeVar("T")

LOCK_SECONDS = 300.0
FOREIGN_LOCK_SECONDS = 10.0
# An interrupted call is not sent again by pymongo on a single server, so acknowledge a write only
# when it is in the journal: what a worker believes to be stored then survives a kill of mongod.
CLIENT_OPTIONS: dict[str, Any] = {"journal": True, "connectTimeoutMS": 5000}
# A worker waits this long for mongod to come back before it gives up its job.
WORKER_PATIENCE = 90.0
SUPERVISOR_PATIENCE = 5.0
RETRY_SECONDS = 60.0

_FieldLock = fw_launchpad.WFLock


class LocalLaunchPad(LaunchPad):
    """A LaunchPad on the private server of a campaign folder.

    Parameters
    ----------
    layout
        The campaign folder's layout.
    port
        Port of the private server.
    patience
        Seconds that a call waits for a server that does not answer.
    log_level
        Level of FireWorks' own messages.
    """

    def __init__(
        self,
        layout: Layout,
        port: int,
        patience: float = SUPERVISOR_PATIENCE,
        log_level: str = "CRITICAL",
    ) -> None:
        options = {**CLIENT_OPTIONS, "serverSelectionTimeoutMS": int(1000 * patience)}
        super().__init__(
            host="127.0.0.1",
            port=port,
            name=DATABASE,
            strm_lvl=log_level,
            mongoclient_kwargs=options,
        )
        # FireWorks sets its loggers to DEBUG, which passes the level of the root logger by.
        self.m_logger.setLevel(log_level)
        self.workflow_lock = layout.workflow_lock

    def initialize(self) -> None:
        """Set the counters up and build the indexes; both are harmless when they exist.

        ``LaunchPad.reset`` would empty the database, so it is never used.
        """
        self.fw_id_assigner.update_one(
            {}, {"$setOnInsert": {"next_fw_id": 1, "next_launch_id": 1}}, upsert=True
        )
        self.tuneup()
        self.workflows.create_index("metadata.campaign_hash")

    def exclusive(self) -> AbstractContextManager[None]:
        """Return a context in which no other process changes a workflow."""
        return file_lock(self.workflow_lock, LOCK_SECONDS)

    def close(self) -> None:
        """Close the connection."""
        client: MongoClient[dict[str, Any]] = self.connection
        client.close()

    def _refresh_wf(self, fw_id: int) -> None:
        """Refresh a workflow.

        FireWorks marks a job FIZZLED when anything goes wrong here, a lost connection included.
        """
        try:
            with CrashSafeLock(self, fw_id):
                workflow = self.get_wf_by_fw_id_lzyfw(fw_id)
                self._update_wf(workflow, workflow.refresh(fw_id))
        except (ConnectionFailure, LockedWorkflowError):
            raise
        except Exception:
            super()._refresh_wf(fw_id)  # fails again, and notes why


class UnrecordedRunError(BaseException):
    """The end of a job is stored in its launch, but its workflow could not be brought up to date.

    Not an Exception: FireWorks must not take it for the job's failure. The worker ends on it, and
    the supervisor's repair does the rest, without running the job again.
    """


class WorkerLaunchPad(LocalLaunchPad):
    """The LaunchPad of a worker: the result of a job outlasts a restart of the server."""

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


class CrashSafeLock(_FieldLock):  # type: ignore[misc, valid-type]
    """FireWorks' workflow lock, behind a file lock where the LaunchPad is a local one."""

    def __enter__(self) -> None:
        if not isinstance(self.lp, LocalLaunchPad):
            super().__enter__()
            return
        with ExitStack() as stack:
            try:
                stack.enter_context(self.lp.exclusive())
            except TimeoutError as error:
                raise LockedWorkflowError(str(error)) from error
            self._set_field()
            self._held = stack.pop_all()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            super().__exit__(kind, error, trace)
        finally:
            if isinstance(self.lp, LocalLaunchPad):
                self._held.close()

    def _set_field(self) -> None:
        """Set the lock field; one that is already there is a dead process's, or of ``lpad``."""
        deadline = time.monotonic() + FOREIGN_LOCK_SECONDS
        query = {"nodes": self.fw_id}
        free = {**query, "locked": {"$exists": False}}
        while not self.lp.workflows.update_one(free, {"$set": {"locked": True}}).matched_count:
            if self.lp.workflows.find_one(query, {"_id": 1}) is None:
                raise ValueError(f"Could not find workflow in database: {self.fw_id}")
            if time.monotonic() > deadline:
                self.lp.workflows.update_one(query, {"$set": {"locked": True}})
                return
            time.sleep(0.05)


fw_launchpad.WFLock = CrashSafeLock
