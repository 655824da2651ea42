"""Whether a model's search ends where the search with its labels' own method ended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from defect_mf_flows.benchmark.pool import DEFECT, LOW, Pool, defects_of
from defect_mf_flows.campaign import MatchSettings
from defect_mf_flows.core.filters import closest_approach
from defect_mf_flows.core.matching import LOCAL_RADIUS
from defect_mf_flows.core.minima import Matcher
from defect_mf_flows.core.symmetry import Geometry, displacement
from defect_mf_flows.errors import DatasetError
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.search import Minimum

#: Atoms closer than this, Angstrom: the model fell into a hole of its own making.
MIN_DISTANCE = 0.55

#: An atom near the defect further from its place is in another basin, Angstrom.
BASIN = 0.3

#: Minima higher than this above the lowest are not asked for, eV per cell.
WINDOW = 0.5


@dataclass(frozen=True)
class MinimaFound:
    """What a model's search found of one charge.

    Attributes
    ----------
    ground
        Largest displacement near the defect between the two ground states, Angstrom, up to
        symmetry.
    found, known
        Minima of the labels' search within the window that the model's search found, and all.
    """

    ground: float
    found: int
    known: int


def model_minima(pool: Pool, model: Model, charge: int, head: str) -> list[Minimum]:
    """Minima of a charge on one head, from every start and end of the low-fidelity search.

    Parameters
    ----------
    pool
        Names starts and ends.
    model
        Trained on the small cell.
    charge, head
        What to search.

    Returns
    -------
    list of Minimum
        The lowest first; nothing that collapsed or did not end.
    """
    from defect_mf_flows.learning.relaxation import relax

    starts = [p.low for p in pool.small if p.low.charge == charge and p.low.lineage.step == 0]
    starts += [p.low for p in pool.small if p.low.charge == charge and p.is_end]
    structures = [frame.structure for frame in starts]
    ends = relax(structures, [charge] * len(starts), model, head, fmax=0.05, steps=80)
    good = [
        (end, f"{frame.lineage.start}@{frame.lineage.step}")
        for end, frame in zip(ends, starts, strict=True)
        if end.problem is None and closest_approach(end.structure) >= MIN_DISTANCE
    ]
    return (
        matcher_of(pool)
        .collect(
            [end.structure for end, _ in good],
            [end.energy for end, _ in good],
            [name for _, name in good],
        )
        .minima
    )


def matcher_of(pool: Pool) -> Matcher:
    """Tells minima of the small cell apart, with the settings that a campaign begins with."""
    if pool.size is None:
        raise DatasetError("minima are told apart in a pool that was made, not in given labels.")
    defects = defects_of(pool.size)
    return Matcher(defects.get(DEFECT), defects.host.supercell, MatchSettings())


def minima_found(pool: Pool, model: Model, charge: int) -> MinimaFound:
    """Compare a model's search with the low-fidelity search of the pool.

    Parameters
    ----------
    pool
        Its ends are what there is to find.
    model
        Searched on its low head.
    charge
        Charge.

    Returns
    -------
    MinimaFound
        A minimum counts as found if one of the model's has every atom near the defect within
        0.3 Angstrom of it, up to symmetry and exchange of like atoms.
    """
    matcher = matcher_of(pool)
    ends = [p.low for p in pool.small if p.low.charge == charge and p.is_end]
    known = matcher.collect(
        [f.structure for f in ends], [f.energy for f in ends], [f.lineage.start for f in ends]
    ).minima
    wanted = [m.structure for m in known if m.energy <= known[0].energy + WINDOW]
    found = [m.structure for m in model_minima(pool, model, charge, LOW)]
    if not found:
        return MinimaFound(float("inf"), 0, len(wanted))
    site, operations = matcher.defect.site, matcher.operations
    apart = np.array(
        [
            [
                displacement(
                    Geometry.of(one), Geometry.of(other), site, operations, radius=LOCAL_RADIUS
                )
                for other in found
            ]
            for one in wanted
        ]
    )
    near = int((apart.min(axis=1) <= BASIN).sum())
    return MinimaFound(float(apart[0, 0]), near, len(wanted))
