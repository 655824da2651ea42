"""Query times, streaming, and the assembly of a dataset; each in a process of its own."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from jobflow import CURRENT_JOB
from synthetic import CAMPAIGN_HASH, connected, uuids_of

from defect_mf_flows.campaign import FrameSettings, TrainingSettings
from defect_mf_flows.jobs.dataset import DatasetMaker, read_frames
from defect_mf_flows.learning.strategies import plan
from defect_mf_flows.learning.training import _labels, _references
from defect_mf_flows.results import Records
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.schemas.dataset import Picks
from defect_mf_flows.schemas.loop import LoopState

REPEATS = 15
MIB = 2**20


def query_times(port: int, database: str) -> list[tuple[str, int, float]]:
    """Median times of indexed queries.

    Returns
    -------
    list of tuple
        What was asked, number of rows found, milliseconds.
    """
    records = Records(connected(port, database))
    whole = {"campaign": CAMPAIGN_HASH}
    cases: list[tuple[str, Callable[[], int]]] = [
        ("count: campaign, charge", lambda: records.count(Calculation, **whole, charge=-1)),
        (
            "count: defect, charge, fidelity, state",
            lambda: records.count(
                Calculation, defect="v_Zn", charge=-1, fidelity="high", state="converged"
            ),
        ),
        (
            "table: fidelity, defect, charge, one day",
            lambda: len(
                records.calculations(
                    fidelity="low", defect="v_Zn", charge=-1, since="2026-01-01", until="2026-01-01"
                )
            ),
        ),
        (
            "table: campaign, one stage, one charge, 4 hours",
            lambda: len(
                records.calculations(
                    **whole,
                    stage="low fidelity",
                    charge=0,
                    since="2026-01-01T04:00",
                    until="2026-01-01T08:00",
                )
            ),
        ),
        ("table: every calculation", lambda: len(records.calculations())),
        (
            "first frame of one charge (reads the frames of its calculation)",
            lambda: 1 if next(records.frames(charge=-2)) else 0,
        ),
    ]
    return [(name, *_median(ask)) for name, ask in cases]


def _median(ask: Callable[[], int]) -> tuple[int, float]:
    found, times = ask(), []
    for _ in range(REPEATS):
        began = time.perf_counter()
        found = ask()
        times.append(1000 * (time.perf_counter() - began))
    return found, statistics.median(times)


def streaming(port: int, database: str, n_frames: int) -> dict[str, float]:
    """Stream frames and watch the memory after the first calculations."""
    process, seen, base, peak = psutil.Process(), 0, 0, 0
    began, cpu = time.perf_counter(), time.process_time()
    for frame in Records(connected(port, database)).frames():
        assert frame.charge == frame.structure.properties["charge"]
        seen += 1
        if seen % 40 == 0:
            now = process.memory_info().rss
            base = base or (now if seen >= 400 else 0)
            peak = max(peak, now)
        if seen == n_frames:
            break
    return {
        "frames": seen,
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - cpu,
        "growth_mib": (peak - base) / MIB,
        "peak_mib": peak / MIB,
    }


def assembly(
    port: int, database: str, low: tuple[int, int], high: tuple[int, int], scratch: str
) -> list[tuple[str, dict[str, float]]]:
    """Assemble a dataset of every frame, and write what the training reads."""
    store = connected(port, database)
    state = LoopState(
        low=uuids_of(*low),
        labels=uuids_of(*high),
        origins={},
        picks=Picks(frames=[], n_candidates=0, strata={}),
    )
    maker = DatasetMaker(
        heads=["low", "high"], frames=FrameSettings(per_relaxation=40), verification_frames=40
    )
    job = maker.make("defects", state)
    CURRENT_JOB.job, CURRENT_JOB.store = job, store
    steps: list[tuple[str, dict[str, float]]] = []
    dataset = _timed(
        steps, "assemble (jobs/dataset.py)", lambda: DatasetMaker.make.original(maker, *_given(job))
    ).output
    frames = _timed(steps, "read its frames again", lambda: read_frames(dataset))
    settings = TrainingSettings()
    heads = ["low", "high"]
    task = {"settings": settings.model_dump(mode="json"), "heads": heads, "host": None}
    references = _timed(steps, "reference energies", lambda: _references(frames, dataset))
    folder = Path(scratch) / "training"
    _timed(
        steps,
        "write the training's file",
        lambda: plan(
            folder,
            task,
            _labels(frames, dataset, references, settings),
            heads,
        ),
    )
    assert len(dataset.entries) == len(frames)
    return steps


def _given(job: Any) -> tuple[Any, ...]:
    return tuple(job.function_args)


def _timed(steps: list[tuple[str, dict[str, float]]], name: str, call: Callable[[], Any]) -> Any:
    began, cpu = time.perf_counter(), time.process_time()
    made = call()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    steps.append(
        (
            name,
            {
                "seconds": time.perf_counter() - began,
                "cpu": time.process_time() - cpu,
                "peak_mib": peak,
            },
        )
    )
    return made
