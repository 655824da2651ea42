"""Bring the LaunchPad of one machine back to a consistent state after processes were killed."""

from __future__ import annotations

from collections.abc import Collection

from defect_mf_flows.launchpad.recovery import (
    HELD,
    LostRun,
    give_up,
    interrupted,
    release_stuck,
    remove_orphans,
    roll_back,
)
from defect_mf_flows.local.launchpad import LocalLaunchPad

__all__ = ["LostRun", "release_stuck", "repair"]


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
        remove_orphans(launchpad)
        roll_back(launchpad)
    lost = []
    for run in interrupted(launchpad, dead):
        if run.launch_state not in HELD:
            launchpad._refresh_wf(run.fw_id)  # finished, or never begun
            continue
        lost.append(run)
        if run.fw_id in hopeless:
            message = (
                f"The worker process died every time it ran this job, the last time as "
                f"{run.worker}. The usual cause is too little memory."
            )
            give_up(launchpad, run.launch_id, message)
        else:
            launchpad.rerun_fw(run.fw_id)
    return lost
