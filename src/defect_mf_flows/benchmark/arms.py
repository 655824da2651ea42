"""Train the arms of a benchmark, several at a time; trainings that are done are read back."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from defect_mf_flows.benchmark.data import assemble
from defect_mf_flows.benchmark.measured import remembered
from defect_mf_flows.benchmark.pool import Pool, PoolSize
from defect_mf_flows.benchmark.processes import executor
from defect_mf_flows.benchmark.writing import Page
from defect_mf_flows.campaign import TrainingSettings
from defect_mf_flows.schemas.dataset import Dataset, Split
from defect_mf_flows.schemas.model import Model

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BenchmarkSize:
    """How large a benchmark is.

    Attributes
    ----------
    name
        For the file names: empty for the full one.
    pool
        Labels that are made, where none are given.
    seeds
        Each is another split, other weights and other batches.
    training
        Settings shared by all arms.
    shares
        Of high-fidelity labels (fidelity and sampling benchmarks).
    rounds
        Most rounds of a run (active benchmark).
    subject
        For the file names: of labels that were given.
    """

    name: str
    pool: PoolSize
    seeds: tuple[int, ...]
    training: TrainingSettings
    shares: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    rounds: int = 5
    subject: str = ""


NETWORK: dict[str, Any] = {
    "r_max": 3.4,
    "hidden_irreps": "32x0e + 32x1o",
    "charge_embedding_width": 16,
    "dtype": "float32",
    "energy_scale": 2.0,
    "loss": "absolute",
}

#: The charge term that the benchmark ``charge`` found best.
FULL = BenchmarkSize(
    "",
    PoolSize(),
    (1, 2, 3),
    TrainingSettings(**NETWORK, charge_term="intensive", compile=True),
)


@dataclass(frozen=True)
class Arm:
    """One training and what it is called.

    Attributes
    ----------
    name
        Row of the table.
    seed
        Seed.
    changes
        Settings that make the arm.
    heads
        Fidelities; None: both of the pool.
    share, fraction, sampler, without
        As for ``assemble``.
    equal_steps
        As many optimiser steps as epochs over the labels of the lowest fidelity alone have,
        whatever the share of higher ones; else epochs over all labels.
    """

    name: str
    seed: int
    changes: tuple[tuple[str, Any], ...] = ()
    heads: tuple[str, ...] | None = None
    share: float = 1.0
    fraction: float = 1.0
    sampler: str | None = None
    without: int | None = None
    equal_steps: bool = False


@dataclass(frozen=True)
class Job:
    """One benchmark that is asked for.

    Attributes
    ----------
    size
        Full, quick or a test's.
    pool
        Labels.
    scratch
        Trainings are cached here.
    out
        Folder of the page, its figure and its numbers.
    command
        That makes the page.
    workers
        Processes.
    """

    size: BenchmarkSize
    pool: Pool
    scratch: Path
    out: Path
    command: str
    workers: int

    def run(self, arms: list[Arm], measure: Measure) -> list[dict[str, Any]]:
        """Train and measure arms in processes of their own; one row each, in the order given."""
        return run_arms(arms, partial(remembered, measure=measure, job=self), workers=self.workers)

    def page(self, name: str) -> Page:
        """An empty page."""
        stem = f"{name}-{self.size.subject}" if self.size.subject else name
        return Page(stem, self.size.name, self.out, self.command)


Measure = Callable[..., dict[str, Any]]


def hours(rows: list[dict[str, Any]]) -> str:
    """What the trainings took in all, in words."""
    return f"{sum(row['seconds'] for row in rows) / 3600:.2f} h of training in all"


def steps(training: TrainingSettings, *, part: float = 1.0) -> dict[str, int]:
    """Epochs and iterations of polishing, or a part of them.

    Parameters
    ----------
    training
        Settings.
    part
        Of both, at most 1.

    Returns
    -------
    dict
        Settings that a training takes: at least one epoch.
    """
    return {
        "max_epochs": max(1, round(part * training.max_epochs)),
        "polish": round(part * training.polish),
    }


def told(max_epochs: int, polish: int) -> str:
    """Epochs and iterations of polishing in words."""
    return f"{max_epochs} epochs" + (f" and {polish} iterations of polishing" if polish else "")


def train_arm(arm: Arm, job: Job) -> Model:
    """Train one arm.

    Parameters
    ----------
    arm
        What to train.
    job
        Labels, settings shared by all arms, and the cache.

    Returns
    -------
    Model
        Of this call or of an earlier one.
    """
    from defect_mf_flows.learning.training import train

    heads = arm.heads or job.pool.heads
    frames, dataset = assemble(
        job.pool,
        seed=arm.seed,
        heads=list(heads),
        share=arm.share,
        fraction=arm.fraction,
        sampler=arm.sampler,
        without=arm.without,
    )
    import torch

    torch.set_num_threads(1)
    settings = job.size.training.model_copy(update=dict(arm.changes))
    if arm.equal_steps:
        settings = with_steps_of(heads[0], settings, dataset)
    return train(
        frames,
        dataset,
        settings=settings,
        seed=arm.seed,
        scratch=job.scratch,
        threads=1,
        isolated=False,
    )


def with_steps_of(head: str, settings: TrainingSettings, dataset: Dataset) -> TrainingSettings:
    """Settings whose epochs over a dataset take the steps of one of its fidelities alone.

    Parameters
    ----------
    head
        Fidelity.
    settings
        With the epochs over its labels.
    dataset
        Of several fidelities.

    Returns
    -------
    TrainingSettings
        With fewer epochs, at least one.
    """
    sides = [e.fidelity for e in dataset.entries if e.split is Split.TRAIN]
    batches = [math.ceil(n / settings.batch_size) for n in (sides.count(head), len(sides))]
    epochs = max(1, round(settings.max_epochs * batches[0] / batches[1]))
    return settings.model_copy(update={"max_epochs": epochs})


def run_arms(
    arms: list[Arm], evaluate: Callable[[Arm], dict[str, Any]], *, workers: int
) -> list[dict[str, Any]]:
    """Evaluate arms in processes of their own, in the order given.

    Parameters
    ----------
    arms
        What to train.
    evaluate
        Trains and measures; picklable.
    workers
        Processes.

    Returns
    -------
    list of dict
        One per arm.
    """
    results: dict[int, dict[str, Any]] = {}
    with executor(workers) as pool:
        futures = {pool.submit(evaluate, arm): i for i, arm in enumerate(arms)}
        for future in as_completed(futures):
            results[futures[future]] = future.result()
            arm = arms[futures[future]]
            logger.info("%d of %d: %s, seed %d", len(results), len(arms), arm.name, arm.seed)
    return [results[i] for i in range(len(arms))]
