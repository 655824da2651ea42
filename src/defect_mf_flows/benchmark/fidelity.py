"""Benchmark of the fidelity strategies: error against the share of high-fidelity labels."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from defect_mf_flows.benchmark.arms import Arm, BenchmarkSize, run_arms, train_arm
from defect_mf_flows.benchmark.data import test_points
from defect_mf_flows.benchmark.metrics import (
    basin_signs,
    bootstrap,
    equal_error_share,
    high,
    relative_errors,
    rms,
)
from defect_mf_flows.benchmark.pool import HIGH, Pool, cost, describe
from defect_mf_flows.benchmark.writing import Page, curves
from defect_mf_flows.campaign import TrainingSettings

STRATEGIES = (
    "joint",
    "high_only",
    "transfer_frozen",
    "transfer",
    "delta",
    "low_plus_constant",
)


def arms(size: BenchmarkSize) -> list[Arm]:
    """Every strategy at every share for every seed; the subsets of a seed are nested."""
    return [
        Arm(strategy, seed, (("strategy", strategy),), share=share)
        for seed in size.seeds
        for share in size.shares
        for strategy in STRATEGIES
    ]


def measure(arm: Arm, pool: Pool, settings: TrainingSettings, scratch: Path) -> dict[str, Any]:
    """Train one arm and measure its highest head on held-out relaxations."""
    from defect_mf_flows.learning.potential import Potential

    model = train_arm(arm, pool, settings, scratch)
    potential = Potential(model, head=HIGH)
    errors = relative_errors(potential, pool, test_points(pool, arm.seed), high)
    right, pairs = basin_signs(potential, pool, high)
    return {
        "arm": arm.name,
        "seed": arm.seed,
        "share": arm.share,
        "labels": sum(r.n_labels for r in model.references if r.head == HIGH),
        "energy": rms(np.concatenate([energy for energy, _ in errors.values()])),
        "force": rms(np.concatenate([force for _, force in errors.values()])),
        "signs": right / pairs if pairs else float("nan"),
        "pairs": pairs,
        "seconds": model.seconds,
    }


def run(
    size: BenchmarkSize, pool: Pool, *, scratch: Path, out: Path, command: str, workers: int
) -> Path:
    """Train all arms, measure them and write the page.

    Parameters
    ----------
    size, pool, scratch, out, command, workers
        As for the benchmark of charge terms.

    Returns
    -------
    Path
        The page.
    """
    evaluate = partial(measure, pool=pool, settings=size.training, scratch=scratch)
    rows = run_arms(arms(size), evaluate, workers=workers)
    page = Page("fidelity", size.name, out, command)
    page.text("Fidelity strategies", _about(size, pool, rows))
    groups: dict[tuple[str, float], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["arm"], row["share"]].append(row)
    header = ["strategy", *(_share(groups, share) for share in size.shares)]
    for title, key, factor in (
        ("GFN2-xTB energy above the minimum of the charge, RMSE in meV per cell", "energy", 1),
        ("GFN2-xTB forces near minima, RMSE in meV/A", "force", 1),
        ("Pairs of relaxation ends of one charge in the right order, %", "signs", 100),
    ):
        page.table(
            title,
            header,
            [
                [
                    strategy,
                    *(
                        str(bootstrap([factor * r[key] for r in groups[strategy, share]]))
                        for share in size.shares
                    ),
                ]
                for strategy in STRATEGIES
            ],
        )
    _saving(page, size, groups)
    page.figure(
        curves(
            {
                strategy: [
                    (100 * share, bootstrap([r["energy"] for r in groups[strategy, share]]))
                    for share in size.shares
                ]
                for strategy in STRATEGIES
            },
            "GFN2-xTB labels, % of low-fidelity frames",
            "energy above the minimum, RMSE, meV per cell",
        )
    )
    return page.write(rows)


def _saving(
    page: Page, size: BenchmarkSize, groups: dict[tuple[str, float], list[dict[str, Any]]]
) -> None:
    """How many times fewer labels a strategy needs than learning from the high ones alone."""
    shares = list(size.shares)
    alone = [float(np.mean([r["energy"] for r in groups["high_only", s]])) for s in shares]
    rows = []
    for strategy in STRATEGIES:
        cells = [strategy]
        for share in shares:
            error = float(np.mean([r["energy"] for r in groups[strategy, share]]))
            needed, reached = equal_error_share(shares, alone, error)
            below = reached and needed == shares[0] and alone[0] < error
            sign = "< " if below else "" if reached else "> "
            cells.append(f"{sign}{needed / share:.1f}")
        rows.append(cells)
    page.table(
        "Data-saving factor: labels that high_only needs for the same mean energy error, per "
        "label of the strategy (> : more than the largest share; < : fewer than the smallest)",
        ["strategy", *(f"{100 * share:g} %" for share in shares)],
        rows,
    )


def _share(groups: dict[tuple[str, float], list[dict[str, Any]]], share: float) -> str:
    labels = [row["labels"] for row in groups["high_only", share]]
    low, high = min(labels), max(labels)
    count = str(low) if low == high else f"{low}-{high}"
    return f"{100 * share:g} % ({count} labels)"


def _about(size: BenchmarkSize, pool: Pool, rows: list[dict[str, Any]]) -> str:
    hours = sum(row["seconds"] for row in rows) / 3600
    return (
        f"{describe(size.pool)}. {len(pool.small)} geometries with both labels, {pool.failed} "
        f"dropped. Pool {pool.content[:12]}; its cost: {cost(pool)}. Charge term: "
        f"{size.training.charge_term}. {len(size.seeds)} seeds (split, subset, weights, batches), "
        f"steps of {size.training.max_epochs} epochs over all labels of the data set for every "
        f"strategy, {hours:.2f} h of training in all. Subsets of high-fidelity labels are nested "
        "and hold at least one label of every charge on the training and validation side, so "
        "that the smallest shares of a small pool are the same. Labels in the head of a "
        "column are those that train. Brackets: 95 % bootstrap interval over seeds. Near a "
        "minimum: no force above 1 eV/A. Ends count whether or not they trained."
    )
