"""One worker: ``python -m defect_mf_flows.local.worker`` pulls jobs and runs them in-process.

It is told to stop by a signal that ends it at once; the supervisor makes its job ready again.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from defect_mf_flows.launchpad.service import serve

if TYPE_CHECKING:
    from fireworks import FWorker

    from defect_mf_flows.local.launchpad import LocalLaunchPad

logger = logging.getLogger(__name__)

IDLE_SECONDS = 0.3


def make_fworker(name: str, categories: list[str]) -> FWorker:
    """Return a FWorker that takes jobs of some categories.

    Parameters
    ----------
    name
        Unique name.
    categories
        Categories to take; empty for every job, ``__none__`` for jobs without a category.
    """
    from fireworks import FWorker

    if "__none__" not in categories:
        return FWorker(name, category=categories)
    # FireWorks knows __none__ only when it stands alone.
    named = [category for category in categories if category != "__none__"]
    either = [{"spec._category": {"$exists": False}}, {"spec._category": {"$in": named}}]
    return FWorker(name, query={"$or": either})


def run_one(launchpad: LocalLaunchPad, fworker: FWorker, root: Path, keep: bool) -> None:
    """Run the next job in a folder of its own.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    fworker
        This worker.
    root
        Where the folder is made.
    keep
        Whether to keep the folder of a job that completed.
    """
    from fireworks.core.rocket import Rocket

    folder = root / f"{datetime.now():%Y%m%d-%H%M%S-%f}"
    folder.mkdir()
    os.chdir(folder)
    try:
        Rocket(launchpad, fworker, None).run()
    finally:
        os.chdir(root)
    _tidy(launchpad, fworker, folder, keep)


def _tidy(launchpad: LocalLaunchPad, fworker: FWorker, folder: Path, keep: bool) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()
        return
    if keep:
        return
    from defect_mf_flows.launchpad.patience import patiently

    query = {"fworker.name": fworker.name, "launch_dir": str(folder), "state": "COMPLETED"}
    if patiently(lambda: launchpad.launches.find_one(query, {"_id": 1})):
        shutil.rmtree(folder, ignore_errors=True)


def work(launchpad: LocalLaunchPad, fworker: FWorker, root: Path, keep: bool) -> NoReturn:
    """Run jobs until the process is ended from outside."""
    from defect_mf_flows.launchpad.patience import patiently

    while True:
        if patiently(lambda: launchpad.run_exists(fworker)):
            run_one(launchpad, fworker, root, keep)
        else:
            time.sleep(IDLE_SECONDS)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="One worker of a local campaign.")
    parser.add_argument("--folder", required=True, help="the campaign's folder")
    parser.add_argument("--port", type=int, required=True, help="port of the private server")
    parser.add_argument("--name", required=True, help="unique name of this worker")
    parser.add_argument("--category", action="append", default=[], help="may be given repeatedly")
    parser.add_argument("--keep-launch-dirs", action="store_true")
    return parser.parse_args()


def _serve(arguments: argparse.Namespace) -> NoReturn:
    # Imported here: the watchdog was forked while the process was still small.
    import fireworks.core.rocket as fw_rocket

    from defect_mf_flows.launchpad.patience import WORKER_PATIENCE
    from defect_mf_flows.local.launchpad import WorkerLaunchPad
    from defect_mf_flows.local.layout import Layout

    settings: Any = fw_rocket
    settings.PRINT_FW_JSON = False  # a copy of the whole job in every folder
    logging.getLogger("rocket.launcher").propagate = False  # it has a handler of its own
    layout = Layout.of(arguments.folder)
    root = layout.launches / arguments.name
    root.mkdir(parents=True, exist_ok=True)
    launchpad = WorkerLaunchPad(layout, arguments.port, WORKER_PATIENCE, log_level="WARNING")
    fworker = make_fworker(arguments.name, arguments.category)
    work(launchpad, fworker, root, arguments.keep_launch_dirs)


def main() -> None:
    """Start the watchdog and work."""
    serve(lambda: _serve(_arguments()))


if __name__ == "__main__":
    main()
