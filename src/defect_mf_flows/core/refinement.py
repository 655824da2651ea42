"""From the model's minima to verified ones: what was tried, success@k, and the steps left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from defect_mf_flows.core.verdicts import lowest
from defect_mf_flows.schemas.refinement import Refinement, TriedCandidate
from defect_mf_flows.schemas.search import Candidate, Verification

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
        most = max([most, *(c.rank + 1 for c in last if c.calculations)])
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


def tried(verifications: Iterable[Verification], calls: Mapping[str, int]) -> list[TriedCandidate]:
    """List what verification asked of every candidate, and the answers.

    Parameters
    ----------
    verifications
        Of the last round, with the candidates of all rounds.
    calls
        High-fidelity calls of every calculation, by its uuid.

    Returns
    -------
    list of TriedCandidate
        By charge state, then round; within a round as they were chosen. Energies count from the
        verified ground state of their charge state.
    """
    found, left = [], dict(calls)
    for verification in verifications:
        best = _relaxed_first(verification.candidates)
        zero = None if best is None else verification.candidates[best].energy_relaxed
        for place, candidate in sorted(
            enumerate(verification.candidates), key=lambda item: (item[1].round, item[0])
        ):
            found.append(
                TriedCandidate(
                    defect=verification.defect,
                    charge=verification.charge,
                    round=candidate.round,
                    origin=candidate.origin,
                    rank=candidate.rank,
                    start=candidate.start,
                    energy_model=_above(candidate.energy_model, zero),
                    low_error=candidate.low_error,
                    energy_single_point=_above(candidate.energy_single_point, zero),
                    energy_relaxed=_above(candidate.energy_relaxed, zero),
                    # A known minimum names the relaxation that it took over: counted once.
                    calls=sum(left.pop(uuid, 0) for uuid in candidate.calculations),
                    outcome="the ground state" if place == best else _outcome(candidate),
                )
            )
    return found


def _relaxed_first(candidates: list[Candidate]) -> int | None:
    """Index of the ground state: of its relaxation, not of those that took it over since."""
    best = lowest(candidates)
    if best is None:
        return None
    energy = candidates[best].energy_relaxed
    own = (i for i, c in enumerate(candidates) if c.energy_relaxed == energy and not c.known_from)
    return next(own, best)


def _above(energy: float | None, zero: float | None) -> float | None:
    return None if energy is None or zero is None else energy - zero


def _outcome(candidate: Candidate) -> str:
    """What became of a candidate that is not the ground state."""
    if candidate.spared:
        return f"not relaxed: {candidate.spared}"
    if candidate.known_from:
        return f"not relaxed: it {candidate.known_from}"
    if candidate.energy_relaxed is None:
        return "the relaxation failed"
    if candidate.residual_force is not None:
        return f"ran out of steps at {candidate.residual_force:.2f} eV/A: an upper bound"
    return "stayed in its basin" if candidate.kept else "left its basin"
