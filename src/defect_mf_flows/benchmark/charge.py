"""Benchmark of the charge terms."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

from defect_mf_flows.benchmark.arms import Arm, BenchmarkSize, run_arms, train_arm
from defect_mf_flows.benchmark.data import test_points
from defect_mf_flows.benchmark.metrics import bootstrap, low, relative_errors, rms, size_errors
from defect_mf_flows.benchmark.pool import LOW, Pool, cost, describe
from defect_mf_flows.benchmark.writing import Page, bars
from defect_mf_flows.campaign import TrainingSettings

TERMS = ("none", "categorical", "continuous", "per_charge", "intensive")

#: One model of all charges on a fifth of the data, against models of one charge on all of it.
FIFTH = "categorical, 1/5 of the data"


def arms(size: BenchmarkSize) -> list[Arm]:
    """Every charge term, and the data-saving test, for every seed."""
    made = []
    for seed in size.seeds:
        for term in TERMS:
            made.append(Arm(term, seed, (("charge_term", term),), heads=(LOW,)))
        changes = (("charge_term", "categorical"),)
        made.append(Arm(FIFTH, seed, changes, heads=(LOW,), fraction=0.2))
    return made


def measure(arm: Arm, pool: Pool, settings: TrainingSettings, scratch: Path) -> dict[str, Any]:
    """Train one arm and measure it on held-out relaxations and in the large cell."""
    from defect_mf_flows.learning.potential import Potential

    model = train_arm(arm, pool, settings, scratch)
    potential = Potential(model, head=LOW)
    errors = relative_errors(potential, pool, test_points(pool, arm.seed), low)
    size = size_errors(potential, pool, low, LOW)
    charges = list(errors)
    growth = list(size.offset_growth.values())
    return {
        "arm": arm.name,
        "seed": arm.seed,
        "energy": {str(q): rms(errors[q][0]) for q in charges},
        "force": {str(q): rms(errors[q][1]) for q in charges},
        "size": {str(q): value for q, value in size.signed.items()},
        "size_geometry": size.geometry,
        "offset_growth": {str(q): value for q, value in size.offset_growth.items()},
        "offset_growth_rms": rms(_array(growth)),
        "offset_growth_labels": {str(q): v for q, v in size.offset_growth_labels.items()},
        "size_rms": rms(_array(list(size.signed.values()))),
        "seconds": model.seconds,
    }


def run(
    size: BenchmarkSize, pool: Pool, *, scratch: Path, out: Path, command: str, workers: int
) -> Path:
    """Train all arms, measure them and write the page.

    Parameters
    ----------
    size
        Full or quick.
    pool
        Labels.
    scratch
        Trainings are cached here.
    out
        Folder of the page, its figure and its numbers.
    command
        That made the page.
    workers
        Processes.

    Returns
    -------
    Path
        The page.
    """
    evaluate = partial(measure, pool=pool, settings=size.training, scratch=scratch)
    rows = run_arms(arms(size), evaluate, workers=workers)
    page = Page("charge", size.name, out, command)
    page.text("Charge terms", _about(size, pool, rows))
    by_arm: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_arm[row["arm"]].append(row)
    charges = list(rows[0]["energy"])
    page.table(
        "Held-out relaxations: energy above the minimum of the charge, RMSE in meV per cell",
        ["charge term", *(f"q = {int(q):+d}" for q in charges)],
        [
            [name, *(str(bootstrap([r["energy"][q] for r in own])) for q in charges)]
            for name, own in by_arm.items()
        ],
    )
    page.table(
        "Held-out relaxations: forces near minima, RMSE in meV/A",
        ["charge term", *(f"q = {int(q):+d}" for q in charges)],
        [
            [name, *(str(bootstrap([r["force"][q] for r in own])) for q in charges)]
            for name, own in by_arm.items()
        ],
    )
    _size_tables(page, by_arm)
    growth = {name: [r["offset_growth_rms"] for r in own] for name, own in by_arm.items()}
    page.figure(
        bars(
            {name: bootstrap(values) for name, values in growth.items()},
            "error of the offset between charges\nin the larger cell, meV per cell",
        )
    )
    return page.write(rows)


def _size_tables(page: Page, by_arm: dict[str, list[dict[str, Any]]]) -> None:
    first = next(iter(by_arm.values()))[0]
    charges = list(first["size"])
    page.table(
        "Larger cell: mean error of the energy above the host, meV per cell, signed; "
        "last column: RMSE once the mean of each charge is removed",
        ["charge term", *(f"q = {int(q):+d}" for q in charges), "geometry"],
        [
            [
                name,
                *(str(bootstrap([r["size"][q] for r in own])) for q in charges),
                str(bootstrap([r["size_geometry"] for r in own])),
            ]
            for name, own in by_arm.items()
        ],
    )
    grown = list(first["offset_growth"])
    labels = ["labels", *(f"{first['offset_growth_labels'][q]:.0f}" for q in grown)]
    page.table(
        "Growth of E(q) - E(0) of the unrelaxed vacancy from the small to the large cell: what "
        "the labels say, and the error of the models, meV per cell",
        ["charge term", *(f"q = {int(q):+d}" for q in grown)],
        [
            labels,
            *(
                [name, *(str(bootstrap([r["offset_growth"][q] for r in own])) for q in grown)]
                for name, own in by_arm.items()
            ),
        ],
    )


def _about(size: BenchmarkSize, pool: Pool, rows: list[dict[str, Any]]) -> str:
    hours = sum(row["seconds"] for row in rows) / 3600
    return (
        f"{describe(size.pool)}. {len(pool.small)} geometries of the small cell, "
        f"{len(pool.large)} of the large one, {pool.failed} dropped. Pool {pool.content[:12]}; its "
        f"cost: {cost(pool)}. Models learn GFN1-xTB alone, so that the charge term is the only "
        f"difference; {len(size.seeds)} seeds (split, weights, batches), "
        f"{size.training.max_epochs} epochs each, {hours:.2f} h of training in all. Every arm has "
        "a fitted constant per charge. Brackets: 95 % bootstrap interval over seeds. Near a "
        "minimum: no force above 1 eV/A."
    )


def _array(values: list[float]) -> Any:
    import numpy as np

    return np.array(values)
