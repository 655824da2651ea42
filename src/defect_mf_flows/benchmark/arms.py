"""Train the arms of a benchmark, several at a time; trainings that are done are read back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defect_mf_flows.benchmark.data import assemble
from defect_mf_flows.benchmark.pool import HIGH, LOW, PoolSize
from defect_mf_flows.benchmark.processes import executor
from defect_mf_flows.campaign import TrainingSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BenchmarkSize:
    """How large a benchmark is.

    Attributes
    ----------
    name
        For the file names: empty for the full one.
    pool
        Labels.
    seeds
        Each is another split, other weights and other batches.
    training
        Settings shared by all arms.
    shares
        Of high-fidelity labels (fidelity and sampling benchmarks).
    rounds
        Most rounds of a run (active benchmark).
    """

    name: str
    pool: PoolSize
    seeds: tuple[int, ...]
    training: TrainingSettings
    shares: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
    rounds: int = 5


NETWORK: dict[str, Any] = {
    "r_max": 3.4,
    "hidden_irreps": "16x0e + 16x1o",
    "charge_embedding_width": 16,
    "dtype": "float32",
    "energy_scale": 2.0,
}

FULL = BenchmarkSize("", PoolSize(), (1, 2, 3), TrainingSettings(**NETWORK, max_epochs=60))


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
        Fidelities.
    share, fraction, sampler
        As for ``assemble``.
    """

    name: str
    seed: int
    changes: tuple[tuple[str, Any], ...] = ()
    heads: tuple[str, ...] = (LOW, HIGH)
    share: float = 1.0
    fraction: float = 1.0
    sampler: str | None = None


def train_arm(arm: Arm, pool: Any, settings: TrainingSettings, scratch: Path) -> Any:
    """Train one arm.

    Parameters
    ----------
    arm
        What to train.
    pool
        Labels.
    settings
        Settings shared by all arms.
    scratch
        Trainings are cached here.

    Returns
    -------
    Model
        Of this call or of an earlier one.
    """
    from defect_mf_flows.learning.training import train

    frames, dataset = assemble(
        pool,
        seed=arm.seed,
        heads=list(arm.heads),
        share=arm.share,
        fraction=arm.fraction,
        sampler=arm.sampler,
    )
    import torch

    torch.set_num_threads(1)
    changed = settings.model_copy(update=dict(arm.changes))
    return train(
        frames,
        dataset,
        settings=changed,
        seed=arm.seed,
        scratch=scratch,
        threads=1,
        isolated=False,
    )


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
