"""A dataset of labelled frames that no workflow made: filters, sides, leak check, card."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from defect_mf_flows.campaign import LearningSettings
from defect_mf_flows.core.filters import filter_frames
from defect_mf_flows.core.groups import (
    COPY,
    Ending,
    copied_relaxations,
    fingerprint,
    frame_side,
    geometry_key,
    split_groups,
)
from defect_mf_flows.core.references import composition_key
from defect_mf_flows.core.splits import check_no_leak
from defect_mf_flows.core.stratified import evenly_spaced
from defect_mf_flows.errors import DatasetError
from defect_mf_flows.schemas.base import SCHEMA_VERSION
from defect_mf_flows.schemas.calculation import Failure, FailureReason
from defect_mf_flows.schemas.dataset import (
    Dataset,
    DatasetCard,
    DatasetEntry,
    FrameReference,
    HostLabels,
    LeakCheck,
    Split,
)
from defect_mf_flows.schemas.frame import Frame, content_hash


@dataclass(frozen=True)
class Labelled:
    """A label and where it comes from.

    Attributes
    ----------
    frame
        The label.
    relaxation
        Relaxation that its geometry stems from.
    source
        For the card: name of the file.
    """

    frame: Frame
    relaxation: str
    source: str


def assemble(
    items: list[Labelled], *, settings: LearningSettings, host: HostLabels | None = None
) -> tuple[list[Frame], Dataset, DatasetCard]:
    """Make a dataset.

    Parameters
    ----------
    items
        Labels.
    settings
        Heads, limits, split and seed.
    host
        The pristine host, if it was computed.

    Returns
    -------
    frames
        One per entry of the dataset.
    dataset
        The same labels and settings give the same hash, whatever the order of the files.
    card
        What a person should know of it.

    Raises
    ------
    DatasetError
        If a fidelity has no place among the heads, or nothing is left.
    """
    heads = settings.heads or _only_fidelity(items)
    kept, excluded = _physical(items, heads, settings)
    missing = [head for head in heads if not any(i.frame.fidelity == head for i in kept)]
    if missing:
        raise DatasetError(
            f"no usable label of {missing}; heads are {heads}, the files hold "
            f"{sorted({i.frame.fidelity for i in items})}; correct `heads`."
        )
    members: dict[str, list[Frame]] = defaultdict(list)
    for item in kept:
        members[item.relaxation].append(item.frame)
    copies = copied_relaxations(members)
    sides = _sides(kept, members, heads, settings, copies)
    frames = [item.frame for item in kept]
    entries = [_entry(item, side) for item, side in zip(kept, sides, strict=True)]
    check_no_leak(entries, by=settings.split.by)
    key = [heads, sorted([e.frame.content_hash, e.fidelity, e.split.value] for e in entries)]
    dataset = Dataset(
        dataset_hash=content_hash(key if host is None else [*key, host.model_dump(mode="json")]),
        heads=heads,
        entries=entries,
        counts=dict(
            sorted(Counter(f"{e.fidelity}|{e.charge:+d}|{e.split.value}" for e in entries).items())
        ),
        excluded=excluded,
        host=host,
        split_by=settings.split.by,
    )
    leaks = leak_check(frames, dataset, copies)
    return frames, dataset, _card(kept, dataset, leaks)


def _only_fidelity(items: list[Labelled]) -> list[str]:
    found = sorted({item.frame.fidelity for item in items})
    if len(found) > 1:
        raise DatasetError(
            f"the files hold fidelities {found}: name them in `heads`, the highest last (in the "
            "settings file, or --head LOW --head HIGH)."
        )
    return found


def _physical(
    items: list[Labelled], heads: list[str], settings: LearningSettings
) -> tuple[list[Labelled], list[Failure]]:
    """Labels that stay, in an order that does not depend on that of the files."""
    excluded: list[Failure] = []
    groups: dict[tuple[str, str, int, str], list[Labelled]] = defaultdict(list)
    for item in items:
        frame = item.frame
        if frame.fidelity not in heads:
            excluded.append(_failure(frame, FailureReason.OTHER, "fidelity is no head"))
            continue
        cell = composition_key(frame.structure)
        groups[frame.fidelity, str(frame.lineage.defect), frame.charge, cell].append(item)
    kept: list[Labelled] = []
    for _, group in sorted(groups.items()):
        ordered = sorted(
            group, key=lambda i: (i.relaxation, i.frame.lineage.step, i.frame.content_hash)
        )
        good, dropped = filter_frames(
            [i.frame for i in ordered], settings=settings.frames, lattice_of=None
        )
        excluded += dropped
        names = {id(frame) for frame in good}
        by_relaxation: dict[str, list[Labelled]] = defaultdict(list)
        for item in ordered:
            if id(item.frame) in names:
                by_relaxation[item.relaxation].append(item)
        for members in by_relaxation.values():
            wanted = settings.per_relaxation or len(members)
            kept += [members[k] for k in evenly_spaced(len(members), wanted)]
    return kept, excluded


def _failure(frame: Frame, reason: FailureReason, message: str) -> Failure:
    return Failure(
        stage="dataset",
        reason=reason,
        message=message,
        fidelity=frame.fidelity,
        defect=frame.lineage.defect,
        charge=frame.charge,
        start=frame.lineage.start,
    )


def _sides(
    items: list[Labelled],
    members: dict[str, list[Frame]],
    heads: list[str],
    settings: LearningSettings,
    copies: list[tuple[str, str]],
) -> list[Split]:
    """Side of every label."""
    if settings.split.by == "frame":
        return [frame_side(i.frame, settings=settings.split, seed=settings.seed) for i in items]
    sides = split_groups(
        [_ending(key, frames, heads) for key, frames in sorted(members.items())],
        settings=settings.split,
        seed=settings.seed,
        labels={k: sum(f.fidelity in heads[1:] for f in v) for k, v in members.items()},
        copies=copies,
    )
    return [sides[item.relaxation] for item in items]


def _ending(key: str, frames: list[Frame], heads: list[str]) -> Ending:
    """End of a relaxation: the lowest label of its lowest fidelity."""
    rank = {head: number for number, head in enumerate(heads)}
    last = min(frames, key=lambda f: (rank[f.fidelity], f.energy, f.content_hash))
    return Ending(key, last.lineage.defect, last.charge, last.structure, last.energy)


def _entry(item: Labelled, side: Split) -> DatasetEntry:
    frame = item.frame
    return DatasetEntry(
        frame=FrameReference(
            calculation=frame.lineage.calculation,
            step=frame.lineage.step,
            content_hash=frame.content_hash,
        ),
        fidelity=frame.fidelity,
        charge=frame.charge,
        defect=frame.lineage.defect,
        relaxation=item.relaxation,
        split=side,
    )


def leak_check(
    frames: list[Frame], dataset: Dataset, copies: list[tuple[str, str]] | None = None
) -> LeakCheck:
    """Look for what is on both sides of a dataset's split.

    Parameters
    ----------
    frames
        One per entry.
    dataset
        With its sides.
    copies
        From :func:`copied_relaxations`; None looks for them.

    Returns
    -------
    LeakCheck
        What was found.

    Raises
    ------
    DatasetError
        If a relaxation and its copy, under whatever name, are on two sides.
    """
    side: dict[str, set[str]] = defaultdict(set)
    members: dict[str, list[Frame]] = defaultdict(list)
    for frame, entry in zip(frames, dataset.entries, strict=True):
        side[entry.relaxation].add(entry.split.value)
        members[entry.relaxation].append(frame)
    found = copied_relaxations(members) if copies is None else copies
    if dataset.split_by != "frame":
        for one, other in found:
            if side[one] != side[other]:
                raise DatasetError(
                    f"relaxations {one} ({', '.join(side[one])}) and {other} "
                    f"({', '.join(side[other])}) are copies of each other on two sides; split "
                    "again with `defect-mf dataset`, which puts copies on one side."
                )
    return LeakCheck(
        by=dataset.split_by,
        copies=found,
        crossing=sum(len(sides) > 1 for sides in side.values()),
        near=_near(frames, dataset),
    )


def _near(frames: list[Frame], dataset: Dataset) -> int:
    """Held-out geometries with a copy in training, same charge and composition."""
    from sklearn.neighbors import NearestNeighbors

    sides: dict[tuple[int, str], dict[bool, dict[str, Frame]]] = defaultdict(
        lambda: {True: {}, False: {}}
    )
    for frame, entry in zip(frames, dataset.entries, strict=True):
        cell = (frame.charge, composition_key(frame.structure))
        sides[cell][entry.split is Split.TRAIN][geometry_key(frame)] = frame
    count = 0
    for both in sides.values():
        if both[True] and both[False]:
            known = np.array([fingerprint(f.structure) for f in both[True].values()])
            asked = np.array([fingerprint(f.structure) for f in both[False].values()])
            search = NearestNeighbors(n_neighbors=1, metric="chebyshev").fit(known)
            count += int((search.kneighbors(asked)[0] <= COPY).sum())
    return count


def _card(items: list[Labelled], dataset: Dataset, leaks: LeakCheck) -> DatasetCard:
    counts = Counter(
        f"{e.defect or '-'}|{e.charge:+d}|{e.fidelity}|{e.split.value}" for e in dataset.entries
    )
    warnings = []
    if dataset.split_by == "frame":
        warnings.append(
            f"frame-random split: {leaks.crossing} relaxations have frames on several sides; "
            "errors on the held-out sides are too small."
        )
    if leaks.near and dataset.split_by != "frame":
        warnings.append(f"{leaks.near} held-out geometries have a near copy in training.")
    kept = {e.frame.content_hash for e in dataset.entries}
    without = sum(i.frame.forces is None and i.frame.content_hash in kept for i in items)
    if without:
        warnings.append(f"{without} labels have no forces: of them the energy alone is learned.")
    sides = {e.split for e in dataset.entries}
    warnings += [
        f"no label is on the side {side.value!r}: too few relaxations per charge."
        for side in Split
        if side not in sides
    ]
    examples: dict[str, str] = {}
    for failure in dataset.excluded:
        examples.setdefault(failure.reason.value, f"{failure.start}: {failure.message}")
    return DatasetCard(
        dataset_hash=dataset.dataset_hash,
        frames=len(dataset.entries),
        counts=dict(sorted(counts.items())),
        sources=dict(sorted(Counter(item.source for item in items).items())),
        excluded=dict(sorted(Counter(f.reason.value for f in dataset.excluded).items())),
        examples=examples,
        leaks=leaks,
        warnings=warnings,
        versions={
            "defect-mf-flows": version("defect-mf-flows"),
            "schema": str(SCHEMA_VERSION),
        },
    )
