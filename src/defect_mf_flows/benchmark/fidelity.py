"""Benchmark of the fidelity strategies: error against the share of high-fidelity labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from defect_mf_flows.benchmark.agreement import write_agreement
from defect_mf_flows.benchmark.arms import measure_arms, train_arm
from defect_mf_flows.benchmark.data import test_points
from defect_mf_flows.benchmark.metrics import (
    basin_signs,
    equal_error_share,
    high,
    relative_errors,
    rms,
)
from defect_mf_flows.benchmark.pool import cost
from defect_mf_flows.benchmark.shares import ShareTables
from defect_mf_flows.benchmark.sizes import Arm, BenchmarkSize, Job, hours, steps, told
from defect_mf_flows.benchmark.writing import Page

#: Name of an arm -> settings that make it.
STRATEGIES: dict[str, dict[str, Any]] = {
    "joint": {"strategy": "joint"},
    "joint_half": {"strategy": "joint", "high_share": 0.5},
    "high_only": {"strategy": "high_only"},
    "transfer_frozen": {"strategy": "transfer_frozen"},
    "transfer": {"strategy": "transfer"},
    "delta": {"strategy": "delta"},
    "low_plus_constant": {"strategy": "low_plus_constant"},
}


def arms(size: BenchmarkSize) -> list[Arm]:
    """Every strategy at every share for every seed; the subsets of a seed are nested."""
    # Two that begin with the same stage would wait for it if they started together.
    order = sorted(STRATEGIES, key=lambda name: name != "transfer_frozen")
    return [
        Arm(name, seed, tuple(STRATEGIES[name].items()), share=share, equal_steps=True)
        for seed in size.seeds
        for share in size.shares
        for name in order
    ]


def measure(arm: Arm, job: Job) -> dict[str, Any]:
    """Train one arm and measure its highest head on held-out relaxations."""
    from defect_mf_flows.learning.potential import Potential

    model, pool = train_arm(arm, job), job.pool
    head = pool.heads[-1]
    potential = Potential(model, head=head)
    errors = relative_errors(potential.predict, pool, test_points(pool, arm.seed), high)
    right, pairs = basin_signs(potential, pool, high)
    return {
        "arm": arm.name,
        "seed": arm.seed,
        "share": arm.share,
        "labels": sum(r.n_labels for r in model.references if r.head == head),
        "near": rms(np.concatenate([found.near for found in errors.values()])),
        "energy": rms(np.concatenate([found.energy for found in errors.values()])),
        "force": rms(np.concatenate([found.force for found in errors.values()])),
        "signs": right / pairs if pairs else float("nan"),
        "pairs": pairs,
        "seconds": model.seconds,
    }


def run(job: Job) -> Path:
    """Train all arms, measure them and write the page; returns the page."""
    rows = measure_arms(job, arms(job.size), measure)
    tables = ShareTables("strategy", list(STRATEGIES), job, rows)
    page = job.page("fidelity")
    page.text("Fidelity strategies", _about(job, rows), job.pool.disclaimer)
    write_agreement(page, job.pool)
    tables.write_errors(page)
    _saving(page, tables)
    tables.draw(page)
    return page.write(rows)


def _saving(page: Page, tables: ShareTables) -> None:
    """How many times fewer labels a strategy needs than learning from the high ones alone."""
    shares = tables.shares
    alone = [tables.mean("high_only", share) for share in shares]
    rows = []
    for strategy in STRATEGIES:
        cells = [strategy]
        for share in shares:
            error = tables.mean(strategy, share)
            needed, reached = equal_error_share(shares, alone, error)
            below = reached and needed == shares[0] and alone[0] < error
            sign = "< " if below else "" if reached else "> "
            cells.append(f"{sign}{needed / share:.1f}")
        rows.append(cells)
    page.table(
        f"Data-saving factor: labels that high_only needs for the same mean energy error "
        f"({tables.where}), per label of the strategy (> : more than the largest share; < : fewer "
        "than the smallest)",
        ["strategy", *(f"{100 * share:g} %" for share in shares)],
        rows,
    )


def _about(job: Job, rows: list[dict[str, Any]]) -> str:
    size, pool = job.size, job.pool
    return (
        f"{pool.about}. {len(pool.small)} geometries with both labels, {pool.failed} "
        f"dropped. Pool {pool.content[:12]}; its cost: {cost(pool)}. Charge term: "
        f"{size.training.charge_term}, loss {size.training.loss}. "
        f"{len(size.seeds)} seeds (split, subset, weights, batches), steps of "
        f"{told(**steps(size.training))} over the low-fidelity labels for every "
        f"strategy and share (an iteration is a pass over all labels that train), {hours(rows)}, "
        "where a first stage that trainings share counts in "
        "each. Subsets of high-fidelity labels are nested "
        "and hold at least one label of every charge on the training and validation side, so "
        "that the smallest shares of a small pool are the same. joint_half is joint with "
        "training.high_share: 0.5, half of every epoch high labels. Labels in the head of a "
        "column are those that train. Brackets: 95 % bootstrap interval over seeds. Near a "
        "minimum: no force above 1 eV/A. Ends count whether or not they trained."
    )
