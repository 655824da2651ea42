"""Which candidates that a round did not relax may end lower than those that it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from defect_mf_flows.core.charge import to_atoms
from defect_mf_flows.core.second_look import may_end_lower
from defect_mf_flows.core.springs import spring_gain
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.schemas.search import Candidate


def worth_relaxing(
    candidates: Sequence[Candidate],
    owners: Sequence[tuple[str, int]],
    asked: Sequence[Calculation | None],
    judged: Mapping[tuple[str, int], Sequence[Candidate]],
    *,
    within: float,
) -> list[int]:
    """Find the candidates of a round that may end below what their charge state has relaxed to.

    Parameters
    ----------
    candidates, owners
        Of this round, finished, and their defects and charges.
    asked
        Their relaxations, or the single points of those that were spared; None where the high
        fidelity was not asked.
    judged
        Candidates of all rounds, per defect and charge, those of this round first.
    within
        Only those whose single points are this close to the lowest, eV per cell.

    Returns
    -------
    list of int
        Places among the candidates.
    """
    places = {owner: [k for k, o in enumerate(owners) if o == owner] for owner in judged}
    found = may_end_lower(
        {owner: [candidates[k] for k in mine] for owner, mine in places.items()},
        {owner: [_gain(asked[k]) for k in mine] for owner, mine in places.items()},
        {owner: every[len(places[owner]) :] for owner, every in judged.items()},
        within=within,
    )
    return sorted(places[owner][k] for owner, chosen in found.items() for k in chosen)


def _gain(calculation: Calculation | None) -> float | None:
    """What unit springs would gain where a calculation began, eV."""
    if calculation is None or not calculation.frames:
        return None
    first = calculation.frames[0]
    if first.forces is None:
        return None
    return spring_gain(to_atoms(first.structure), np.array(first.forces))
