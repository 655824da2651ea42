"""Why a job failed."""

from __future__ import annotations

from fireworks import LaunchPad
from fireworks.core.launchpad import get_action_from_gridfs
from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    NetworkTimeout,
    NotPrimaryError,
    ServerSelectionTimeoutError,
)

_CONNECTION_ERRORS = tuple(
    f"pymongo.errors.{kind.__name__}"
    for kind in (
        AutoReconnect,
        ConnectionFailure,
        NetworkTimeout,
        NotPrimaryError,
        ServerSelectionTimeoutError,
    )
)


def stacktrace(launchpad: LaunchPad, fw_id: int) -> tuple[str, str | None]:
    """Return the last exception of a failed job and the worker that ran it.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    fw_id
        The Firework.

    Returns
    -------
    tuple
        The stack trace, empty when none was stored, and the worker's name.
    """
    fields = {"launches": 1, "spec._exception_details": 1}
    firework = launchpad.fireworks.find_one({"fw_id": fw_id}, fields) or {}
    launch_id = max(firework.get("launches", []), default=None)
    launch = launchpad.launches.find_one({"launch_id": launch_id}) or {}
    action = get_action_from_gridfs(launch.get("action"), launchpad.gridfs_fallback) or {}
    trace = (action.get("stored_data", {}).get("_exception") or {}).get("_stacktrace")
    trace = trace or firework.get("spec", {}).get("_exception_details", {}).get("_stacktrace")
    return str(trace or ""), (launch.get("fworker") or {}).get("name")


def lost_connection(trace: str) -> bool:
    """Whether a job failed only because the server was away.

    Parameters
    ----------
    trace
        The job's stack trace.
    """
    lines = [line for line in trace.splitlines() if line.strip()]
    return any(line.startswith(_CONNECTION_ERRORS) for line in lines)


def reason(trace: str) -> str:
    """Return the last line of a stack trace, which says what went wrong.

    Parameters
    ----------
    trace
        The stack trace, or the message that stands for one.
    """
    lines = [line.strip() for line in trace.splitlines() if line.strip()]
    return lines[-1] if lines else "no exception was stored"
