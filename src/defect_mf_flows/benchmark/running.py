"""One call per benchmark: the pool, the trainings, the page."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from defect_mf_flows.benchmark import active, charge, fidelity, sampling
from defect_mf_flows.benchmark.arms import FULL, NETWORK, BenchmarkSize
from defect_mf_flows.benchmark.pool import QUICK as QUICK_POOL
from defect_mf_flows.benchmark.pool import build_pool
from defect_mf_flows.campaign import TrainingSettings
from defect_mf_flows.settings import available_cores, get_settings

QUICK = BenchmarkSize(
    "quick",
    QUICK_POOL,
    (1, 2, 3),
    TrainingSettings(
        **{**NETWORK, "hidden_irreps": "8x0e + 8x1o"},
        max_epochs=30,
        batch_size=4,
        validate_every=2,
        checkpoint_every=10,
    ),
    shares=(0.1, 0.5),
)

#: Twice the trainings, so fewer epochs, to stay within ten minutes on two cores.
QUICK_EPOCHS = {"charge": 30, "fidelity": 12, "sampling": 12, "active": 10}

RUNNERS = {
    "charge": charge.run,
    "fidelity": fidelity.run,
    "sampling": sampling.run,
    "active": active.run,
}


def run_benchmark(
    name: str,
    *,
    quick: bool = False,
    size: BenchmarkSize | None = None,
    out: Path,
    folder: Path | None = None,
    workers: int | None = None,
) -> Path:
    """Run a benchmark, or continue it.

    Parameters
    ----------
    name
        ``"charge"``, ``"fidelity"``, ``"sampling"`` or ``"active"``.
    quick
        The small form.
    size
        Another form, for tests.
    out
        Folder of page, figure and numbers.
    folder
        Cache of labels and trainings; None: in this machine's scratch.
    workers
        Single-threaded processes; None: one per core.

    Returns
    -------
    Path
        The page.
    """
    chosen = size or (_quick(name) if quick else _full(name))
    cache = folder or get_settings().scratch / "benchmark"
    count = workers or available_cores()
    # One thread per process, also in those that are started from here.
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = "1"
    pool = build_pool(chosen.pool, cache / "labels", workers=count)
    command = f"defect-mf benchmark {name}" + (" --quick" if quick else "")
    return RUNNERS[name](chosen, pool, scratch=cache, out=out, command=command, workers=count)


def _full(name: str) -> BenchmarkSize:
    """What the two later benchmarks leave out, so that all four take a few hours."""
    if name == "sampling":
        return replace(FULL, shares=(0.05, 0.1, 0.2))
    if name == "active":
        return replace(FULL, training=FULL.training.model_copy(update={"max_epochs": 25}))
    return FULL


def _quick(name: str) -> BenchmarkSize:
    training = QUICK.training.model_copy(update={"max_epochs": QUICK_EPOCHS[name]})
    if name == "active":
        return replace(QUICK, training=training, seeds=(1,), rounds=2)
    return replace(QUICK, training=training)
