"""The process of a site's worker that computes: ``python -m defect_mf_flows.site.rocket``.

It runs jobs in-process and may be ended at any moment; the worker that started it sorts out what
it left behind.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from defect_mf_flows.launchpad.service import serve

if TYPE_CHECKING:
    from defect_mf_flows.site.launchpad import SiteLaunchPad
    from defect_mf_flows.site.versions import ChoosyFWorker

logger = logging.getLogger(__name__)

TIDY_SECONDS = 60.0


def run_jobs(
    launchpad: SiteLaunchPad,
    fworker: ChoosyFWorker,
    root: Path,
    *,
    idle: float,
    linger: float,
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
    rest = _Rest(launchpad, fworker)
    while True:
        if not patiently(lambda: launchpad.run_exists(fworker)):
            rest()
            if time.monotonic() - last > linger:
                return
            time.sleep(idle)
            continue
        folder = root / f"{datetime.now():%Y%m%d-%H%M%S-%f}"
        folder.mkdir()
        os.chdir(folder)
        Rocket(launchpad, fworker, None).run()
        os.chdir(root)
        if not any(folder.iterdir()):
            folder.rmdir()
        _after_job(launchpad, fworker.name)
        last = time.monotonic()


class _Rest:
    """What an idle worker does: say why it is idle, free what dead workers had taken."""

    def __init__(self, launchpad: SiteLaunchPad, fworker: ChoosyFWorker) -> None:
        self.launchpad, self.fworker = launchpad, fworker
        self._said: dict[str, int] = {}
        self._tidied = time.monotonic()

    def __call__(self) -> None:
        from defect_mf_flows.launchpad.patience import patiently
        from defect_mf_flows.launchpad.recovery import release_stuck
        from defect_mf_flows.site.versions import version_message

        waiting = patiently(self.fworker.waiting_for_others)
        if waiting and waiting != self._said:
            logger.warning("%s", version_message(waiting))
        self._said = waiting
        if time.monotonic() - self._tidied > TIDY_SECONDS:
            self._tidied = time.monotonic()
            patiently(lambda: release_stuck(self.launchpad))


def _after_job(launchpad: SiteLaunchPad, name: str) -> None:
    from defect_mf_flows.launchpad.patience import patiently
    from defect_mf_flows.site.recovery import repeat_if_disconnected

    patiently(lambda: repeat_if_disconnected(launchpad, name))


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
    from defect_mf_flows.site.recovery import PING_SECONDS
    from defect_mf_flows.site.versions import ChoosyFWorker

    settings: Any = fw_rocket
    settings.PRINT_FW_JSON = False  # a copy of the whole job in every folder
    settings.PING_TIME_SECS = PING_SECONDS  # an hour by default: a dead node would stay unnoticed
    logging.getLogger("rocket.launcher").propagate = False  # it has a handler of its own
    site = Site.of(arguments.site)
    jobflow.SETTINGS.JOB_STORE = site.store(worker=True)
    launchpad = site.launchpad(worker=True)
    launchpad.holder = arguments.name
    fworker = ChoosyFWorker(site.fworker(arguments.fworker), launchpad)
    fworker.name = arguments.name
    if arguments.fw_id is not None:
        fw_rocket.Rocket(launchpad, fworker, arguments.fw_id).run()
        _after_job(launchpad, fworker.name)
    else:
        run_jobs(launchpad, fworker, Path.cwd(), idle=arguments.idle, linger=arguments.linger)


def main() -> None:
    """Work, guarded: it ends with the worker that started it."""
    serve(lambda: _serve(_arguments()))


if __name__ == "__main__":
    main()
