"""Bring a LaunchPad back to a consistent state after processes were killed.

FireWorks writes a step of a workflow as several documents: the launch, the Fireworks that change,
new Fireworks, and last the workflow document. That last write is one document and therefore
atomic, so it is taken as the commit: what the other documents say beyond it is undone, and the
step is then done again from the launch's stored action. A finished job is so never run twice,
and its detours are neither lost nor doubled.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from fireworks import FWAction

from defect_mf_flows.launchpad.patience import WORKER_PATIENCE
from defect_mf_flows.local.launchpad import LocalLaunchPad

logger = logging.getLogger(__name__)

HELD = ("RUNNING", "RESERVED")


@dataclass(frozen=True)
class LostRun:
    """A job that a process had begun and cannot finish."""

    fw_id: int
    name: str
    worker: str | None
    launch_id: int | None
    launch_state: str | None


def repair(
    launchpad: LocalLaunchPad,
    dead: Collection[str] | None = None,
    hopeless: Collection[int] = (),
) -> list[LostRun]:
    """Undo half-written steps, keep finished results, make lost jobs ready again.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    dead
        Names of the workers that died while others are at work; None when no worker is alive.
    hopeless
        Fireworks that are marked FIZZLED instead of being made ready, because they have taken
        their worker down too often.

    Returns
    -------
    list of LostRun
        The jobs that were lost.
    """
    with launchpad.exclusive():
        launchpad.workflows.update_many({"locked": {"$exists": True}}, {"$unset": {"locked": ""}})
        _remove_orphans(launchpad)
        _roll_back(launchpad)
    lost = []
    for run in _interrupted(launchpad, dead):
        if run.launch_state not in HELD:
            launchpad._refresh_wf(run.fw_id)  # finished, or never begun
            continue
        lost.append(run)
        if run.fw_id in hopeless:
            _give_up(launchpad, run)
        else:
            launchpad.rerun_fw(run.fw_id)
    return lost


def _remove_orphans(launchpad: LocalLaunchPad) -> None:
    """Remove Fireworks that no workflow knows: the writer died before it wrote the workflow."""
    known: set[int] = set()
    for workflow in launchpad.workflows.find({}, {"nodes": 1}):
        known.update(workflow["nodes"])
    orphans = set(launchpad.fireworks.distinct("fw_id")) - known
    if orphans:
        logger.info("%d half-added jobs are removed; they are added again", len(orphans))
        launchpad.fireworks.delete_many({"fw_id": {"$in": sorted(orphans)}})


def _roll_back(launchpad: LocalLaunchPad) -> None:
    """Set Fireworks back to the state that their workflow has committed.

    RUNNING and RESERVED are written before the workflow on purpose; :func:`_interrupted` and
    :func:`release_stuck` look after those.
    """
    for workflow in launchpad.workflows.find({}, {"fw_states": 1}):
        committed = {int(fw_id): state for fw_id, state in workflow["fw_states"].items()}
        query = {"fw_id": {"$in": list(committed)}, "state": {"$nin": list(HELD)}}
        for found in list(launchpad.fireworks.find(query, {"fw_id": 1, "state": 1})):
            state = committed[found["fw_id"]]
            if state != found["state"]:
                launchpad.fireworks.update_one(
                    {"fw_id": found["fw_id"], "state": found["state"]}, {"$set": {"state": state}}
                )


def _interrupted(launchpad: LocalLaunchPad, dead: Collection[str] | None) -> Iterable[LostRun]:
    query = {"state": {"$in": list(HELD)}}
    fields = {"fw_id": 1, "name": 1, "launches": 1}
    for firework in list(launchpad.fireworks.find(query, fields)):
        launch_id = max(firework["launches"], default=None)
        launch = _launch(launchpad, launch_id)
        worker = (launch.get("fworker") or {}).get("name")
        if dead is None or worker in dead:
            yield LostRun(
                firework["fw_id"], firework["name"], worker, launch_id, launch.get("state")
            )


def _launch(launchpad: LocalLaunchPad, launch_id: int | None) -> dict[str, Any]:
    fields = {"state": 1, "fworker.name": 1}
    return launchpad.launches.find_one({"launch_id": launch_id}, fields) or {}


def _give_up(launchpad: LocalLaunchPad, run: LostRun) -> None:
    message = (
        f"The worker process died every time it ran this job, the last time as {run.worker}. "
        "The usual cause is too little memory."
    )
    action = FWAction(stored_data={"_exception": {"_stacktrace": message}}, exit=True)
    launchpad.complete_launch(run.launch_id, action, "FIZZLED")


def release_stuck(launchpad: LocalLaunchPad) -> int:
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
    before = datetime.now(UTC) - timedelta(seconds=3 * WORKER_PATIENCE)
    query = {"state": "RESERVED", "launches": [], "updated_on": {"$lt": before}}
    stuck = [found["fw_id"] for found in launchpad.fireworks.find(query, {"fw_id": 1})]
    for fw_id in stuck:
        launchpad._refresh_wf(fw_id)
    return len(stuck)
