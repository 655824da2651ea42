"""What the benchmarks measure: energies relative to a minimum, forces near minima, cell sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.benchmark.pool import Pool, PoolPoint
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.schemas.frame import Frame

#: A geometry whose largest force is below this counts as near a minimum, eV/A.
NEAR_MINIMUM = 1.0

#: Two basins closer than this have no sign worth asking for, eV per cell.
TIE = 0.05

Pick = Callable[[PoolPoint], Frame]
Predict = Callable[[list[Structure]], list[tuple[float, np.ndarray]]]


def low(point: PoolPoint) -> Frame:
    """Low-fidelity label of a point."""
    return point.low


def high(point: PoolPoint) -> Frame:
    """High-fidelity label of a point."""
    return point.high


def near_minimum(frame: Frame) -> bool:
    """True if no atom feels a large force."""
    if frame.forces is None:
        return False
    return float(np.linalg.norm(frame.forces, axis=1).max()) < NEAR_MINIMUM


@dataclass(frozen=True)
class Errors:
    """Errors of one charge on held-out geometries.

    Attributes
    ----------
    energy
        Of the energy above the minimum, meV per cell, one per geometry.
    near
        Those of the geometries near minima; may be empty.
    force
        Of the force components of these geometries, meV/A.
    """

    energy: np.ndarray
    near: np.ndarray
    force: np.ndarray


def relative_errors(
    predict: Predict, pool: Pool, points: list[PoolPoint], pick: Pick
) -> dict[int, Errors]:
    """Errors of held-out points.

    Parameters
    ----------
    predict
        Of a model: structures to energies and forces.
    pool
        Names the lowest label of each charge, from which both energies count.
    points
        What to evaluate.
    pick
        Fidelity of the labels.

    Returns
    -------
    dict
        Charge -> its errors.
    """
    errors = {}
    for charge in sorted({p.low.charge for p in points}):
        own = [pick(p) for p in points if p.low.charge == charge]
        everything = [pick(p) for p in pool.small if p.low.charge == charge]
        bottom = min(everything, key=lambda frame: frame.energy)
        found = predict([bottom.structure, *(frame.structure for frame in own)])
        zero = found[0][0] - bottom.energy
        energy = [1000 * (e - f.energy - zero) for f, (e, _) in zip(own, found[1:], strict=True)]
        near = [k for k, frame in enumerate(own) if near_minimum(frame)]
        force = [1000 * (found[1 + k][1] - np.asarray(own[k].forces)).ravel() for k in near]
        errors[charge] = Errors(
            energy=np.array(energy),
            near=np.array([energy[k] for k in near]),
            force=np.concatenate(force) if force else np.array([]),
        )
    return errors


@dataclass(frozen=True)
class SizeErrors:
    """How a model does in a cell of a size that it did not see, meV per cell.

    Attributes
    ----------
    signed
        Charge -> mean error of the energy above the pristine host of the same cell.
    geometry
        Root mean square error after the mean of each charge is removed.
    offset_growth
        Charge -> what E(q) - E(0) of the unrelaxed vacancy gains in the larger cell, by the
        model minus by the labels.
    offset_growth_labels
        The same by the labels alone: what the larger cell really changes.
    """

    signed: dict[int, float]
    geometry: float
    offset_growth: dict[int, float]
    offset_growth_labels: dict[int, float]


def size_errors(potential: Potential, pool: Pool, pick: Pick, head: str) -> SizeErrors:
    """Evaluate a model in the large cell.

    Parameters
    ----------
    potential
        Model, trained on the small cell.
    pool
        Labels of both cells and of both hosts.
    pick, head
        Fidelity of the labels and its name.

    Returns
    -------
    SizeErrors
        Energies count from the host of the same cell on both sides: Gamma-only energies of
        two cells have no common zero.
    """
    hosts = {cell: pool.hosts[cell, head] for cell in ("small", "large")}
    shift = (
        hosts["large"].energy
        - len(hosts["large"].structure) / len(hosts["small"].structure) * hosts["small"].energy
    )
    frames = [pick(p) for p in pool.large]
    found = [e for e, _ in potential.predict([frame.structure for frame in frames])]
    errors: dict[int, list[float]] = {}
    for frame, energy in zip(frames, found, strict=True):
        errors.setdefault(frame.charge, []).append(1000 * (energy + shift - frame.energy))
    centred = np.concatenate([np.array(e) - np.mean(e) for e in errors.values()])
    model, label = _offset_growth(potential, pool, pick, shift)
    return SizeErrors(
        signed={q: float(np.mean(e)) for q, e in sorted(errors.items())},
        geometry=float(np.sqrt(np.mean(centred**2))),
        offset_growth={q: model[q] - label[q] for q in model},
        offset_growth_labels=label,
    )


def _offset_growth(
    potential: Potential, pool: Pool, pick: Pick, shift: float
) -> tuple[dict[int, float], dict[int, float]]:
    """Growth of E(q) - E(0) of the unrelaxed vacancy from small to large, meV: model, labels."""
    by_model: dict[tuple[str, int], float] = {}
    by_label: dict[tuple[str, int], float] = {}
    for points in (pool.small, pool.large):
        for point in points:
            cell, _, start = point.relaxation.split("|")
            if start == "Unperturbed" and point.low.lineage.step == 0:
                frame = pick(point)
                by_label[cell, frame.charge] = frame.energy
                by_model[cell, frame.charge] = potential.predict([frame.structure])[0][0]
    charges = {q for cell, q in by_label if cell == "small"} & {
        q for cell, q in by_label if cell == "large"
    }
    if 0 not in charges:
        return {}, {}

    def growth(values: dict[tuple[str, int], float], q: int) -> float:
        large = values["large", q] - values["large", 0]
        return 1000 * (large - (values["small", q] - values["small", 0]))

    wanted = sorted(charges - {0})
    return {q: growth(by_model, q) for q in wanted}, {q: growth(by_label, q) for q in wanted}


def basin_signs(potential: Potential, pool: Pool, pick: Pick) -> tuple[int, int]:
    """Pairs of relaxation ends of one charge whose order the model gets right, and all pairs."""
    right = total = 0
    for charge in sorted({p.low.charge for p in pool.small}):
        ends = [pick(p) for p in pool.small if p.is_end and p.low.charge == charge]
        found = [e for e, _ in potential.predict([frame.structure for frame in ends])]
        for i, j in combinations(range(len(ends)), 2):
            gap = ends[i].energy - ends[j].energy
            if abs(gap) > TIE:
                total += 1
                right += gap * (found[i] - found[j]) > 0
    return right, total


def rms(values: np.ndarray) -> float:
    """Root mean square; nan of nothing."""
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else float("nan")


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval.

    Attributes
    ----------
    mean, low, high
        In the unit of the values.
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        if not np.isfinite(self.mean):
            return "-"
        digits = 0 if abs(self.mean) >= 100 else 1
        return f"{self.mean:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def bootstrap(values: list[float], *, draws: int = 2000) -> Interval:
    """Mean over seeds with a bootstrap interval.

    Parameters
    ----------
    values
        One per seed; a seed is another split, other weights and other batches.
    draws
        Resamples.

    Returns
    -------
    Interval
        Percentiles 2.5 and 97.5 of the resampled means. With three seeds they can be no
        wider than the values themselves.
    """
    known = np.array([v for v in values if np.isfinite(v)])
    if not len(known):
        return Interval(float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(0)
    means = known[rng.integers(0, len(known), size=(draws, len(known)))].mean(axis=1)
    below, above = np.percentile(means, [2.5, 97.5])
    return Interval(float(known.mean()), float(below), float(above))


def equal_error_share(
    shares: list[float], errors: list[float], wanted: float
) -> tuple[float, bool]:
    """Share of labels at which an error is reached, by log-log interpolation.

    Parameters
    ----------
    shares, errors
        A learning curve, shares ascending.
    wanted
        Error to reach.

    Returns
    -------
    share
        The first at which the curve is no higher; the last one if it never is.
    reached
        False if it never is.
    """
    for k, error in enumerate(errors):
        if error <= wanted:
            if k == 0 or errors[k - 1] == error:
                return shares[k], True
            x = np.log([shares[k - 1], shares[k]])
            y = np.log([errors[k - 1], error])
            position = (np.log(wanted) - y[0]) / (y[1] - y[0])
            return float(np.exp(x[0] + position * (x[1] - x[0]))), True
    return shares[-1], False
