"""A benchmark that is killed takes its processes with it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil

PROGRAM = """
import os, sys, time
from defect_mf_flows.benchmark.processes import executor

def stay(path):
    open(path, "w").write(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    with executor(1) as pool:
        pool.submit(stay, sys.argv[1]).result()
"""


def test_the_processes_of_a_killed_benchmark_end(tmp_path: Path) -> None:
    script, mark = tmp_path / "program.py", tmp_path / "pid"
    script.write_text(PROGRAM)
    parent = subprocess.Popen([sys.executable, str(script), str(mark)])
    try:
        deadline = time.monotonic() + 120
        while not (mark.is_file() and mark.read_text()) and time.monotonic() < deadline:
            time.sleep(0.1)
        child = psutil.Process(int(mark.read_text()))
        assert child.is_running()
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs([child], timeout=60)
    assert not alive
