"""A FireWorks LaunchPad whose workflow lock does not outlive its holder.

FireWorks locks a workflow by a field in its document. A worker that is killed while it rewrites
the workflow leaves that field behind, and everybody else waits five minutes and then gives up.
Here all processes are on one machine, so a file lock stands in front of that field: the kernel
gives it back when its holder dies, and nobody has to poll the database for it.
"""

from __future__ import annotations

import logging
import time
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any

import fireworks.core.launchpad as fw_launchpad
from fireworks.core.launchpad import LaunchPad, LockedWorkflowError
from pymongo import MongoClient
from pymongo.errors import ConnectionFailure

from defect_mf_flows.launchpad.indexes import initialize
from defect_mf_flows.launchpad.patience import CLIENT_OPTIONS, PatientMixin
from defect_mf_flows.local.layout import DATABASE, Layout
from defect_mf_flows.local.locks import file_lock

logger = logging.getLogger(__name__)

LOCK_SECONDS = 300.0
FOREIGN_LOCK_SECONDS = 10.0
SUPERVISOR_PATIENCE = 5.0

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
        """Set the counters up and build the indexes; both are harmless when they exist."""
        initialize(self)

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


class WorkerLaunchPad(PatientMixin, LocalLaunchPad):
    """The LaunchPad of a local worker."""


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
