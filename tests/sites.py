"""A site for tests: the files of the repository, a real mongod, real worker processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from defect_mf_flows.site.connection import (
    FWORKER_FILE,
    GPU_FWORKER_FILE,
    JOBFLOW_FILE,
    LAUNCHPAD_FILE,
    QADAPTER_FILE,
    SETTINGS_FILE,
    Site,
)
from defect_mf_flows.site.setup import set_up

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
JOBS = ROOT / "tests" / "local"  # jobs_for_tests
FILES = (LAUNCHPAD_FILE, FWORKER_FILE, GPU_FWORKER_FILE, QADAPTER_FILE, JOBFLOW_FILE)


def write_site(folder: Path, port: int, database: str = "defect_mf") -> Site:
    """Copy the repository's site files into a folder and fill in a server on this machine."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        text = (ROOT / name).read_text().replace("27017", str(port))
        text = text.replace("localhost", "127.0.0.1")
        for key in ("name", "database"):
            text = text.replace(f"{key}: defect_mf", f"{key}: {database}")
        (folder / name).write_text(text)
    (folder / SETTINGS_FILE).write_text(yaml.safe_dump({"scratch": str(folder / "scratch")}))
    site = Site.of(folder)
    set_up(site)
    return site


def environment(**more: str) -> dict[str, str]:
    """What processes of the test need: these sources, the test jobs, one thread."""
    path = os.pathsep.join([str(SOURCE), str(JOBS)])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "defect_mf_flows.cli", *map(str, arguments)]


def ask(*arguments: Any, code: int = 0, **env: str) -> str:
    """Run ``defect-mf`` to its end; return what it printed and said."""
    done = _finished(*arguments, code=code, **env)
    return done.stdout + done.stderr


def ask_json(*arguments: Any) -> str:
    """Run ``defect-mf ... --json``; return what a program would read from it."""
    return _finished(*arguments, "--json").stdout


def _finished(*arguments: Any, code: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, env=environment(**env), check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


class Workers:
    """Worker processes of a site, and their logs; ended with the context."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.processes: list[subprocess.Popen[bytes]] = []
        self.logs: list[Path] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            process.wait(timeout=60)

    def start(
        self,
        *mode: Any,
        fworker: str = FWORKER_FILE,
        linger: float = 600.0,
        **env: str,
    ) -> subprocess.Popen[bytes]:
        number = len(self.processes)
        folder = self.site.folder / f"worker-{number}"
        folder.mkdir()
        log = self.site.folder / f"worker-{number}.log"
        options = ["--site", self.site.folder, "--fworker", fworker, "--idle", 0.2]
        process = subprocess.Popen(
            command("worker", *options, "--linger", linger, *(mode or ("rapidfire",))),
            cwd=folder,
            env=environment(**env),
            stdout=log.open("w"),
            stderr=subprocess.STDOUT,
        )
        self.processes.append(process)
        self.logs.append(log)
        return process

    def texts(self) -> str:
        return "\n".join(log.read_text() for log in self.logs)


def wait_until(
    condition: Callable[[], Any], workers: Workers | None = None, seconds: float = 300.0
) -> Any:
    """Wait for a condition; say what the workers said when it does not come."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        said = workers.texts()[-3000:] if workers else ""
        assert time.monotonic() < deadline, f"waited in vain; {said}"
        time.sleep(0.1)
    return found


def states(launchpad: Any) -> dict[str, str]:
    """State of every job by name."""
    found = launchpad.fireworks.find({}, {"name": 1, "state": 1})
    return {firework["name"]: firework["state"] for firework in found}


def launches(launchpad: Any) -> dict[str, int]:
    """How often every job was launched, by name."""
    names = {f["fw_id"]: f["name"] for f in launchpad.fireworks.find({}, {"fw_id": 1, "name": 1})}
    counts = dict.fromkeys(names.values(), 0)
    for launch in launchpad.launches.find({}, {"fw_id": 1}):
        counts[names[launch["fw_id"]]] += 1
    return counts
