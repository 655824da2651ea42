"""Processes of a benchmark: single-threaded, and gone when the benchmark is."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from defect_mf_flows.remarks import ignore_remarks


def single_threaded() -> None:
    """One thread per process, also in those that are started from here."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = "1"


def executor(workers: int) -> ProcessPoolExecutor:
    """Pool of fresh processes that end with their parent, also if it is killed.

    Parameters
    ----------
    workers
        Processes.

    Returns
    -------
    ProcessPoolExecutor
        To be used as a context.
    """
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin)


def _begin() -> None:
    ignore_remarks()
    _follow_parent()


def _follow_parent() -> None:
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
