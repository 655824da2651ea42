from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1] / "src"
sys.path.insert(0, str(HERE))


@pytest.fixture
def env() -> dict[str, str]:
    """What the workers need to import the test jobs."""
    return {"PYTHONPATH": os.pathsep.join([str(SOURCE), str(HERE)])}


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "executions.txt")


def alive(folder: Path) -> list[psutil.Process]:
    """Processes that name the folder on their command line, zombies aside."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                continue
            if any(str(folder) in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def alive_with(folder: Path, word: str) -> list[psutil.Process]:
    """Of :func:`alive`, those with a word on the command line, watchdog forks aside."""
    matching = [p for p in alive(folder) if any(word in part for part in p.cmdline())]
    pids = {p.pid for p in matching}
    return [p for p in matching if p.ppid() not in pids]


def wait_for(condition: Callable[[], object], seconds: float = 180.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@pytest.fixture
def supervise(
    tmp_path: Path, log: str, env: dict[str, str]
) -> Iterator[Callable[[float], subprocess.Popen[str]]]:
    """Start supervisors as processes of their own; kill those that a failed test leaves."""
    started = []

    def start(seconds: float) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(HERE / "drive.py"), str(tmp_path / "run"), log, str(seconds)],
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()
