"""Benchmark of active learning: high-fidelity calls until every ground state is verified."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.benchmark.arms import measure_arms
from defect_mf_flows.benchmark.data import dataset_of, nested_order, pool_candidates, sides
from defect_mf_flows.benchmark.metrics import bootstrap
from defect_mf_flows.benchmark.minima import MIN_DISTANCE, model_minima
from defect_mf_flows.benchmark.pool import (
    DEFECT,
    HIGH,
    LOW,
    Pool,
    Task,
    compute,
    cost,
)
from defect_mf_flows.benchmark.processes import executor
from defect_mf_flows.benchmark.sizes import Arm, BenchmarkSize, Job, hours, steps, told
from defect_mf_flows.benchmark.writing import staircases
from defect_mf_flows.campaign import PickSettings
from defect_mf_flows.core.acquisition import PLACES, Query, between, choose, is_known, unlabelled
from defect_mf_flows.core.filters import closest_approach
from defect_mf_flows.core.samplers import pick
from defect_mf_flows.core.stratified import evenly_spaced
from defect_mf_flows.core.uncertainty import relative_spread
from defect_mf_flows.schemas.calculation import CalculationKind
from defect_mf_flows.schemas.dataset import Split
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.frame import Frame
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.search import Minimum

POLICIES = ("committee", "stratified", "random")

#: First labels and labels per round, per charge; members; steps of a verification.
FIRST, BATCH, MEMBERS, VERIFY_STEPS = 2, 2, 3, 40

#: A verified energy this close to the lowest known one is the ground state, eV per cell.
FOUND = 0.02


@dataclass
class Run:
    """One policy with one seed, on its way.

    Attributes
    ----------
    labelled
        Indices of pool points with a high-fidelity label.
    extra
        Frames computed on the way, with a key of the relaxation each stems from.
    relaxed
        Where the verifications so far began and ended, with charge.
    calls
        High-fidelity calls so far.
    verifying
        Those of them that relaxed predicted minima.
    found
        Charge -> calls after which its ground state was verified.
    """

    labelled: set[int] = field(default_factory=set)
    extra: list[tuple[str, Frame]] = field(default_factory=list)
    relaxed: list[Structure] = field(default_factory=list)
    calls: int = 0
    verifying: int = 0
    found: dict[int, int] = field(default_factory=dict)


def arms(size: BenchmarkSize) -> list[Arm]:
    """Every policy for every seed."""
    return [Arm(policy, seed) for seed in size.seeds for policy in POLICIES]


def ground_energies(pool: Pool, labels: Path, *, workers: int) -> dict[int, float]:
    """Lowest high-fidelity energy of each charge, from every basin of the low-fidelity search.

    Parameters
    ----------
    pool, labels, workers
        Labels, their cache, and processes.

    Returns
    -------
    dict
        Charge -> eV per cell. What a policy finds below it is the ground state as well.
    """
    points = pool_candidates(pool, list(range(len(pool.small))))
    ends = [point.frame for point in points if point.is_end]
    tasks = [_relaxation(frame, f"truth|{frame.lineage.start}") for frame in ends]
    with executor(workers) as processes:
        done = list(processes.map(partial(compute, folder=labels), tasks))
    best: dict[int, float] = {}
    for calculation in done:
        if calculation.frames:
            lowest = min(frame.energy for frame in calculation.frames)
            best[calculation.charge] = min(best.get(calculation.charge, np.inf), lowest)
    return best


def measure(arm: Arm, job: Job, truth: dict[int, float]) -> dict[str, Any]:
    """Run one policy until every ground state is verified, or the rounds are over."""
    run, pool, rounds = Run(), job.pool, job.size.rounds
    labels = job.scratch / "labels"
    side = sides(pool, arm.seed)
    points = [i for i, p in enumerate(pool.small) if side[p.relaxation] is not Split.TEST]
    charges = sorted(truth)
    run.labelled = first_labels(pool, side, arm.seed)
    run.calls = len(run.labelled)
    seconds, number = 0.0, 0
    for number in range(1, rounds + 1):
        model = _train(arm, run, job)
        seconds += model.seconds + sum(member.seconds for member in model.members)
        searches = {q: model_minima(pool, model, q, HIGH) for q in charges if q not in run.found}
        for charge, minima in searches.items():
            _verify(run, minima, charge, truth, labels, number)
        if len(run.found) == len(charges):
            break
        if number < rounds:
            wanted = BATCH * (len(charges) - len(run.found))
            _label(arm, run, pool, points, searches, model, wanted, labels)
    done = len(run.found) == len(charges)
    return {
        "arm": arm.name,
        "seed": arm.seed,
        "calls": run.calls,
        "verifying": run.verifying,
        "done": done,
        "rounds": number,
        "found": {str(q): run.found.get(q) for q in charges},
        "seconds": seconds,
    }


def first_labels(pool: Pool, side: dict[str, Split], seed: int) -> set[int]:
    """Labels that every policy begins with.

    Parameters
    ----------
    pool
        Labels.
    side
        Of every relaxation.
    seed
        Another seed, other labels.

    Returns
    -------
    set of int
        Indices of points, ``FIRST`` per charge, none of them held out for the test and at least
        one of each charge on the training side: a head predicts no charge that it never saw.
    """
    points = [i for i, p in enumerate(pool.small) if side[p.relaxation] is not Split.TEST]
    queues: dict[int, list[int]] = defaultdict(list)
    for k in nested_order([pool.small[i] for i in points], seed):
        queues[pool.small[points[k]].low.charge].append(points[k])
    chosen: set[int] = set()
    for queue in queues.values():
        place = next(
            k for k, i in enumerate(queue) if side[pool.small[i].relaxation] is Split.TRAIN
        )
        chosen |= {*queue[: FIRST - 1], queue[max(FIRST - 1, place)]}
    return chosen


def _train(arm: Arm, run: Run, job: Job) -> Model:
    import torch

    from defect_mf_flows.learning.committee import train_committee

    torch.set_num_threads(1)
    members = MEMBERS if arm.name == "committee" else 1
    frames, dataset = dataset_of(job.pool, arm.seed, run.labelled, run.extra)
    return train_committee(
        frames,
        dataset,
        settings=job.size.training.model_copy(update={"committee": members}),
        seed=arm.seed,
        scratch=job.scratch,
        threads=1,
        isolated=False,
    )


def _verify(
    run: Run,
    minima: list[Minimum],
    charge: int,
    truth: dict[int, float],
    labels: Path,
    number: int,
) -> None:
    """Relax the lowest minimum that was not yet at high fidelity; its frames become labels."""
    new = [m.structure for m in minima if not is_known(m.structure, run.relaxed)]
    if not new:
        return
    start = StartStructure(defect=DEFECT, charge=charge, label="predicted", structure=new[0])
    done = compute(Task(HIGH, CalculationKind.RELAX, start, VERIFY_STEPS), labels)
    calls = max(1, done.n_calls)  # one that failed was made, too
    run.calls += calls
    run.verifying += calls
    key = f"verified|{charge:+d}|{number}"
    run.extra += [(key, done.frames[k]) for k in evenly_spaced(len(done.frames), 6)]
    run.relaxed += [new[0], *(frame.structure for frame in done.frames[-1:])]
    if done.frames and min(f.energy for f in done.frames) <= truth[charge] + FOUND:
        run.found[charge] = run.calls


def _label(
    arm: Arm,
    run: Run,
    pool: Pool,
    points: list[int],
    searches: dict[int, list[Minimum]],
    model: Model,
    wanted: int,
    labels: Path,
) -> None:
    """Buy labels for the charges whose ground state is not verified."""
    if arm.name == "committee":
        queries = [
            query
            for charge, minima in searches.items()
            if charge not in run.found
            for query in _queries(charge, minima, model)
        ]
        known = [pool.small[i].high for i in sorted(run.labelled)]
        queries = unlabelled(queries, [*known, *(frame for _, frame in run.extra)])
        for query in choose(queries, wanted, width=0.5):
            start = StartStructure(
                defect=DEFECT, charge=query.charge, label="acquired", structure=query.structure
            )
            done = compute(Task(HIGH, CalculationKind.STATIC, start), labels)
            run.calls += max(1, done.n_calls)
            run.extra += [(f"acquired|{len(run.extra)}", frame) for frame in done.frames]
        return
    free = [
        i for i in points if i not in run.labelled and pool.small[i].low.charge not in run.found
    ]
    candidates = pool_candidates(pool, free)
    fraction = min(0.99, wanted / max(len(free), 1))
    settings = PickSettings(sampler=arm.name, fraction=fraction)
    chosen, _ = pick(candidates, settings=settings, seed=arm.seed + len(run.labelled))
    rng = np.random.default_rng([arm.seed, len(run.labelled)])
    # Stratified picks take every basin's end, which may be more than the batch.
    for k in rng.permutation(len(chosen))[:wanted]:
        run.labelled.add(free[chosen[int(k)]])
        run.calls += 1


def _queries(charge: int, minima: list[Minimum], model: Model) -> list[Query]:
    from defect_mf_flows.learning.committee import committee_energies

    if not minima:
        return []
    named = [("minimum", f"minimum{k}", m.structure) for k, m in enumerate(minima) if k]
    for i, j in combinations(range(min(4, len(minima))), 2):
        for place, image in zip(
            PLACES, between(minima[i].structure, minima[j].structure), strict=True
        ):
            if closest_approach(image) >= MIN_DISTANCE:
                named.append(("crossing", f"between{i}and{j}at{place:g}", image))
    energies = committee_energies(model, [minima[0].structure, *(s for _, _, s in named)])
    spreads = relative_spread(energies, 0)
    return [
        Query(DEFECT, charge, kind, label, s, float(energies[0, k] - energies[0, 0]), spreads[k])
        for k, (kind, label, s) in enumerate(named, start=1)
    ]


def _relaxation(frame: Frame, label: str) -> Task:
    start = StartStructure(
        defect=DEFECT, charge=frame.charge, label=label, structure=frame.structure
    )
    return Task(HIGH, CalculationKind.RELAX, start, VERIFY_STEPS)


def run(job: Job) -> Path:
    """Run all policies and write the page; returns the page."""
    truth = ground_energies(job.pool, job.scratch / "labels", workers=job.workers)
    rows = measure_arms(job, arms(job.size), partial(measure, truth=truth))
    by_arm: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_arm[row["arm"]].append(row)
    page = job.page("active")
    page.text("Active learning", _about(job, rows), job.pool.disclaimer)
    calls = {name: bootstrap([float(r["calls"]) for r in own]) for name, own in by_arm.items()}
    page.table(
        "GFN2-xTB calls until the ground states of all charges are verified",
        ["policy", "calls", "of them labels", "finished", "calls per seed (> : not all found)"],
        [
            [
                name,
                str(calls[name]),
                str(bootstrap([float(r["calls"] - r["verifying"]) for r in own])),
                f"{sum(r['done'] for r in own)} of {len(own)}",
                ", ".join(f"{'' if r['done'] else '> '}{r['calls']}" for r in own),
            ]
            for name, own in by_arm.items()
        ],
    )
    page.table(
        "Ground states verified, of all charges and seeds",
        ["policy", "found", "of"],
        [
            [
                name,
                str(sum(v is not None for r in own for v in r["found"].values())),
                str(sum(len(r["found"]) for r in own)),
            ]
            for name, own in by_arm.items()
        ],
    )
    page.figure(stairs(rows))
    return page.write(rows)


def stairs(rows: list[dict[str, Any]]) -> Any:
    """Ground states verified against the calls that each run had spent by then, all seeds."""
    events: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        events[row["arm"]] += [float(calls) for calls in row["found"].values() if calls is not None]
    every = sum(len(row["found"]) for row in rows) // max(1, len(events))
    lines = {
        name: [(place, float(k)) for k, place in enumerate([0.0, *sorted(places)])]
        for name, places in events.items()
    }
    return staircases({"GFN2-xTB calls of a run": lines}, f"ground states verified, of {every}")


def _about(job: Job, rows: list[dict[str, Any]]) -> str:
    size, pool = job.size, job.pool
    return (
        f"{pool.about}. Pool {pool.content[:12]}; its cost: {cost(pool)}. All policies "
        f"know every {LOW} label and begin with the same {FIRST} labels of {HIGH} per charge. "
        f"Each round trains, relaxes on the high head from all starts and ends of the {LOW} "
        f"search, relaxes of every open charge the lowest minimum that was not relaxed before with "
        f"{HIGH} (frames of which then train), and buys {BATCH} labels per open charge: "
        f"'committee' geometries that {MEMBERS} models disagree on and that have no label, the "
        "others frames of the pool. A ground state is found within "
        f"{1000 * FOUND:.0f} meV of the lowest energy to which {HIGH} relaxes the lowest "
        f"end of any basin of the {LOW} search. At most {size.rounds} rounds, "
        f"charge term {size.training.charge_term}, {told(**steps(size.training))} with the "
        f"{size.training.loss} loss, {len(size.seeds)} seeds, {hours(rows)}. A run that ends "
        "without all ground states counts with the calls it spent, which is too few. Labels are "
        "what the policies differ by; the other calls relax what they predict. Brackets: "
        "95 % bootstrap interval over seeds."
    )
