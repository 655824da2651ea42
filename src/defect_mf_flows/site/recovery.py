"""Find and mend what killed processes left in a site's LaunchPad, while others are at work."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import fireworks.core.launchpad as fw_launchpad
from fireworks import LaunchPad

from defect_mf_flows.launchpad.failures import lost_connection, stacktrace
from defect_mf_flows.launchpad.recovery import (
    HELD,
    LostRun,
    find_orphans,
    find_stuck,
    find_torn,
    interrupted,
    remove_orphans,
    roll_back,
)
from defect_mf_flows.site.campaigns import CampaignEntry, campaign_workflow
from defect_mf_flows.site.launchpad import SiteLaunchPad, stale_lock
from defect_mf_flows.site.losses import Cause, put_back
from defect_mf_flows.site.queue import known_queue_jobs

logger = logging.getLogger(__name__)

PING_SECONDS = 120
LOST_SECONDS = 900.0  # for workers of this package
FOREIGN_LOST_SECONDS = 4 * 3600.0  # FireWorks' own workers ping once an hour
UNSUBMITTED_SECONDS = 600.0  # between a reservation and the queue's answer
_OWN_WORKER = re.compile(r"@.+\.\d+$")

Queue = Callable[[], set[str] | None]


@dataclass(frozen=True)
class Findings:
    """What killed processes left behind in one campaign.

    Attributes
    ----------
    lost
        Jobs that count as running, but whose worker has been silent for long.
    unrecorded
        Jobs that have ended, which their workflow does not know.
    unreserved
        Jobs whose place in the queue is gone.
    stuck
        Jobs that a worker took and died before it began.
    torn, orphans
        Jobs in a half-written state, and half-added ones.
    stale_lock
        Name of the dead process that has the workflow locked.
    """

    lost: tuple[LostRun, ...] = ()
    unrecorded: tuple[LostRun, ...] = ()
    unreserved: tuple[LostRun, ...] = ()
    stuck: tuple[int, ...] = ()
    torn: int = 0
    orphans: int = 0
    stale_lock: str | None = None

    @property
    def any(self) -> bool:
        """Whether there is something to mend."""
        jobs = (*self.lost, *self.unrecorded, *self.unreserved, *self.stuck)
        return bool(jobs or self.torn or self.orphans or self.stale_lock)


def inspect(
    launchpad: SiteLaunchPad, entry: CampaignEntry, queue: Queue = known_queue_jobs
) -> Findings:
    """Look for what :func:`recover` would mend; nothing is changed.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    entry
        The campaign.
    queue
        Tells which queue jobs there are.

    Returns
    -------
    Findings
        What counts as left behind at this moment.
    """
    workflow = {"metadata.campaign_hash": entry.key}
    fireworks = {"spec.campaign_hash": entry.key}
    locked = launchpad.workflows.find_one({**workflow, **stale_lock()}, {"locked": 1})
    torn, orphans = 0, 0
    ended: tuple[LostRun, ...] = ()
    before = _moment(launchpad, workflow)
    if before is not None or locked:
        torn = len(list(find_torn(launchpad, workflow, keep_manual=True)))
        orphans = len(find_orphans(launchpad, fireworks, workflow))
        ended = _ended(launchpad, fireworks)
        if not locked and _moment(launchpad, workflow) != before:
            torn, orphans, ended = 0, 0, ()  # somebody was at work between the two looks
    nodes = set(campaign_workflow(launchpad, entry, {"nodes": 1})["nodes"])
    return Findings(
        lost=tuple(_silent(launchpad, fireworks)),
        unrecorded=ended,
        unreserved=tuple(_unreserved(launchpad, fireworks, queue)),
        stuck=tuple(fw_id for fw_id in find_stuck(launchpad) if fw_id in nodes),
        torn=torn,
        orphans=orphans,
        stale_lock=locked["locked"].get("by") if locked else None,
    )


def recover(
    launchpad: SiteLaunchPad, entry: CampaignEntry, queue: Queue = known_queue_jobs
) -> Findings:
    """Mend a campaign. Finished jobs are kept, lost ones run again, living workers go on.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    entry
        The campaign.
    queue
        Tells which queue jobs there are.

    Returns
    -------
    Findings
        What was mended.
    """
    fireworks = {"spec.campaign_hash": entry.key}
    node = campaign_workflow(launchpad, entry, {"nodes": 1})["nodes"][0]
    locked = launchpad.workflows.find_one({"nodes": node, **stale_lock()}, {"locked": 1})
    torn, orphans = settle(launchpad, node)
    ended = _ended(launchpad, fireworks)
    for run in ended:
        launchpad._refresh_wf(run.fw_id)
    lost = tuple(_silent(launchpad, fireworks))
    for run in lost:
        put_back(launchpad, run, Cause.VANISHED)
    gone = tuple(_unreserved(launchpad, fireworks, queue))
    for run in gone:
        release_reservation(launchpad, run.fw_id)
    nodes = set(campaign_workflow(launchpad, entry, {"nodes": 1})["nodes"])
    stuck = tuple(fw_id for fw_id in find_stuck(launchpad) if fw_id in nodes)
    for fw_id in stuck:
        launchpad._refresh_wf(fw_id)
    holder = locked["locked"].get("by") if locked else None
    return Findings(lost, ended, gone, stuck, len(torn), len(orphans), holder)


def settle(launchpad: SiteLaunchPad, fw_id: int) -> tuple[list[int], list[int]]:
    """Undo the half-written step of a workflow, if there is one.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    fw_id
        Any of its jobs.

    Returns
    -------
    torn, orphans
        Ids of the jobs that were set back, and of those that were removed.
    """
    with fw_launchpad.WFLock(launchpad, fw_id):
        workflow = launchpad.workflows.find_one({"nodes": fw_id}, {"metadata.campaign_hash": 1})
        key = ((workflow or {}).get("metadata") or {}).get("campaign_hash")
        orphans: list[int] = []
        if key is not None:
            own = {"metadata.campaign_hash": key}
            orphans = remove_orphans(launchpad, {"spec.campaign_hash": key}, own)
        return roll_back(launchpad, {"nodes": fw_id}, keep_manual=True), orphans


def give_back(launchpad: SiteLaunchPad, worker: str, cause: Cause, message: str = "") -> list[int]:
    """Make the unfinished job of a worker ready again; what it finished is kept.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    worker
        Name of a worker that no longer computes.
    cause
        Why.
    message
        More about it.

    Returns
    -------
    list of int
        Firework ids of the jobs that run again or were given up.
    """
    last = launchpad.launches.find_one({"fworker.name": worker}, sort=[("launch_id", -1)])
    if last is None:
        return []
    launchpad.workflows.update_many({"locked.by": worker}, {"$unset": {"locked": ""}})
    settle(launchpad, last["fw_id"])
    if _never_begun(launchpad, last):
        return [last["fw_id"]]
    lost = []
    for run in interrupted(launchpad, [worker], {"launches": last["launch_id"]}):
        if run.launch_state in HELD:
            lost.append(run.fw_id)
            put_back(launchpad, run, cause, message)
        else:
            launchpad._refresh_wf(run.fw_id)  # finished; only its workflow does not know
    return lost


def repeat_if_disconnected(launchpad: SiteLaunchPad, worker: str) -> bool:
    """Run a worker's last job again if it failed only because the server was away.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    worker
        The worker's name.

    Returns
    -------
    bool
        Whether the job runs again.
    """
    query = {"fworker.name": worker}
    last = launchpad.launches.find_one(query, sort=[("launch_id", -1)])
    if last is None or last["state"] != "FIZZLED":
        return False
    failed = {"fw_id": last["fw_id"], "state": "FIZZLED", "launches": last["launch_id"]}
    found = launchpad.fireworks.find_one(failed, {"name": 1})
    if found is None or not lost_connection(stacktrace(launchpad, last["fw_id"])[0]):
        return False
    run = LostRun(last["fw_id"], found["name"], worker, last["launch_id"], "FIZZLED")
    return put_back(launchpad, run, Cause.SERVER)


def release_reservation(
    launchpad: SiteLaunchPad, fw_id: int, state: str = "READY"
) -> list[str] | None:
    """Take a job's reservation back, so that it can be reserved anew.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    fw_id
        The job.
    state
        Its new state. The caller tells the workflow, unless it is READY.

    Returns
    -------
    list of str or None
        Ids of the queue jobs, None if the job is not reserved, or not any more.
    """
    job = {"fw_id": fw_id, "state": "RESERVED"}
    found = launchpad.fireworks.find_one(job, {"launches": 1})
    if found is None:
        return None
    reserved = list(
        launchpad.launches.find({"launch_id": {"$in": found["launches"]}, "state": "RESERVED"})
    )
    if not reserved:  # a worker is about to run it
        return None
    ids = [launch["launch_id"] for launch in reserved]
    change = {
        "$set": {"state": state},
        "$pullAll": {"launches": ids},
        "$addToSet": {"archived_launches": {"$each": ids}},
    }
    # Conditional: a worker may be taking the job at this moment.
    done = launchpad.fireworks.update_one({**job, "launches": found["launches"]}, change)
    if not done.modified_count:
        return None
    if state == "READY":
        launchpad._refresh_wf(fw_id)
    return [queue_id for launch in reserved for queue_id in queue_ids(launch)]


def queue_ids(launch: dict[str, Any]) -> list[str]:
    """Return the ids of the queue jobs of a launch document.

    Parameters
    ----------
    launch
        The document.
    """
    history = launch.get("state_history", [])
    found = [step["reservation_id"] for step in history if step.get("reservation_id") is not None]
    return list(dict.fromkeys(map(str, found)))


def last_sign(launch: dict[str, Any]) -> datetime:
    """Return when a launch was last heard of.

    Parameters
    ----------
    launch
        The document.
    """
    signs = [
        _time(step[key])
        for step in launch.get("state_history", [])
        for key in ("created_on", "updated_on")
        if step.get(key)
    ]
    return max(signs, default=datetime.fromtimestamp(0, UTC))


def _time(value: datetime | str) -> datetime:
    moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _moment(launchpad: LaunchPad, workflow: dict[str, Any]) -> Any:
    """Last change of a workflow, None while somebody has it locked."""
    found = launchpad.workflows.find_one(
        {**workflow, "locked": {"$exists": False}}, {"updated_on": 1}
    )
    return None if found is None else found["updated_on"]


def _never_begun(launchpad: SiteLaunchPad, launch: dict[str, Any]) -> bool:
    """Free a job whose launch was noted, but not yet in the job itself."""
    query = {"fw_id": launch["fw_id"], "state": "RESERVED", "launches": []}
    if launch["state"] != "RUNNING" or launchpad.fireworks.find_one(query, {"_id": 1}) is None:
        return False
    dropped = {"launch_id": launch["launch_id"]}
    launchpad.launches.update_one(dropped, {"$set": {"state": "ARCHIVED"}})
    launchpad._refresh_wf(launch["fw_id"])
    return True


def _ended(launchpad: LaunchPad, fireworks: dict[str, Any]) -> tuple[LostRun, ...]:
    return tuple(
        run
        for run in interrupted(launchpad, None, fireworks)
        if run.launch_state in ("COMPLETED", "FIZZLED")
    )


def _silent(launchpad: LaunchPad, fireworks: dict[str, Any]) -> Iterator[LostRun]:
    now = datetime.now(UTC)
    for run, launch in _with_launch(launchpad, {**fireworks, "state": "RUNNING"}, "RUNNING"):
        own = _OWN_WORKER.search(run.worker or "") is not None
        limit = LOST_SECONDS if own else FOREIGN_LOST_SECONDS
        if (now - last_sign(launch)).total_seconds() > limit:
            yield run


def _unreserved(launchpad: LaunchPad, fireworks: dict[str, Any], queue: Queue) -> Iterator[LostRun]:
    now = datetime.now(UTC)
    # The jobs first, then the queue: a job that is reserved meanwhile is not among them.
    query = {**fireworks, "state": "RESERVED"}
    reserved = list(_with_launch(launchpad, query, "RESERVED"))
    known = queue() if reserved else None
    for run, launch in reserved:
        ids = queue_ids(launch)
        if not ids:
            if (now - last_sign(launch)).total_seconds() > UNSUBMITTED_SECONDS:
                yield run
        elif known is not None and not known.intersection(ids):
            yield run


def _with_launch(
    launchpad: LaunchPad, query: dict[str, Any], state: str
) -> Iterator[tuple[LostRun, dict[str, Any]]]:
    for found in list(launchpad.fireworks.find(query, {"fw_id": 1, "name": 1, "launches": 1})):
        last = max(found["launches"], default=None)
        launch = launchpad.launches.find_one(
            {"launch_id": last, "state": state}, {"state_history": 1, "fworker.name": 1, "host": 1}
        )
        if launch is not None:
            worker = (launch.get("fworker") or {}).get("name")
            yield LostRun(found["fw_id"], found["name"], worker, last, state), launch
