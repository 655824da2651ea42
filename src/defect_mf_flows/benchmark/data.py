"""Datasets of a pool: split by relaxation, nested subsets of high-fidelity labels."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.benchmark.pool import Pool, PoolPoint
from defect_mf_flows.campaign import PickSettings, SplitSettings
from defect_mf_flows.core.groups import Ending, basins
from defect_mf_flows.core.references import composition_key, host_labels
from defect_mf_flows.core.samplers import pick
from defect_mf_flows.core.splits import split_relaxations
from defect_mf_flows.core.stratified import Candidate
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
    pool: Pool,
    *,
    seed: int,
    heads: list[str],
    share: float = 1.0,
    fraction: float = 1.0,
    sampler: str | None = None,
    without: int | None = None,
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
    sampler
        Chooses which training points have a high-fidelity label; None: at random, nested.
    without
        Charge of which the dataset holds nothing, not even to test; None: it holds all.

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
    known = [p for p in pool.small if p.low.charge != without]
    charges = {p.low.charge for p in known}
    for wanted in Split:
        points = [p for p in known if side[p.relaxation] is wanted]
        order = nested_order(points, seed)
        if wanted is Split.TRAIN and fraction < 1.0:
            order = order[: max(2 * len(charges), round(fraction * len(order)))]
        labelled = len(order)
        if wanted is not Split.TEST:
            labelled = max(len(charges), round(share * len(order)))
        if wanted is Split.TRAIN and sampler is not None:
            first = _sampled(pool, points, sampler, share, seed)
            order = [*first, *(i for i in order if i not in set(first))]
            labelled = len(first)
        for rank, i in enumerate(order):
            chosen = [points[i].low] if pool.heads[0] in heads else []
            if pool.heads[1] in heads and rank < labelled:
                chosen.append(points[i].high)
            for frame in chosen:
                frames.append(frame)
                entries.append(_entry(frame, points[i].relaxation, wanted))
    return frames, _dataset(pool, heads, entries)


def dataset_of(
    pool: Pool, seed: int, labelled: set[int], extra: list[tuple[str, Frame]]
) -> tuple[list[Frame], Dataset]:
    """Make a dataset of the small cell with chosen high-fidelity labels.

    Parameters
    ----------
    pool
        Labels.
    seed
        Of the split.
    labelled
        Indices of points of the small cell whose high-fidelity label is known.
    extra
        Further frames that train, with a key of the relaxation each stems from.

    Returns
    -------
    frames
        One per entry.
    dataset
        Every low-fidelity label, and the chosen ones.
    """
    side = sides(pool, seed)
    rows: list[tuple[Frame, str, Split]] = []
    for i, point in enumerate(pool.small):
        own = side[point.relaxation]
        rows.append((point.low, point.relaxation, own))
        if i in labelled:
            rows.append((point.high, point.relaxation, own))
    known = {frame.content_hash for frame, _, _ in rows}
    for key, frame in extra:
        if frame.content_hash not in known:
            known.add(frame.content_hash)
            rows.append((frame, key, Split.TRAIN))
    frames = [frame for frame, _, _ in rows]
    return frames, _dataset(pool, list(pool.heads), [_entry(*row) for row in rows])


def pool_candidates(pool: Pool, chosen: list[int]) -> list[Candidate]:
    """Points of the small cell as the samplers take them.

    Parameters
    ----------
    pool
        Labels.
    chosen
        Indices of points.

    Returns
    -------
    list of Candidate
        In the order of the indices.
    """
    ends = {p.relaxation: p.low for p in pool.small if p.is_end}
    endings = [Ending(k, defect_of(f), f.charge, f.structure, f.energy) for k, f in ends.items()]
    basin = basins(endings)
    number = {name: k for k, name in enumerate(sorted(set(basin.values())))}
    lowest: dict[str, str] = {}
    for key in sorted(ends, key=lambda key: ends[key].energy):
        lowest.setdefault(basin[key], key)
    found = []
    for point in (pool.small[i] for i in chosen):
        key = point.relaxation
        last = max(ends[key].lineage.step, 1) if key in ends else 1
        name = basin.get(key, "")
        found.append(
            Candidate(
                frame=point.low,
                basin=number.get(name, -1),
                progress=min(point.low.lineage.step / last, 1.0),
                is_end=point.is_end and lowest.get(name) == key,
            )
        )
    return found


def _sampled(
    pool: Pool, points: list[PoolPoint], sampler: str, share: float, seed: int
) -> list[int]:
    """Positions in ``points`` that a sampler chooses, as many as 'stratified' would."""
    place = {id(point): i for i, point in enumerate(pool.small)}
    candidates = pool_candidates(pool, [place[id(point)] for point in points])
    settings = PickSettings(fraction=share)
    chosen, _ = pick(candidates, settings=settings, seed=seed)
    if sampler != "stratified":
        fraction = min(len(chosen) / len(candidates), 0.999)
        changed = {"sampler": sampler, "fraction": fraction}
        chosen, _ = pick(candidates, settings=settings.model_copy(update=changed), seed=seed)
    return chosen


def _dataset(pool: Pool, heads: list[str], entries: list[DatasetEntry]) -> Dataset:
    key = [heads, [[e.frame.content_hash, e.split.value] for e in entries]]
    hosts = [pool.hosts["small", head] for head in heads if ("small", head) in pool.hosts]
    host = host_labels(hosts, primitive(pool)) if len(hosts) == len(heads) else None
    return Dataset(
        dataset_hash=content_hash(key), heads=heads, entries=entries, counts={}, host=host
    )


def primitive(pool: Pool) -> Structure:
    """Primitive cell of the host."""
    supercell = next(iter(pool.hosts.values())).structure
    found: Structure = supercell.get_primitive_structure()
    return found


def test_points(pool: Pool, seed: int) -> list[PoolPoint]:
    """Points of the held-out relaxations."""
    side = sides(pool, seed)
    return [p for p in pool.small if side[p.relaxation] is Split.TEST]


def defect_of(frame: Frame) -> str:
    """Name of a frame's defect; labels that were given may know its composition alone."""
    return frame.lineage.defect or composition_key(frame.structure)


def _entry(frame: Frame, relaxation: str, side: Split) -> DatasetEntry:
    return DatasetEntry(
        frame=FrameReference(
            calculation=frame.lineage.calculation,
            step=frame.lineage.step,
            content_hash=frame.content_hash,
        ),
        fidelity=frame.fidelity,
        charge=frame.charge,
        defect=defect_of(frame),
        relaxation=relaxation,
        split=side,
    )
