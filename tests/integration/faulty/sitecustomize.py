"""Ends a worker's computing process at exact moments of exact jobs, once each.

Python imports this in every process that has the folder on PYTHONPATH; it acts only in those of
``defect_mf_flows.site.rocket`` and only on what the file in FAULTS_FILE lists. What follows is
then as real as it gets: SIGKILL, a dead server, a cut network.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Faults:
    """What is to go wrong, read from a JSON list of {job, moment, how, after}."""

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        self.faults = list(enumerate(json.loads(path.read_text())))
        self.job = ""
        self.steps = 0

    def due(self, moment: str, count: int = 0) -> dict[str, Any] | None:
        """The fault that happens now, if any; each happens once, whoever comes first."""
        for number, fault in self.faults:
            matches = fault["moment"] == moment and re.search(fault["job"], self.job)
            if not matches or count < fault.get("after", 0):
                continue
            try:
                marker = os.open(
                    self.folder / f"done-{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY
                )
            except FileExistsError:
                if not fault.get("always"):
                    continue
            else:
                os.write(marker, self.job.encode())
                os.close(marker)
            return fault
        return None

    def at(self, moment: str, count: int = 0) -> None:
        """Do whatever is due."""
        fault = self.due(moment, count)
        if fault is not None:
            getattr(self, fault["how"])()

    # -- what happens --------------------------------------------------------------------

    def kill(self) -> None:
        """What the kernel does when memory runs out."""
        os.kill(os.getpid(), signal.SIGKILL)

    def group(self) -> None:
        os.killpg(os.getpgid(0), signal.SIGKILL)

    def node(self) -> None:
        """The node goes down: nobody is left to tell."""
        os.kill(os.getppid(), signal.SIGKILL)
        os.killpg(os.getpgid(0), signal.SIGKILL)

    def walltime(self) -> None:
        """What a queue sends at the walltime."""
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(600)

    def server(self) -> None:
        self._ask("server")

    def network(self) -> None:
        self._ask("network")

    def _ask(self, what: str) -> None:
        """Let the test do it, and go on in the middle of it."""
        request = self.folder / f"please-{what}"
        request.touch()
        while request.exists():
            time.sleep(0.02)


def arm(faults: Faults) -> None:
    """Put the moments into the libraries that a job passes through."""
    from fireworks.core.launchpad import LaunchPad
    from jobflow import JobStore
    from jobflow.core.job import Job

    from defect_mf_flows.engines.checkpoint import Checkpoint

    run, update = Job.run, JobStore.update
    append, upsert = Checkpoint.append, LaunchPad._upsert_fws

    def run_job(self: Job, *arguments: Any, **options: Any) -> Any:
        faults.job, faults.steps = self.name, 0
        faults.at("begun")
        if self.name.startswith("train"):
            threading.Thread(target=watch_epochs, args=(faults,), daemon=True).start()
        response = run(self, *arguments, **options)
        faults.at("stored")
        return response

    def update_store(self: JobStore, *arguments: Any, **options: Any) -> Any:
        faults.at("computed")
        return update(self, *arguments, **options)

    def append_step(self: Checkpoint, *arguments: Any) -> None:
        append(self, *arguments)
        faults.steps += 1
        faults.at("step", faults.steps)

    def upsert_fireworks(self: LaunchPad, *arguments: Any, **options: Any) -> Any:
        done = upsert(self, *arguments, **options)
        if faults.job:
            faults.at("half recorded")
        return done

    replacements: list[tuple[type, str, Callable[..., Any]]] = [
        (Job, "run", run_job),
        (JobStore, "update", update_store),
        (Checkpoint, "append", append_step),
        (LaunchPad, "_upsert_fws", upsert_fireworks),
    ]
    for owner, name, function in replacements:
        setattr(owner, name, function)


def watch_epochs(faults: Faults) -> None:
    from defect_mf_flows.settings import get_settings

    while faults.job.startswith("train"):
        for history in (get_settings().scratch / "training").glob("*/history.jsonl"):
            faults.at("epoch", len(history.read_text().splitlines()))
        time.sleep(0.02)


if "defect_mf_flows.site.rocket" in sys.orig_argv and "FAULTS_FILE" in os.environ:
    arm(Faults(Path(os.environ["FAULTS_FILE"])))
