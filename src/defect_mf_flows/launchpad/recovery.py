"""Undo and redo steps of a workflow that a killed process left half-written.

FireWorks writes a step of a workflow as several documents: the launch, the Fireworks that change,
new Fireworks, and last the workflow document. That last write is one document and therefore
atomic, so it is taken as the commit: what the other documents say beyond it is undone, and the
step is then done again from the launch's stored action. A finished job is so never run twice,
and its detours are neither lost nor doubled.

Undoing is safe only while nobody else is in the middle of a step: callers hold the workflow's
lock, or know that no other process is alive.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from fireworks import FWAction, LaunchPad

from defect_mf_flows.launchpad.patience import WORKER_PATIENCE

logger = logging.getLogger(__name__)

HELD = ("RUNNING", "RESERVED")
# People set these with FireWorks' own commands, which write the Firework before the workflow.
_BY_HAND = ("PAUSED", "DEFUSED", "ARCHIVED")


@dataclass(frozen=True)
class LostRun:
    """A job that a process had begun and cannot finish."""

    fw_id: int
    name: str
    worker: str | None
    launch_id: int | None
    launch_state: str | None


def remove_orphans(
    launchpad: LaunchPad,
    fireworks: dict[str, Any] | None = None,
    workflows: dict[str, Any] | None = None,
) -> list[int]:
    """Remove Fireworks that no workflow knows: the writer died before it wrote the workflow.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    fireworks, workflows
        Queries for the Fireworks to look at and the workflows that may know them; by default all.

    Returns
    -------
    list of int
        Their ids.
    """
    orphans = find_orphans(launchpad, fireworks, workflows)
    if orphans:
        logger.info("%d half-added jobs are removed; they are added again", len(orphans))
        launchpad.fireworks.delete_many({"fw_id": {"$in": orphans}})
    return orphans


def find_orphans(
    launchpad: LaunchPad,
    fireworks: dict[str, Any] | None = None,
    workflows: dict[str, Any] | None = None,
) -> list[int]:
    """Return the ids of Fireworks that no workflow knows.

    Parameters
    ----------
    launchpad, fireworks, workflows
        As for :func:`remove_orphans`.
    """
    found = [f["fw_id"] for f in launchpad.fireworks.find(fireworks or {}, {"fw_id": 1})]
    known: set[int] = set()
    for workflow in launchpad.workflows.find(workflows or {}, {"nodes": 1}):
        known.update(workflow["nodes"])
    return sorted(set(found) - known)


def roll_back(
    launchpad: LaunchPad, query: dict[str, Any] | None = None, *, keep_manual: bool = False
) -> list[int]:
    """Set Fireworks back to the state that their workflow has committed.

    RUNNING and RESERVED are written before the workflow on purpose; :func:`interrupted` and
    :func:`release_stuck` look after those.

    Parameters
    ----------
    launchpad
        The LaunchPad; nobody may be in the middle of a step of these workflows.
    query
        Only workflows that match; all by default.
    keep_manual
        Leave alone what was paused, defused or archived: somebody may be doing it just now.

    Returns
    -------
    list of int
        Ids of the Fireworks that were set back.
    """
    changed = []
    for fw_id, state, committed in list(find_torn(launchpad, query, keep_manual=keep_manual)):
        done = launchpad.fireworks.update_one(
            {"fw_id": fw_id, "state": state}, {"$set": {"state": committed}}
        )
        if done.modified_count:
            changed.append(fw_id)
    return changed


def find_torn(
    launchpad: LaunchPad, query: dict[str, Any] | None = None, *, keep_manual: bool = False
) -> Iterator[tuple[int, str, str]]:
    """Find Fireworks whose state is not the one that their workflow has committed.

    Parameters
    ----------
    launchpad, query, keep_manual
        As for :func:`roll_back`.

    Yields
    ------
    tuple
        Id, state, and committed state.
    """
    passed = list(HELD) + (list(_BY_HAND) if keep_manual else [])
    for workflow in launchpad.workflows.find(query or {}, {"fw_states": 1}):
        committed = {int(fw_id): state for fw_id, state in workflow["fw_states"].items()}
        fireworks = {"fw_id": {"$in": list(committed)}, "state": {"$nin": passed}}
        for found in launchpad.fireworks.find(fireworks, {"fw_id": 1, "state": 1}):
            if committed[found["fw_id"]] != found["state"]:
                yield found["fw_id"], found["state"], committed[found["fw_id"]]


def interrupted(
    launchpad: LaunchPad,
    dead: Collection[str] | None = None,
    query: dict[str, Any] | None = None,
) -> Iterator[LostRun]:
    """Find jobs that are held by a worker that is dead.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    dead
        Names of dead workers; None for every worker.
    query
        Only Fireworks that match; all by default.

    Yields
    ------
    LostRun
        ``launch_state`` tells whether the launch had ended.
    """
    held = {**(query or {}), "state": {"$in": list(HELD)}}
    fields = {"fw_id": 1, "name": 1, "launches": 1}
    for firework in list(launchpad.fireworks.find(held, fields)):
        launch_id = max(firework["launches"], default=None)
        launch = _launch(launchpad, launch_id)
        worker = (launch.get("fworker") or {}).get("name")
        if dead is None or worker in dead:
            yield LostRun(
                firework["fw_id"], firework["name"], worker, launch_id, launch.get("state")
            )


def _launch(launchpad: LaunchPad, launch_id: int | None) -> dict[str, Any]:
    fields = {"state": 1, "fworker.name": 1}
    return launchpad.launches.find_one({"launch_id": launch_id}, fields) or {}


def give_up(launchpad: LaunchPad, launch_id: int | None, message: str) -> None:
    """Mark a lost job FIZZLED.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    launch_id
        The job's launch.
    message
        Stands where a stack trace would.
    """
    action = FWAction(stored_data={"_exception": {"_stacktrace": message}}, exit=True)
    launchpad.complete_launch(launch_id, action, "FIZZLED")


def release_stuck(launchpad: LaunchPad) -> int:
    """Make jobs ready that a worker reserved and died before it noted that it runs them.

    Such a job names no worker, so age must tell: a living worker that waits for the server gives
    up sooner.

    Parameters
    ----------
    launchpad
        The LaunchPad.

    Returns
    -------
    int
        How many there were.
    """
    stuck = find_stuck(launchpad)
    for fw_id in stuck:
        launchpad._refresh_wf(fw_id)
    return len(stuck)


def find_stuck(launchpad: LaunchPad) -> list[int]:
    """Return the ids of jobs that :func:`release_stuck` would make ready.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    """
    before = datetime.now(UTC) - timedelta(seconds=3 * WORKER_PATIENCE)
    query = {"state": "RESERVED", "launches": [], "updated_on": {"$lt": before}}
    return [found["fw_id"] for found in launchpad.fireworks.find(query, {"fw_id": 1})]
