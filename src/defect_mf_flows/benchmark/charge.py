"""Benchmark of the charge terms."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from defect_mf_flows.benchmark.arms import measure_arms, train_arm
from defect_mf_flows.benchmark.data import test_points
from defect_mf_flows.benchmark.metrics import (
    bootstrap,
    low,
    relative_errors,
    rms,
    size_errors,
)
from defect_mf_flows.benchmark.minima import BASIN, WINDOW, minima_found
from defect_mf_flows.benchmark.pool import LOW, cost
from defect_mf_flows.benchmark.sizes import Arm, BenchmarkSize, Job, hours, steps, told
from defect_mf_flows.benchmark.writing import Page, intervals

TERMS = ("none", "categorical", "continuous", "per_charge", "intensive")

#: One model of all charges on a fifth of the data, against models of one charge on all of it.
FIFTH = "categorical, 1/5 of the data"

#: Terms that say something of a charge that never trained; a category has no vector for it.
UNSEEN_TERMS = ("none", "continuous")

#: Of the steps of the other arms, to keep the many trainings of this table within hours.
UNSEEN_PART = 1 / 3

Rows = dict[str, list[dict[str, Any]]]


def arms(size: BenchmarkSize) -> list[Arm]:
    """Every charge term, and the data-saving test, for every seed."""
    made = []
    for seed in size.seeds:
        for term in TERMS:
            made.append(Arm(term, seed, (("charge_term", term),), heads=(LOW,)))
        changes = (("charge_term", "categorical"),)
        made.append(Arm(FIFTH, seed, changes, heads=(LOW,), fraction=0.2))
    return made


def unseen_arms(size: BenchmarkSize) -> list[Arm]:
    """Leave one charge out: every charge, for every seed."""
    fewer = steps(size.training, part=UNSEEN_PART)
    return [
        Arm(
            term,
            seed,
            (("charge_term", term), *fewer.items()),
            heads=(LOW,),
            without=charge,
        )
        for seed in size.seeds
        for charge in size.pool.charges
        for term in UNSEEN_TERMS
    ]


def measure(arm: Arm, job: Job) -> dict[str, Any]:
    """Train one arm and measure it on held-out relaxations, in a search and in the large cell."""
    from defect_mf_flows.learning.potential import Potential

    model, pool = train_arm(arm, job), job.pool
    potential = Potential(model, head=LOW)
    errors = relative_errors(potential.predict, pool, test_points(pool, arm.seed), low)
    size = size_errors(potential, pool, low, LOW)
    charges = list(errors)
    minima = {q: minima_found(pool, model, q) for q in charges}
    growth = list(size.offset_growth.values())
    return {
        "arm": arm.name,
        "seed": arm.seed,
        "near": {str(q): rms(errors[q].near) for q in charges},
        "energy": {str(q): rms(errors[q].energy) for q in charges},
        "force": {str(q): rms(errors[q].force) for q in charges},
        "ground_displacement": {str(q): minima[q].ground for q in charges},
        "minima_found": sum(found.found for found in minima.values()),
        "minima_known": sum(found.known for found in minima.values()),
        "size": {str(q): value for q, value in size.signed.items()},
        "size_geometry": size.geometry,
        "offset_growth": {str(q): value for q, value in size.offset_growth.items()},
        "offset_growth_rms": rms(np.array(growth)),
        "offset_growth_labels": {str(q): v for q, v in size.offset_growth_labels.items()},
        "size_rms": rms(np.array(list(size.signed.values()))),
        "seconds": model.seconds,
    }


def measure_unseen(arm: Arm, job: Job) -> dict[str, Any]:
    """Train one arm without a charge and measure it on the held-out relaxations of that charge."""
    from defect_mf_flows.core.charge import to_atoms
    from defect_mf_flows.learning.potential import Potential

    assert arm.without is not None
    model, pool = train_arm(arm, job), job.pool
    potential = Potential(model, head=LOW)
    points = [p for p in test_points(pool, arm.seed) if p.low.charge == arm.without]
    # predict() refuses a charge that did not train; differences within it are what is asked.
    errors = relative_errors(
        lambda structures: potential.evaluate([to_atoms(s) for s in structures]), pool, points, low
    )
    found = errors[arm.without]
    return {
        "arm": arm.name,
        "seed": arm.seed,
        "without": arm.without,
        "near": rms(found.near),
        "energy": rms(found.energy),
        "force": rms(found.force),
        "seconds": model.seconds,
    }


def run(job: Job) -> Path:
    """Train all arms, measure them and write the page; returns the page."""
    rows = measure_arms(job, arms(job.size), measure)
    unseen = measure_arms(job, unseen_arms(job.size), measure_unseen)
    by_arm: Rows = defaultdict(list)
    for row in rows:
        by_arm[row["arm"]].append(row)
    page = job.page("charge")
    page.text("Charge terms", _about(job, [*rows, *unseen]), job.pool.disclaimer)
    _targets(page, by_arm)
    page.table(
        "Held-out relaxations, near minima: energy above the minimum of the charge, RMSE in meV "
        "per cell",
        *_per_charge(by_arm, "near"),
    )
    page.table(
        "Held-out relaxations, all geometries: energy above the minimum of the charge, RMSE in "
        "meV per cell",
        *_per_charge(by_arm, "energy"),
    )
    page.table(
        "Held-out relaxations: forces near minima, RMSE in meV/A", *_per_charge(by_arm, "force")
    )
    _minima_table(page, by_arm)
    _unseen_table(page, unseen, job.size)
    _size_tables(page, by_arm)
    growth = {name: [r["offset_growth_rms"] for r in own] for name, own in by_arm.items()}
    page.figure(
        intervals(
            {name: bootstrap(values) for name, values in growth.items()},
            "error of the offset between charges in the larger cell, meV per cell",
        )
    )
    return page.write([*rows, *unseen])


def _per_charge(by_arm: Rows, key: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a measure of each charge."""
    charges = list(next(iter(by_arm.values()))[0][key])
    return ["charge term", *(f"q = {int(q):+d}" for q in charges)], [
        [name, *(str(bootstrap([r[key][q] for r in own])) for q in charges)]
        for name, own in by_arm.items()
    ]


def _targets(page: Page, by_arm: Rows) -> None:
    """What was hoped for, and what came of it."""

    def mean(name: str, key: str) -> float:
        return float(np.nanmean([list(row[key].values()) for row in by_arm[name]]))

    def line(text: str, value: float, limit: float) -> list[str]:
        return [text, f"{value:.1f}", f"{limit:.1f}", "yes" if value <= limit else "no"]

    lines = []
    for name in ("categorical", "intensive"):
        lines += [
            line(
                f"{name}: energy above the minimum, near minima, meV per cell",
                mean(name, "near"),
                10,
            ),
            line(f"{name}: forces near minima, meV/A", mean(name, "force"), 20),
        ]
    growth = float(np.mean([row["offset_growth_rms"] for row in by_arm["intensive"]]))
    lines += [
        line("intensive: offset between charges in the larger cell, meV per cell", growth, 10),
        line(
            "one model of all charges on a fifth of the data, against one per charge on all of "
            "it: energy near minima, meV per cell",
            mean(FIFTH, "near"),
            mean("per_charge", "near"),
        ),
    ]
    page.table("Targets (means over charges and seeds)", ["what", "value", "at most", "met"], lines)


def _minima_table(page: Page, by_arm: Rows) -> None:
    header, rows = _per_charge(by_arm, "ground_displacement")
    for row, own in zip(rows, by_arm.values(), strict=True):
        found, known = (sum(r[key] for r in own) for key in ("minima_found", "minima_known"))
        row.append(f"{found} of {known}")
    page.table(
        "Search on the model: largest displacement between its ground state and that of the "
        f"GFN1-xTB search, A; last column: minima within {WINDOW:g} eV of the lowest that it "
        f"found (every atom near the defect within {BASIN:g} A), of all charges and seeds",
        [*header, "minima found"],
        rows,
    )


def _unseen_table(page: Page, rows: list[dict[str, Any]], size: BenchmarkSize) -> None:
    def cell(term: str, charge: int) -> str:
        own = [r for r in rows if r["arm"] == term and r["without"] == charge]
        energy = bootstrap([r["near"] for r in own])
        force = bootstrap([r["force"] for r in own])
        return f"{energy}; {force}"

    page.table(
        "A charge that never trained, near minima: energy above its minimum, RMSE in meV per "
        "cell; forces, RMSE in meV/A. Its offset to other charges is not predicted by any term",
        ["charge term", *(f"q = {charge:+d}" for charge in size.pool.charges)],
        [[term, *(cell(term, charge) for charge in size.pool.charges)] for term in UNSEEN_TERMS],
    )


def _size_tables(page: Page, by_arm: Rows) -> None:
    header, rows = _per_charge(by_arm, "size")
    for row, own in zip(rows, by_arm.values(), strict=True):
        row.append(str(bootstrap([r["size_geometry"] for r in own])))
    page.table(
        "Larger cell: mean error of the energy above the host, meV per cell, signed; "
        "last column: RMSE once the mean of each charge is removed",
        [*header, "geometry"],
        rows,
    )
    header, rows = _per_charge(by_arm, "offset_growth")
    grown = next(iter(by_arm.values()))[0]["offset_growth_labels"]
    page.table(
        "Growth of E(q) - E(0) of the unrelaxed vacancy from the small to the large cell: what "
        "the labels say, and the error of the models, meV per cell",
        header,
        [["labels", *(f"{value:.0f}" for value in grown.values())], *rows],
    )


def _about(job: Job, rows: list[dict[str, Any]]) -> str:
    size, pool = job.size, job.pool
    return (
        f"{pool.about}. {len(pool.small)} geometries of the small cell, "
        f"{len(pool.large)} of the large one, {pool.failed} dropped. Pool {pool.content[:12]}; its "
        f"cost: {cost(pool)}. Models learn GFN1-xTB alone, so that the charge term is the only "
        f"difference; {len(size.seeds)} seeds (split, weights, batches), "
        f"loss {size.training.loss}, {told(**steps(size.training))} each "
        f"({told(**steps(size.training, part=UNSEEN_PART))} where a charge is left out), "
        f"{hours(rows)}. "
        "Every arm has a fitted constant per charge. "
        "Brackets: 95 % bootstrap interval over seeds. Near a minimum: no force above 1 eV/A."
    )
