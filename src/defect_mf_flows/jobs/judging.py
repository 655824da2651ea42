"""What high-fidelity relaxations make of a round's candidates."""

from __future__ import annotations

import numpy as np

from defect_mf_flows.campaign import MatchSettings, VerifySettings
from defect_mf_flows.core.known_minima import contradicted, taken_over
from defect_mf_flows.core.matching import SameMinimum, deviation, soap_vectors
from defect_mf_flows.core.minima import unique_minima
from defect_mf_flows.core.verdicts import in_own_basin, judge, lowest, model_error
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.schemas.defect import Defect
from defect_mf_flows.schemas.search import Candidate, Verdict, Verification


def finish(
    candidate: Candidate, calculation: Calculation, defect: Defect, settings: VerifySettings
) -> Candidate:
    """Read single point, relaxed energy and deviation off the calculation.

    A known minimum keeps what it took over, unless its single point contradicts that: it is
    then not verified, and the next round relaxes it. One that was spared has its single point
    alone.
    """
    update: dict[str, object] = {"calculations": [calculation.job_uuid, *candidate.calculations]}
    if calculation.frames:
        update["energy_single_point"] = calculation.frames[0].energy
    if candidate.known_from:
        finished = candidate.model_copy(update=update)
        if contradicted(finished):
            return finished.model_copy(
                update={"energy_relaxed": None, "relaxed": None, "deviation": None}
            )
        return finished.model_copy(update={"kept": in_own_basin(finished, settings)})
    if candidate.spared:
        return candidate.model_copy(update=update)
    if _usable(calculation) and calculation.final_structure is not None:
        moved = deviation(candidate.structure, calculation.final_structure, defect.site)
        update |= {
            "residual_force": _residual_force(calculation),
            "energy_relaxed": calculation.final_energy,
            "relaxed": calculation.final_structure,
            "deviation": moved,
        }
    finished = candidate.model_copy(update=update)
    return finished.model_copy(update={"kept": in_own_basin(finished, settings)})


def unasked(candidate: Candidate, settings: VerifySettings) -> Candidate:
    """Finish a candidate of which high fidelity was not asked in this round.

    A known minimum took over its relaxation, and stays in its basin by the rule of the others.
    """
    if not taken_over(candidate):
        return candidate
    return candidate.model_copy(update={"kept": in_own_basin(candidate, settings)})


def _usable(calculation: Calculation) -> bool:
    """Whether its last energy says something of the minimum: out of steps it is a bound."""
    ended = calculation.failure is None
    return ended or (calculation.out_of_steps and bool(calculation.frames))


def _residual_force(calculation: Calculation) -> float | None:
    """Largest force left where steps ran out, eV/Angstrom; None where it ended."""
    if calculation.failure is None or calculation.frames[-1].forces is None:
        return None
    return float(np.linalg.norm(calculation.frames[-1].forces, axis=1).max())


def verify(
    defect: Defect,
    charge: int,
    candidates: list[Candidate],
    number: int,
    settings: VerifySettings,
    matching: MatchSettings,
) -> Verification:
    """Judge one charge state.

    Parameters
    ----------
    defect, charge
        Which charge state.
    candidates
        This round's first, the model's ground state at their head.
    number
        Round.
    settings, matching
        Tolerances.

    Returns
    -------
    Verification
        With the verdict and its reason.
    """
    candidates = _with_basins(defect, candidates, matching)
    mine = [i for i, c in enumerate(candidates) if (c.origin, c.round) == ("model", number)]
    if mine:
        verdict, reason = judge(candidates, mine[0], settings=settings)
    else:
        verdict = Verdict.WRONG
        reason = "no end of the relaxations on the model was believed; its failures say why"
    best = lowest(candidates)
    return Verification(
        defect=defect.name,
        charge=charge,
        round=number,
        verdict=verdict,
        reason=reason,
        model_ground=mine[0] if mine else None,
        ground_state=best,
        energy_error=model_error(candidates[mine[0]]) if mine else None,
        candidates=candidates,
    )


def _with_basins(
    defect: Defect, candidates: list[Candidate], matching: MatchSettings
) -> list[Candidate]:
    relaxed = [i for i, c in enumerate(candidates) if c.relaxed is not None]
    if not relaxed:
        return candidates
    vectors = soap_vectors([candidates[i].relaxed for i in relaxed], defect.site)  # type: ignore[misc]
    energies = [float(candidates[i].energy_relaxed or 0.0) for i in relaxed]
    same = SameMinimum(soap=matching.soap, energy=matching.energy)
    _, labels = unique_minima(energies, vectors, same=same)
    basins = dict(zip(relaxed, labels, strict=True))
    return [c.model_copy(update={"basin": basins.get(i)}) for i, c in enumerate(candidates)]
