"""Datasets of a pool: split by relaxation, nested subsets of high-fidelity labels."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.benchmark.pool import DEFECT, HIGH, LOW, Pool, PoolPoint
from defect_mf_flows.campaign import SplitSettings
from defect_mf_flows.core.references import host_labels
from defect_mf_flows.core.splits import split_relaxations
from defect_mf_flows.schemas.dataset import Dataset, DatasetEntry, FrameReference, Split
from defect_mf_flows.schemas.frame import Frame, content_hash

SPLIT = SplitSettings(valid=0.15, test=0.25)


def sides(pool: Pool, seed: int) -> dict[str, Split]:
    """Side of every relaxation of the small cell; another seed, another split."""
    strata = {p.relaxation: f"{p.low.charge:+d}" for p in pool.small}
    return split_relaxations(strata, settings=SPLIT, seed=seed)


def nested_order(points: list[PoolPoint], seed: int) -> list[int]:
    """Order in which points get a high-fidelity label.

    Parameters
    ----------
    points
        Candidates.
    seed
        Another seed, another order.

    Returns
    -------
    list of int
        The first labels of every share are those of the smaller shares; charges take turns,
        so that none is without.
    """
    rng = np.random.default_rng(seed)
    queues: dict[int, list[int]] = defaultdict(list)
    for i in rng.permutation(len(points)):
        queues[points[i].low.charge].append(int(i))
    order = []
    for turn in range(max((len(queue) for queue in queues.values()), default=0)):
        order += [queues[charge][turn] for charge in sorted(queues) if turn < len(queues[charge])]
    return order


def assemble(
    pool: Pool, *, seed: int, heads: list[str], share: float = 1.0, fraction: float = 1.0
) -> tuple[list[Frame], Dataset]:
    """Make a dataset of the small cell.

    Parameters
    ----------
    pool
        Labels.
    seed
        Of split and order.
    heads
        Fidelities, the highest last.
    share
        Of training and validation points that have a high-fidelity label, if it is a head;
        at least one per charge and side. Every test point has one.
    fraction
        Of training points that are used at all.

    Returns
    -------
    frames
        One per entry.
    dataset
        With the host of the small cell.
    """
    side = sides(pool, seed)
    frames: list[Frame] = []
    entries: list[DatasetEntry] = []
    charges = {p.low.charge for p in pool.small}
    for wanted in Split:
        points = [p for p in pool.small if side[p.relaxation] is wanted]
        order = nested_order(points, seed)
        if wanted is Split.TRAIN and fraction < 1.0:
            order = order[: max(2 * len(charges), round(fraction * len(order)))]
        labelled = len(order)
        if wanted is not Split.TEST:
            labelled = max(len(charges), round(share * len(order)))
        for rank, i in enumerate(order):
            chosen = [points[i].low] if LOW in heads else []
            if HIGH in heads and rank < labelled:
                chosen.append(points[i].high)
            for frame in chosen:
                frames.append(frame)
                entries.append(_entry(frame, points[i].relaxation, wanted))
    key = [heads, [[e.frame.content_hash, e.split.value] for e in entries]]
    host = host_labels([pool.hosts["small", head] for head in heads], primitive(pool))
    dataset = Dataset(
        dataset_hash=content_hash(key), heads=heads, entries=entries, counts={}, host=host
    )
    return frames, dataset


def primitive(pool: Pool) -> Structure:
    """Primitive cell of the host."""
    supercell = next(iter(pool.hosts.values())).structure
    found: Structure = supercell.get_primitive_structure()
    return found


def test_points(pool: Pool, seed: int) -> list[PoolPoint]:
    """Points of the held-out relaxations."""
    side = sides(pool, seed)
    return [p for p in pool.small if side[p.relaxation] is Split.TEST]


def _entry(frame: Frame, relaxation: str, side: Split) -> DatasetEntry:
    return DatasetEntry(
        frame=FrameReference(
            calculation=frame.lineage.calculation,
            step=frame.lineage.step,
            content_hash=frame.content_hash,
        ),
        fidelity=frame.fidelity,
        charge=frame.charge,
        defect=DEFECT,
        relaxation=relaxation,
        split=side,
    )
