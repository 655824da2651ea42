"""Benchmark of the samplers: which frames to label, at equal numbers of labels."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

from defect_mf_flows.benchmark.arms import Arm, BenchmarkSize, run_arms
from defect_mf_flows.benchmark.fidelity import measure
from defect_mf_flows.benchmark.metrics import bootstrap
from defect_mf_flows.benchmark.pool import Pool, cost, describe
from defect_mf_flows.benchmark.writing import Page, curves

SAMPLERS = ("even", "stratified", "direct", "farthest", "random")


def arms(size: BenchmarkSize) -> list[Arm]:
    """Every sampler at every share for every seed."""
    return [
        Arm(sampler, seed, share=share, sampler=sampler)
        for seed in size.seeds
        for share in size.shares
        for sampler in SAMPLERS
    ]


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
    groups: dict[tuple[str, float], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["arm"], row["share"]].append(row)
    page = Page("sampling", size.name, out, command)
    page.text("Samplers", _about(size, pool, rows))
    for title, key, factor in (
        ("GFN2-xTB energy above the minimum of the charge, RMSE in meV per cell", "energy", 1),
        ("GFN2-xTB forces near minima, RMSE in meV/A", "force", 1),
        ("Pairs of relaxation ends of one charge in the right order, %", "signs", 100),
    ):
        page.table(
            title,
            [
                "sampler",
                *(_column(groups, share) for share in size.shares),
            ],
            [
                [
                    sampler,
                    *(
                        str(bootstrap([factor * r[key] for r in groups[sampler, share]]))
                        for share in size.shares
                    ),
                ]
                for sampler in SAMPLERS
            ],
        )
    page.figure(
        curves(
            {
                sampler: [
                    (100 * share, bootstrap([r["energy"] for r in groups[sampler, share]]))
                    for share in size.shares
                ]
                for sampler in SAMPLERS
            },
            "GFN2-xTB labels, % of low-fidelity frames",
            "energy above the minimum, RMSE, meV per cell",
        )
    )
    return page.write(rows)


def _column(groups: dict[tuple[str, float], list[dict[str, Any]]], share: float) -> str:
    found = sorted({row["labels"] for s in SAMPLERS for row in groups[s, share]})
    count = f"{found[0]}" if len(found) == 1 else f"{found[0]}-{found[-1]}"
    return f"{100 * share:g} % ({count} labels)"


def _about(size: BenchmarkSize, pool: Pool, rows: list[dict[str, Any]]) -> str:
    hours = sum(row["seconds"] for row in rows) / 3600
    return (
        f"{describe(size.pool)}. {len(pool.small)} geometries with both labels. Pool "
        f"{pool.content[:12]}; its cost: {cost(pool)}. Strategy joint, charge term "
        f"{size.training.charge_term}, {size.training.max_epochs} epochs, {len(size.seeds)} seeds "
        f"(split, picks, weights, batches), {hours:.2f} h of training in all. Samplers choose "
        "training frames; within a seed and share all choose as many as 'stratified', which "
        "takes the lowest end of every basin even beyond the share. Validation labels are the "
        "same for all. Brackets: 95 % bootstrap interval over seeds."
    )
