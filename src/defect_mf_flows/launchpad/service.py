"""The frame of a worker process: how it takes signals, and how it ends when it cannot go on."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable

from defect_mf_flows.launchpad.guard import start_watchdog

logger = logging.getLogger(__name__)

#: Exit status of a worker that could not record what it did.
FAILED = 70


def serve(work: Callable[[], None]) -> None:
    """Work, guarded: the process ends with the supervisor that started it.

    Parameters
    ----------
    work
        What the process is for. Whatever it raises ends the process with status 70: what it had
        begun is unknown then, and the supervisor sorts it out.
    """
    # FireWorks takes KeyboardInterrupt and SystemExit in a job for the job's failure, so signals
    # must end the process without raising anything.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    start_watchdog(signal.SIGKILL, whole_group=True)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        work()
    except BaseException:
        logger.exception("this worker gives up")
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(FAILED)  # FireWorks' ping thread would keep the process alive for an hour
