"""Jobs that the workers import; each notes its execution in a file."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from fireworks import FiretaskBase, FWAction, explicit_serialize
from jobflow import CURRENT_JOB, Flow, Response, job


@explicit_serialize
class EmptyTask(FiretaskBase):
    """Found by its module: FireWorks looks a plain name up in all its own modules, tests too."""

    def run_task(self, fw_spec: dict) -> FWAction:
        return FWAction()


def note(log: str) -> None:
    """Append the running job's uuid in one write, so that two processes cannot mix lines."""
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, f"{CURRENT_JOB.job.name} {CURRENT_JOB.job.uuid}\n".encode())
    os.close(handle)


def executions(log: str | Path) -> list[str]:
    """Names of the jobs in the order in which they were begun."""
    path = Path(log)
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


@job
def double(x: int, log: str) -> int:
    note(log)
    return 2 * x


@job
def nap(seconds: float, log: str, x: int = 1) -> int:
    """Sleep the first time; end early when a file says so."""
    note(log)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and executions(log).count("nap") == 1:
        if Path(f"{log}.wake").exists():
            break
        time.sleep(0.1)
    return x


@job
def meet(log: str, count: int) -> int:
    """Wait until as many workers have begun such a job."""
    note(log)
    deadline = time.monotonic() + 240.0
    while sum(name.startswith("meet") for name in executions(log)) < count:
        assert time.monotonic() < deadline, "nobody else came"
        time.sleep(0.1)
    return count


@job
def total(values: list[int], log: str) -> int:
    note(log)
    return sum(values)


@job(data="big")
def blob(n: int, log: str) -> dict:
    note(log)
    Path("scratch.txt").write_text("x")
    return {"n": n, "big": list(range(n))}


@job
def fan_out(n: int, log: str) -> Response:
    note(log)
    jobs = []
    for i in range(n):
        child = double(i, log)
        child.name = f"child-{i}"
        child.update_metadata({"stage": "children"})
        jobs.append(child)
    last = total([child.output for child in jobs], log)
    return Response(replace=Flow([*jobs, last], output=last.output))


@job
def needs_file(path: str, log: str) -> str:
    note(log)
    if not Path(path).exists():
        raise RuntimeError(f"{path} is not there yet")
    return "fine"


@job
def suicide(log: str) -> None:
    note(log)
    os.kill(os.getpid(), signal.SIGKILL)


@job
def stop_children(log: str) -> Response:
    note(log)
    return Response(output=1, stop_children=True)


def dynamic_flow(log: str, nap_seconds: float = 0.0) -> Flow:
    """A blob, a fan-out made at run time, a nap, and a job that needs them all."""
    big = blob(2000, log)
    fan = fan_out(4, log)
    sleep = nap(nap_seconds, log)
    last = total([fan.output, big.output["n"], sleep.output], log)
    last.name = "last"
    for one in (big, fan, sleep):
        one.update_metadata({"stage": "first"}, dynamic=False)  # or children inherit it
    return Flow([big, fan, sleep, last], name="dynamic")


def nap_flow(log: str, seconds: float) -> Flow:
    """Quick jobs and one long nap, then a job that needs them."""
    quick = [double(i, log) for i in range(3)]
    for i, one in enumerate(quick):
        one.name = f"quick-{i}"
    sleep = nap(seconds, log)
    last = total([*(one.output for one in quick), sleep.output], log)
    last.name = "last"
    return Flow([*quick, sleep, last], name="naps")
