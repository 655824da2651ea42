"""What the labels of one fidelity say of those of another, before any model has seen them.

A strategy can take from the low fidelity no more than the two have in common.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from defect_mf_flows.benchmark.metrics import TIE, near_minimum
from defect_mf_flows.benchmark.pool import Pool, PoolPoint, cost
from defect_mf_flows.benchmark.sizes import Job
from defect_mf_flows.benchmark.writing import Page, cloud

#: Geometries higher than this above the minimum are not drawn, eV per cell.
DRAWN = 3.0


@dataclass(frozen=True)
class Agreement:
    """Labels of two fidelities on the same geometries of one charge.

    Attributes
    ----------
    charge
        Charge state.
    near
        Geometries near a minimum of the high fidelity.
    spread
        Standard deviation of the high labels there, meV per cell: the error of a constant.
    difference
        Standard deviation of high minus low there, meV per cell: the error of the low labels
        and a constant.
    force
        Root mean square difference of force components there, meV/A; nan without forces.
    right, pairs
        Pairs of relaxation ends that the low labels order as the high ones do, and all pairs.
    """

    charge: int
    near: int
    spread: float
    difference: float
    force: float
    right: int
    pairs: int


def agreements(pool: Pool) -> list[Agreement]:
    """Compare the labels of a pool, one entry per charge."""
    charges = sorted({p.low.charge for p in pool.small})
    return [_agreement(q, [p for p in pool.small if p.low.charge == q]) for q in charges]


def run(job: Job) -> Path:
    """Compare the labels of a pool and write the page; returns the page."""
    pool = job.pool
    low, high = pool.heads
    page = job.page("agreement")
    about = (
        f"{pool.about}. {len(pool.small)} geometries with both labels. Pool {pool.content[:12]}; "
        f"its cost: {cost(pool)}. Near a minimum: no force of {high} above 1 eV/A. Ends are the "
        "last geometries of relaxations that have both labels; pairs of them that differ by less "
        f"than {1000 * TIE:.0f} meV with {high} do not count."
    )
    page.text(f"What {low} says of {high}", about, pool.disclaimer)
    write_agreement(page, pool)
    above = f"energy above the\nlowest geometry of {high}, eV per cell"
    page.figure(cloud(_drawn(pool), f"{low}: {above}", f"{high}: {above}"))
    return page.write([asdict(found) for found in agreements(pool)])


def write_agreement(page: Page, pool: Pool) -> None:
    """Append the table of a pool's agreements."""
    rows = []
    for found in agreements(pool):
        cells = [found.spread, found.difference, found.force]
        share = f"{100 * found.right / found.pairs:.0f} % of {found.pairs}" if found.pairs else "-"
        rows.append(
            [
                f"{found.charge:+d}",
                f"{found.near}",
                *(f"{x:.0f}" if np.isfinite(x) else "-" for x in cells),
                share,
            ]
        )
    page.table(
        "What the low labels say of the high ones, with no model between "
        "(near minima, standard deviations in meV per cell and meV/A)",
        [
            "charge",
            "geometries",
            "high labels",
            "high minus low",
            "forces, high minus low",
            "pairs of ends in the same order",
        ],
        rows,
    )


def _agreement(charge: int, points: list[PoolPoint]) -> Agreement:
    near = [p for p in points if near_minimum(p.high)]
    high = np.array([p.high.energy for p in near])
    low = np.array([p.low.energy for p in near])
    forces = [
        (np.asarray(p.high.forces) - np.asarray(p.low.forces)).ravel()
        for p in near
        if p.low.forces is not None
    ]
    ends = [p for p in points if p.is_end]
    gaps = [
        (a.high.energy - b.high.energy, a.low.energy - b.low.energy)
        for a, b in combinations(ends, 2)
    ]
    told = [(h, g) for h, g in gaps if abs(h) > TIE]
    return Agreement(
        charge=charge,
        near=len(near),
        spread=_deviation(high),
        difference=_deviation(high - low),
        force=1000 * float(np.sqrt(np.mean(np.concatenate(forces) ** 2)))
        if forces
        else float("nan"),
        right=sum(h * g > 0 for h, g in told),
        pairs=len(told),
    )


def _drawn(pool: Pool) -> dict[str, list[tuple[float, float]]]:
    """Low and high energies of each charge above those of its lowest high label."""
    drawn = {}
    for charge in sorted({p.low.charge for p in pool.small}):
        points = [p for p in pool.small if p.low.charge == charge]
        bottom = min(points, key=lambda p: p.high.energy)
        gaps = [
            (p.low.energy - bottom.low.energy, p.high.energy - bottom.high.energy) for p in points
        ]
        drawn[f"q = {charge:+d}" if charge else "q = 0"] = [gap for gap in gaps if max(gap) < DRAWN]
    return drawn


def _deviation(energies: np.ndarray) -> float:
    return 1000 * float(energies.std()) if len(energies) else float("nan")
