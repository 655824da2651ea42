"""The process of a site's worker that computes: ``python -m defect_mf_flows.site.rocket``.

It runs jobs in-process and may be ended at any moment; the worker that started it sorts out what
it left behind.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defect_mf_flows.launchpad.guard import start_watchdog

if TYPE_CHECKING:
    from fireworks import FWorker, LaunchPad

logger = logging.getLogger(__name__)

FAILED = 70  # exit status when it could not record what it did


def run_jobs(
    launchpad: LaunchPad, fworker: FWorker, root: Path, *, idle: float, linger: float
) -> None:
    """Run jobs, each in a folder of its own, until none has come for a while.

    Parameters
    ----------
    launchpad
        A worker's LaunchPad.
    fworker
        Categories and query.
    root
        Where the folders are made.
    idle
        Seconds between looks at an empty queue.
    linger
        Seconds without work after which to return.
    """
    from fireworks.core.rocket import Rocket

    from defect_mf_flows.launchpad.patience import patiently

    last = time.monotonic()
    while time.monotonic() - last <= linger:
        if not patiently(lambda: launchpad.run_exists(fworker)):
            time.sleep(idle)
            continue
        folder = root / f"{datetime.now():%Y%m%d-%H%M%S-%f}"
        folder.mkdir()
        os.chdir(folder)
        Rocket(launchpad, fworker, None).run()
        os.chdir(root)
        if not any(folder.iterdir()):
            folder.rmdir()
        last = time.monotonic()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The computing process of a site's worker.")
    parser.add_argument("--site", required=True)
    parser.add_argument("--fworker", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--fw-id", type=int)
    parser.add_argument("--idle", type=float, default=5.0)
    parser.add_argument("--linger", type=float, default=0.0)
    return parser.parse_args()


def _serve(arguments: argparse.Namespace) -> None:
    import fireworks.core.rocket as fw_rocket
    import jobflow

    from defect_mf_flows.site.connection import Site
    from defect_mf_flows.site.versions import own_version_only

    settings: Any = fw_rocket
    settings.PRINT_FW_JSON = False  # a copy of the whole job in every folder
    logging.getLogger("rocket.launcher").propagate = False  # it has a handler of its own
    site = Site.of(arguments.site)
    jobflow.SETTINGS.JOB_STORE = site.store(worker=True)
    launchpad = site.launchpad(worker=True)
    fworker = own_version_only(site.fworker(arguments.fworker))
    fworker.name = arguments.name
    if arguments.fw_id is not None:
        fw_rocket.Rocket(launchpad, fworker, arguments.fw_id).run()
    else:
        run_jobs(launchpad, fworker, Path.cwd(), idle=arguments.idle, linger=arguments.linger)


def main() -> None:
    """Work, guarded: it ends with the worker that started it."""
    # FireWorks takes KeyboardInterrupt and SystemExit in a job for the job's failure, so signals
    # must end the process without raising anything.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    start_watchdog(signal.SIGKILL, whole_group=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        _serve(_arguments())
    except BaseException:
        logger.exception("this worker gives up")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(FAILED)  # FireWorks' ping thread would keep the process alive for an hour


if __name__ == "__main__":
    main()
