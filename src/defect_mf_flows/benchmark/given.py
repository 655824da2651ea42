"""A pool of labels that somebody has: geometries that two fidelities have labelled."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from defect_mf_flows.benchmark.pool import Pool, PoolPoint
from defect_mf_flows.campaign import LearningSettings
from defect_mf_flows.core.assembly import Labelled
from defect_mf_flows.core.filters import filter_frames
from defect_mf_flows.core.groups import geometry_key
from defect_mf_flows.core.references import composition_key
from defect_mf_flows.core.stratified import evenly_spaced
from defect_mf_flows.errors import DatasetError, FidelityError
from defect_mf_flows.learning.files import read_labelled
from defect_mf_flows.schemas.frame import Frame

#: Labels of one fidelity on one geometry may differ by what an SCF leaves open, eV per cell.
REPEATED = 0.01

#: Relaxations of each charge, at least: each side of the split gets one.
RELAXATIONS = 3


def read_pool(files: list[Path], settings: LearningSettings) -> Pool:
    """Read a pool from extended XYZ.

    Parameters
    ----------
    files
        As :func:`defect_mf_flows.learning.files.read_labelled` takes them; the host's frames
        have no ``lineage_defect``.
    settings
        ``heads`` names the two fidelities, the high one last; ``frames`` and
        ``per_relaxation`` say which frames count.

    Returns
    -------
    Pool
        Geometries with both labels; the last one of a relaxation counts as its end. Frames
        with one label are counted as dropped.

    Raises
    ------
    ChargeError, DatasetError, FidelityError
        If the files cannot be read, or hold several compositions, or too few relaxations.
    """
    low, high = _heads(settings)
    items = [item for path in files for item in read_labelled(path)]
    labels: dict[str, dict[str, Labelled]] = defaultdict(dict)
    for item in items:
        if item.frame.fidelity in (low, high):
            first = labels[geometry_key(item.frame)].setdefault(item.frame.fidelity, item)
            _check_repeated(first.frame, item.frame)
    pairs = [found for found in labels.values() if len(found) == 2]
    names = ", ".join(path.name for path in files)
    if not pairs:
        known = sorted({item.frame.fidelity for item in items})
        raise DatasetError(
            f"{names}: no geometry has a label of {low!r} and one of {high!r} (the files have "
            f"{known}); single points must keep the coordinates of the frames they label."
        )
    hosts = [p for p in pairs if p[low].frame.lineage.defect is None]
    defects = [p for p in pairs if p[low].frame.lineage.defect is not None]
    if not defects:  # nobody said what is the host: everything is learned
        hosts, defects = [], pairs
    _check_hosts([pair[low].frame for pair in hosts], defects[0][low].frame, names)
    _check_composition([pair[low].frame for pair in defects], names)
    pool = Pool(None, heads=(low, high), method=high, disclaimer=f"Labels of {names}.")
    pool.small, outside = _points(defects, settings)
    pool.failed = len(labels) - len(pairs) + outside
    pool.hosts = {("small", name): p[name].frame for p in hosts[:1] for name in (low, high)}
    _check_relaxations(pool, names)
    pool.about = _about(pool)
    return pool


def _heads(settings: LearningSettings) -> tuple[str, str]:
    if len(settings.heads) != 2 or len(set(settings.heads)) != 2:
        raise FidelityError(
            f"heads: {settings.heads} must name the two fidelities to compare, the high one last, "
            "for example [pbe, hse06]."
        )
    low, high = settings.heads
    return low, high


def _points(
    pairs: list[dict[str, Labelled]], settings: LearningSettings
) -> tuple[list[PoolPoint], int]:
    """Points in the order of their relaxations, and how many pairs are not physical."""
    low, high = settings.heads
    relaxations: dict[str, list[dict[str, Labelled]]] = defaultdict(list)
    floor: dict[int, float] = {}
    for pair in pairs:
        frame = pair[low].frame
        relaxations[pair[low].relaxation].append(pair)
        floor[frame.charge] = min(floor.get(frame.charge, frame.energy), frame.energy)
    points, outside = [], 0
    for name, own in sorted(relaxations.items()):
        steps = sorted(own, key=lambda pair: pair[low].frame.lineage.step)
        frames = [pair[low].frame for pair in steps]
        kept, _ = filter_frames(
            frames,
            settings=settings.frames,
            lattice_of=frames[0].structure,
            floor=floor[frames[0].charge],
        )
        outside += len(frames) - len(kept)
        if not kept:
            continue
        partner = {pair[low].frame.content_hash: pair[high].frame for pair in steps}
        wanted = settings.per_relaxation or len(kept)
        points += [
            PoolPoint(name, i == len(kept) - 1, kept[i], partner[kept[i].content_hash])
            for i in evenly_spaced(len(kept), wanted)
        ]
    return points, outside


def _check_repeated(first: Frame, again: Frame) -> None:
    """Which of two labels is meant, nobody could tell."""
    if abs(first.energy - again.energy) > REPEATED:
        raise DatasetError(
            f"{again.fidelity!r} labels one geometry of charge {again.charge:+d} with "
            f"{first.energy:.3f} ({first.lineage.start}) and {again.energy:.3f} eV "
            f"({again.lineage.start}); leave out the one of other settings, or rename its fidelity."
        )


def _check_hosts(frames: list[Frame], defect: Frame, names: str) -> None:
    """A frame of the defect that lacks its name must not be left out as one of the host."""
    cell = composition_key(defect.structure)
    for frame in frames:
        if frame.charge != 0 or composition_key(frame.structure) == cell:
            raise DatasetError(
                f"{names}: a frame of {composition_key(frame.structure)}, charge "
                f"{frame.charge:+d}, has no lineage_defect, as only the neutral host may where "
                "others have one; name the defect on all of its frames, or on none."
            )


def _check_composition(frames: list[Frame], names: str) -> None:
    """Energies of different compositions have no common minimum to count from."""
    found = sorted({composition_key(frame.structure) for frame in frames})
    if len(found) != 1:
        raise DatasetError(
            f"{names}: geometries with both labels have {len(found)} compositions "
            f"({', '.join(found)}); give the frames of one defect."
        )


def _check_relaxations(pool: Pool, names: str) -> None:
    relaxations: dict[int, set[str]] = defaultdict(set)
    for point in pool.small:
        relaxations[point.low.charge].add(point.relaxation)
    if not relaxations:
        raise DatasetError(f"{names}: no geometry with both labels is physical; see frames.")
    poor = [f"{q:+d}" for q, own in sorted(relaxations.items()) if len(own) < RELAXATIONS]
    if poor:
        raise DatasetError(
            f"{names}: charge {', '.join(poor)} has fewer than {RELAXATIONS} relaxations with "
            "both labels, one for each side of the split; label more, or leave the charge out."
        )


def _about(pool: Pool) -> str:
    frames = [point.low for point in pool.small]
    charges = ", ".join(f"{q:+d}" for q in sorted({frame.charge for frame in frames}))
    low, high = pool.heads
    return f"{composition_key(frames[0].structure)}, charges {charges}; {low} and {high}"
