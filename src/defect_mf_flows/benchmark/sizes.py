"""What a benchmark is asked for: its size, its arms, the labels and where the page goes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defect_mf_flows.benchmark.pool import Pool, PoolSize
from defect_mf_flows.benchmark.writing import Page
from defect_mf_flows.campaign import TrainingSettings


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

    def page(self, name: str) -> Page:
        """An empty page."""
        stem = f"{name}-{self.size.subject}" if self.size.subject else name
        return Page(stem, self.size.name, self.out, self.command)


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
