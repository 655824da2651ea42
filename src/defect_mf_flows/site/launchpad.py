"""The LaunchPad of a site: workflow locks that say whose they are, campaigns that can be held.

FireWorks locks a workflow by a bare field in its document. Of a process that is killed the field
stays behind, nobody can tell whose it was, and the others wait five minutes and give up. Here
the field names its holder and the server's time, so that a dead holder's lock can be taken over,
and a holder that was taken for dead cannot write any more.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import time
import uuid
from typing import Any

import fireworks.core.launchpad as fw_launchpad
from fireworks import Workflow
from fireworks.core.launchpad import LaunchPad, LockedWorkflowError
from pymongo.errors import ConnectionFailure

from defect_mf_flows.launchpad.patience import PatientMixin
from defect_mf_flows.site.secrets import WithoutPassword

logger = logging.getLogger(__name__)

CAMPAIGNS = "campaigns"
ACTIVE, SUBMITTING, PAUSED, CANCELLED = "active", "submitting", "paused", "cancelled"

LOCK_SECONDS = 300.0
# No step takes as long; a holder that has is dead, or is stopped from writing by its token.
STALE_SECONDS = 120.0
_UNBEGUN = ("WAITING", "READY")

_FieldLock = fw_launchpad.WFLock


class SiteLaunchPad(WithoutPassword, LaunchPad):
    """A LaunchPad that many machines use at the same time.

    ``holder`` names a worker in the locks that it takes; its supervisor has the same name.
    """

    holder: str = ""
    _token: str | None = None

    def _refresh_wf(self, fw_id: int) -> None:
        """Refresh a workflow.

        FireWorks marks a job FIZZLED when anything goes wrong here, a lost connection included,
        and passes over a lock that it could not get.
        """
        try:
            with fw_launchpad.WFLock(self, fw_id):
                workflow = self.get_wf_by_fw_id_lzyfw(fw_id)
                self._update_wf(workflow, workflow.refresh(fw_id))
        except (ConnectionFailure, LockedWorkflowError):
            raise
        except Exception:
            super()._refresh_wf(fw_id)  # fails again, and notes why

    def _update_wf(self, wf: Workflow, updated_ids: Any) -> None:
        """Write a step of a workflow; what a held campaign would begin is paused with it.

        Raises
        ------
        LockedWorkflowError
            If another process has taken the lock over; the workflow is then not written.
        """
        updated = list(updated_ids)
        self._hold(wf, updated)
        node = next(fw_id for fw_id in wf.id_fw if fw_id >= 0)
        mine = {"nodes": node, "locked.token": self._token}
        lock = (self.workflows.find_one(mine, {"locked": 1}) or {}).get("locked")
        if lock is not None:
            wf._reassign_ids(self._upsert_fws([wf.id_fw[fw_id] for fw_id in updated]))
            content = {**wf.to_db_dict(), "locked": lock}
            if self.workflows.replace_one(mine, content).matched_count:
                return
        raise LockedWorkflowError(f"the lock of the workflow of job {node} was taken over")

    def _hold(self, wf: Workflow, updated: list[int]) -> None:
        key = (wf.metadata or {}).get("campaign_hash")
        if key is None or not held_campaigns(self, key):
            return
        for fw_id in updated:
            if wf.id_fw[fw_id].state in _UNBEGUN:
                wf.id_fw[fw_id].state = "PAUSED"
                wf.fw_states[fw_id] = "PAUSED"


class SiteWorkerLaunchPad(PatientMixin, SiteLaunchPad):
    """The LaunchPad of a site's worker."""


def held_campaigns(launchpad: LaunchPad, campaign_hash: str | None = None) -> list[str]:
    """Return the hashes of campaigns of which no job may begin.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    campaign_hash
        Only this one, if it is held; None for all.
    """
    query: dict[str, Any] = {"state": {"$in": [SUBMITTING, PAUSED, CANCELLED]}}
    if campaign_hash is not None:
        query["_id"] = campaign_hash
    return [found["_id"] for found in launchpad.db[CAMPAIGNS].find(query, {"_id": 1})]


class SiteLock(_FieldLock):  # type: ignore[misc, valid-type]
    """FireWorks' workflow lock, with a name and a time in it where the LaunchPad is a site's."""

    def __enter__(self) -> None:
        if not isinstance(self.lp, SiteLaunchPad):
            super().__enter__()
            return
        self._watched: tuple[Any, float] | None = None
        token, pause = uuid.uuid4().hex, 0.02
        deadline = time.monotonic() + LOCK_SECONDS
        while not (self._take({"locked": {"$exists": False}}, token) or self._take_over(token)):
            if self.lp.workflows.find_one({"nodes": self.fw_id}, {"_id": 1}) is None:
                raise ValueError(f"Could not find workflow in database: {self.fw_id}")
            if time.monotonic() > deadline:
                raise LockedWorkflowError(f"the workflow of job {self.fw_id} stays locked")
            time.sleep(pause * (0.5 + random.random()))
            pause = min(2 * pause, 1.0)
        self.lp._token = token

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if not isinstance(self.lp, SiteLaunchPad):
            super().__exit__(kind, error, trace)
            return
        mine = {"nodes": self.fw_id, "locked.token": self.lp._token}
        self.lp._token = None
        try:
            self.lp.workflows.update_one(mine, {"$unset": {"locked": ""}})
        except ConnectionFailure as failure:  # what was to be written is written
            logger.warning("a lock stays behind for a while: %s", str(failure)[:200])

    def _take_over(self, token: str) -> bool:
        """Take the lock of a dead process, or one that this process left behind."""
        if self._take(stale_lock(), token) or self._take_bare(token):
            logger.warning("took over the lock of a dead process (job %d)", self.fw_id)
            return True
        return bool(self.lp.holder) and self._take({"locked.by": self.lp.holder}, token)

    def _take_bare(self, token: str) -> bool:
        """Take a lock of FireWorks' own programs, which note no time, when nothing moves."""
        bare = {"nodes": self.fw_id, "locked": True}
        found = self.lp.workflows.find_one(bare, {"updated_on": 1})
        if found is None:
            self._watched = None
            return False
        if self._watched is None or self._watched[0] != found["updated_on"]:
            self._watched = (found["updated_on"], time.monotonic())
        if time.monotonic() - self._watched[1] < STALE_SECONDS:
            return False
        return self._take({"locked": True, "updated_on": found["updated_on"]}, token)

    def _take(self, free: dict[str, Any], token: str) -> bool:
        holder = self.lp.holder or f"{socket.gethostname()}.{os.getpid()}"
        lock = {"token": token, "by": {"$literal": holder}, "since": "$$NOW"}
        done = self.lp.workflows.update_one(
            {"nodes": self.fw_id, **free}, [{"$set": {"locked": lock}}]
        )
        return bool(done.matched_count)


def stale_lock() -> dict[str, Any]:
    """Return a query for workflows whose lock is older than any step takes."""
    before = {"$subtract": ["$$NOW", 1000 * STALE_SECONDS]}
    return {"locked.since": {"$exists": True}, "$expr": {"$lt": ["$locked.since", before]}}


fw_launchpad.WFLock = SiteLock
