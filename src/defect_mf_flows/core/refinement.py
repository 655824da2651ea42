"""From the model's minima to verified ones: success@k, and the steps left to high fidelity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from defect_mf_flows.core.verdicts import lowest
from defect_mf_flows.schemas.refinement import Refinement
from defect_mf_flows.schemas.search import Verification

#: A ground state is reached if a relaxation ends this close to it, eV per cell.
REACHED = 0.01


def refine(verifications: Iterable[Verification], steps: Mapping[str, int]) -> Refinement | None:
    """Judge the model's ranking by the verified energies.

    Parameters
    ----------
    verifications
        Of the last round, with the candidates of all rounds.
    steps
        Steps of every converged high-fidelity relaxation, by its uuid; the single point at the
        start is none.

    Returns
    -------
    Refinement or None
        None if no charge state has a verified ground state.
    """
    needed: list[int | None] = []
    taken: list[int] = []
    most = 0
    for verification in verifications:
        best = lowest(verification.candidates)
        if best is None:
            continue
        zero = verification.candidates[best].energy_relaxed or 0.0
        model = [c for c in verification.candidates if c.origin == "model"]
        relaxed = [c for c in model if not c.known_from]
        taken += [steps[uuid] for c in relaxed for uuid in c.calculations if uuid in steps]
        last = [c for c in model if c.round == verification.round]
        most = max([most, *(c.rank + 1 for c in last)])
        reached = [
            c.rank + 1
            for c in last
            if c.energy_relaxed is not None and c.energy_relaxed - zero <= REACHED
        ]
        needed.append(min(reached, default=None))
    if not needed:
        return None
    return Refinement(
        n_states=len(needed),
        success=[
            sum(n is not None and n <= k for n in needed) / len(needed) for k in range(1, most + 1)
        ],
        tolerance=REACHED,
        steps=float(np.median(taken)) if taken else None,
        n_relaxed=len(taken),
    )
