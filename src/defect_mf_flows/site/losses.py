"""Jobs that were lost while they ran: counted by cause, and limited where trying again is vain."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from fireworks import LaunchPad

from defect_mf_flows.launchpad.recovery import LostRun, give_up

logger = logging.getLogger(__name__)

LOSSES = "losses"


class Cause(StrEnum):
    """Why a job did not end by itself."""

    WALLTIME = "walltime"
    MEMORY = "memory"
    CRASH = "crash"
    SERVER = "server"
    VANISHED = "vanished"


#: So often a job may be lost by one cause before it is given up. A walltime ends jobs that do
#: make progress: relaxations and trainings continue from their last step or checkpoint.
LIMITS = {Cause.MEMORY: 3, Cause.CRASH: 3, Cause.SERVER: 10}

MEANINGS = {
    Cause.WALLTIME: "ended by a signal, as a queue does at the walltime",
    Cause.MEMORY: "killed, as a kernel does with a process that takes too much memory",
    Cause.CRASH: "its process crashed",
    Cause.SERVER: "the database server was away for too long",
    Cause.VANISHED: "its worker was heard of no more",
}


def put_back(launchpad: LaunchPad, run: LostRun, cause: Cause, message: str = "") -> bool:
    """Count a loss and make the job ready again, or give it up when it was lost too often.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    run
        A job that nobody runs any more, its launch RUNNING, RESERVED or FIZZLED.
    cause
        Why.
    message
        More about it, for those who read the status.

    Returns
    -------
    bool
        Whether the job runs again.
    """
    why = MEANINGS[cause] + (f" ({message})" if message else "")
    entry = {
        "fw_id": run.fw_id,
        "worker": run.worker,
        "cause": cause.value,
        "message": why,
        "on": datetime.now(UTC),
    }
    # By launch: a loss that two processes see is one.
    key = {"_id": run.launch_id if run.launch_id is not None else f"fw {run.fw_id}"}
    launchpad.db[LOSSES].update_one(key, {"$setOnInsert": entry}, upsert=True)
    query: dict[str, Any] = {"fw_id": run.fw_id, "cause": cause.value, "forgiven": None}
    count = launchpad.db[LOSSES].count_documents(query)
    if count >= LIMITS.get(cause, count + 1):
        logger.warning("job %d (%s) is given up: %s, %d times", run.fw_id, run.name, why, count)
        message = f"{why}; this job was lost so {count} times and is not tried again."
        give_up(launchpad, run.launch_id, message)
        return False
    logger.warning("job %d (%s) is given back: %s", run.fw_id, run.name, why)
    launchpad.rerun_fw(run.fw_id)
    return True


def losses(launchpad: LaunchPad, fw_ids: Iterable[int]) -> dict[str, int]:
    """Count the losses of jobs by cause.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    fw_ids
        The jobs.

    Returns
    -------
    dict
        Number per cause; causes that never were are left out.
    """
    found = launchpad.db[LOSSES].find({"fw_id": {"$in": list(fw_ids)}}, {"cause": 1})
    return dict(Counter(loss["cause"] for loss in found))


def forgive(launchpad: LaunchPad, fw_ids: Iterable[int]) -> None:
    """Let jobs be lost anew as often as jobs that never were.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    fw_ids
        The jobs.
    """
    query = {"fw_id": {"$in": list(fw_ids)}}
    launchpad.db[LOSSES].update_many(query, {"$set": {"forgiven": True}})
