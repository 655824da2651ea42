"""Candidates that were not relaxed, but may end lower than those that were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from defect_mf_flows.core.sparing import spare
from defect_mf_flows.core.verdicts import lowest
from defect_mf_flows.schemas.search import Candidate, Owner

#: Of what relaxations gained, in units of what springs would: this share of them gained less.
LIKELY = 0.8
#: Of fewer relaxations, the largest gain counts.
FEW = 5


def may_end_lower(
    candidates: Mapping[Owner, Sequence[Candidate]],
    gains: Mapping[Owner, Sequence[float | None]],
    earlier: Mapping[Owner, Sequence[Candidate]],
    *,
    within: float,
) -> dict[Owner, list[int]]:
    """Find the candidates that may end below what their charge state has relaxed to.

    A relaxation gains more, the larger the forces at its start and the softer the cell. What
    springs between neighbours would gain has the first; how soft the cell is, the relaxations of
    the same round tell, of all charge states together.

    Parameters
    ----------
    candidates
        Per charge state: those of this round, as far as they were relaxed with the energy that
        they ended at.
    gains
        What unit springs would gain at each, eV; None where there are no forces.
    earlier
        Per charge state: candidates of earlier rounds, whose energies count as well.
    within
        As for :func:`~defect_mf_flows.core.sparing.spare`: only candidates whose single points
        are this close to the lowest, eV per cell.

    Returns
    -------
    dict
        Per charge state, places among its candidates; charge states without any are left out.
    """
    softness = _softness(candidates, gains)
    found: dict[Owner, list[int]] = {}
    for owner, mine in candidates.items():
        before = earlier[owner]
        best = lowest([*mine, *before])
        if best is None:
            continue
        bound = [*mine, *before][best].energy_relaxed or 0.0
        asked = [c.model_copy(update={"spared": ""}) for c in mine]
        near = [not c.spared for c in spare(asked, before, within=within)]
        chosen = [
            k
            for k, (c, gain) in enumerate(zip(mine, gains[owner], strict=True))
            if c.spared
            and near[k]
            and c.energy_single_point is not None
            and gain is not None
            and c.energy_single_point - softness * gain < bound
        ]
        if chosen:
            found[owner] = chosen
    return found


def _softness(
    candidates: Mapping[Owner, Sequence[Candidate]], gains: Mapping[Owner, Sequence[float | None]]
) -> float:
    """What most relaxations gained at most, in units of what springs would.

    Infinite where nothing was relaxed that could tell.
    """
    ratios = [
        (c.energy_single_point - c.energy_relaxed) / gain
        for owner, mine in candidates.items()
        for c, gain in zip(mine, gains[owner], strict=True)
        if c.energy_single_point is not None
        and c.energy_relaxed is not None
        and not c.known_from
        and gain
    ]
    if not ratios:
        return float("inf")
    return max(ratios) if len(ratios) < FEW else float(np.quantile(ratios, LIKELY))
