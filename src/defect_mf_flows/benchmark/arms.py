"""Train the arms of a benchmark, several at a time; trainings that are done are read back."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from concurrent.futures import as_completed
from functools import partial
from typing import Any

from defect_mf_flows.benchmark.data import assemble
from defect_mf_flows.benchmark.measured import Measure, remembered
from defect_mf_flows.benchmark.processes import executor
from defect_mf_flows.benchmark.sizes import Arm, Job
from defect_mf_flows.campaign import TrainingSettings
from defect_mf_flows.schemas.dataset import Dataset, Split
from defect_mf_flows.schemas.model import Model

logger = logging.getLogger(__name__)


def measure_arms(job: Job, arms: list[Arm], measure: Measure) -> list[dict[str, Any]]:
    """Train and measure arms in processes of their own.

    Parameters
    ----------
    job
        Labels, cache and number of processes.
    arms
        What to train.
    measure
        Takes arm and job, returns the row; picklable.

    Returns
    -------
    list of dict
        One row each, in the order given.
    """
    return run_arms(arms, partial(remembered, measure=measure, job=job), workers=job.workers)


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
