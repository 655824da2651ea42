"""Which candidates that a round did not relax may end lower than those that it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from defect_mf_flows.core.charge import to_atoms
from defect_mf_flows.core.second_look import may_end_lower
from defect_mf_flows.core.springs import spring_gain
from defect_mf_flows.core.verdicts import lowest
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
        Candidates of all rounds, per defect and charge.
    within
        Only those whose single points are this close to the lowest, eV per cell.

    Returns
    -------
    list of int
        Places among the candidates.
    """
    places = {
        f"{defect} {charge:+d}": [k for k, o in enumerate(owners) if o == (defect, charge)]
        for defect, charge in dict.fromkeys(owners)
    }
    bounds: dict[str, float | None] = {}
    for (defect, charge), every in judged.items():
        best = lowest(list(every))
        bounds[f"{defect} {charge:+d}"] = None if best is None else every[best].energy_relaxed
    found = may_end_lower(
        {name: [candidates[k] for k in mine] for name, mine in places.items()},
        {name: [_gain(asked[k]) for k in mine] for name, mine in places.items()},
        bounds,
        within=within,
    )
    return sorted(places[name][k] for name, chosen in found.items() for k in chosen)


def _gain(calculation: Calculation | None) -> float | None:
    """What unit springs would gain where a calculation began, eV."""
    if calculation is None or not calculation.frames:
        return None
    first = calculation.frames[0]
    if first.forces is None:
        return None
    return spring_gain(to_atoms(first.structure), np.array(first.forces))
