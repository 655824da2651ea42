"""The training subprocess: ``python -m defect_mf_flows.learning.train_worker FOLDER``.

Reads ``training.json`` and ``frames.xyz`` from FOLDER, writes ``history.jsonl``,
``checkpoint.pt`` after every few epochs and, at the end, ``model.pt`` and ``done.json``. A
FOLDER with ``stages.json`` holds such a folder per stage; their networks become one.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from defect_mf_flows.learning.composites import Delta, LowOnly
from defect_mf_flows.learning.trainer import Trainer
from defect_mf_flows.learning.training_files import finished_network, save, write_done

logger = logging.getLogger(__name__)

#: Exit status when the disk is full: the log, on the same disk, cannot say so.
DISK_FULL = 74
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def compose(folder: Path, plan: dict[str, Any]) -> None:
    """Make one network of those of the stages, and one record of theirs."""
    done = [json.loads((folder / name / "done.json").read_text()) for name in plan["stages"]]
    networks = [finished_network(folder / name) for name in plan["stages"]]
    network = networks[-1]
    if plan["compose"] == "delta":
        network = Delta(networks[0], networks[1], plan["heads"])
    elif plan["compose"] == "low_only":
        network = LowOnly(networks[0], plan["heads"])
    save(network, folder / "model.pt")
    history, before = [], 0
    for item in done:
        history += [{**record, "epoch": record["epoch"] + before} for record in item["history"]]
        best, before = before + item["best_epoch"], history[-1]["epoch"] + 1
    write_done(
        folder,
        best_epoch=best,
        seconds=sum(item["seconds"] for item in done),
        history=history,
    )


def run(folder: Path) -> None:
    """Train what is not trained yet; what a killed process finished is not done again."""
    if (folder / "done.json").is_file():
        return
    stages = folder / "stages.json"
    if not stages.is_file():
        Trainer(folder).run()
        return
    plan = json.loads(stages.read_text())
    for name in plan["stages"]:
        run_locked(folder / name)  # another training may begin with the same stage
    compose(folder, plan)


def run_locked(folder: Path) -> None:
    """Train in a folder, after whoever may still be training there."""
    with (folder / "lock").open("w") as lock:
        # A worker that died can leave its training behind: wait for it, do not race it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        run(folder)


def main() -> None:
    """Run the training of the folder named on the command line."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        run_locked(Path(sys.argv[1]))
    except OSError as error:
        logger.exception("training stops")
        if error.errno in FULL:
            os._exit(DISK_FULL)
        raise


if __name__ == "__main__":
    main()
