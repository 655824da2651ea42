"""Read access to a campaign's server, whether or not the campaign runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from jobflow import JobStore

from defect_mf_flows.errors import ResultsError, ServiceError
from defect_mf_flows.local.launchpad import LocalLaunchPad
from defect_mf_flows.local.layout import Layout
from defect_mf_flows.local.locks import FolderLock
from defect_mf_flows.local.mongod import PrivateMongod, find_mongod, live_port
from defect_mf_flows.local.store import local_job_store

WAIT_SECONDS = 30.0


@contextmanager
def connect(
    folder: Path | str, mongod: str | None = None
) -> Iterator[tuple[LocalLaunchPad, JobStore]]:
    """Connect to the server of a running campaign, or start it just for the reading.

    Parameters
    ----------
    folder
        The campaign's folder.
    mongod
        The configured mongod, see :func:`~defect_mf_flows.local.mongod.find_mongod`.

    Yields
    ------
    tuple
        The LaunchPad and the connected job store.

    Raises
    ------
    ResultsError
        When nothing was ever run in the folder.
    ServiceError
        When the server can be neither reached nor started.
    """
    layout = Layout.of(folder)
    if not layout.data.is_dir():
        raise ResultsError(
            f"Nothing was run in {layout.folder} yet. Remedy: start the campaign with "
            "`defect-mf run`, or name the folder that it was run in."
        )
    with ExitStack() as stack:
        port = _port_or_lock(layout, stack)
        if port is None:
            server = PrivateMongod(layout.data, find_mongod(mongod))
            port = stack.enter_context(server).port
        launchpad = LocalLaunchPad(layout, port)
        stack.callback(launchpad.close)
        store = local_job_store(port)
        store.connect()
        stack.callback(store.close)
        yield launchpad, store


def _port_or_lock(layout: Layout, stack: ExitStack) -> int | None:
    """Return the port of the living server, or None with the right to start one."""
    lock = FolderLock(layout.folder_lock, "read")
    deadline = time.monotonic() + WAIT_SECONDS
    while not lock.acquire():
        port = live_port(layout.data, layout.server / "mongod.json")
        if port is not None:
            return port
        if time.monotonic() > deadline:
            pid = lock.holder().get("pid", "unknown")
            raise ServiceError(
                f"Process {pid} holds {layout.folder} but its mongod does not answer. "
                f"Remedy: wait until it has started or stopped, or end it (kill {pid}), and repeat."
            )
        time.sleep(0.2)
    stack.callback(lock.release)
    return None
