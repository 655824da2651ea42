"""Verdicts: what high fidelity says of the model's ground state, and when the loop stops."""

from __future__ import annotations

import math

from defect_mf_flows.campaign import LoopSettings, VerifySettings
from defect_mf_flows.schemas.loop import RoundSummary, StopVerdict
from defect_mf_flows.schemas.search import Candidate, Verdict


def lowest(candidates: list[Candidate]) -> int | None:
    """Index of the candidate with the lowest relaxed high-fidelity energy."""
    done = [i for i, c in enumerate(candidates) if c.energy_relaxed is not None]
    return min(done, key=lambda i: candidates[i].energy_relaxed or 0.0) if done else None


def low_ground(candidates: list[Candidate]) -> Candidate | None:
    """The low-fidelity ground state among the candidates, if high fidelity was asked about it."""
    return next((c for c in candidates if c.origin == "low" and c.rank == 0), None)


def lower_unrelaxed(candidates: list[Candidate], *, tolerance: float) -> Candidate | None:
    """Find what high fidelity puts below all that it has relaxed, before any relaxation.

    Parameters
    ----------
    candidates
        All candidates of a charge state.
    tolerance
        It must lie lower by more than this, eV per cell.

    Returns
    -------
    Candidate or None
        The lowest of those whose relaxation failed or was not made; None if there is none, or
        nothing was relaxed.
    """
    best = lowest(candidates)
    if best is None:
        return None
    limit = (candidates[best].energy_relaxed or 0.0) - tolerance
    below = [
        c
        for c in candidates
        if c.energy_relaxed is None
        and c.energy_single_point is not None
        and c.energy_single_point < limit
    ]
    return min(below, key=lambda c: c.energy_single_point or 0.0, default=None)


def judge(
    candidates: list[Candidate], model_ground: int, *, settings: VerifySettings
) -> tuple[Verdict, str]:
    """Judge the model's ground state.

    Parameters
    ----------
    candidates
        All candidates of a charge state, those of earlier rounds included, with their
        high-fidelity relaxations.
    model_ground
        Index of the model's ground state among them.
    settings
        Tolerances.

    Returns
    -------
    verdict
        WRONG if its relaxation failed or ran out of steps, left the geometry, ended above
        another candidate, relaxed or not, or missed the energy limit; else LOWER if it lies below
        the low-fidelity
        search's ground state, evaluated in that state's own basin; else CONFIRMED.
    reason
        With the numbers.
    """
    ground = candidates[model_ground]
    best = lowest(candidates)
    if ground.spared:
        return Verdict.WRONG, ground.spared
    if ground.energy_relaxed is None and ground.known_from:
        return Verdict.WRONG, f"its single point does not bear out that it {ground.known_from}"
    if ground.energy_relaxed is None or ground.deviation is None or best is None:
        return Verdict.WRONG, "the high-fidelity relaxation of the model's ground state failed"
    move = ground.deviation
    if (
        move.local_rmsd > settings.max_local_rmsd
        or move.max_displacement > settings.max_displacement
    ):
        far = f"{move.max_displacement:.2f} A at most"
        if ground.known_from:
            return Verdict.WRONG, f"it {ground.known_from}, {far}"
        return (
            Verdict.WRONG,
            f"high fidelity moved it by {move.local_rmsd:.3f} A (local RMSD), {far}",
        )
    if ground.residual_force is not None:
        return Verdict.WRONG, (
            f"the steps of its high-fidelity relaxation ran out at forces of "
            f"{ground.residual_force:.2f} eV/A: an upper bound"
        )
    unrelaxed = lower_unrelaxed(candidates, tolerance=settings.energy_tolerance)
    if unrelaxed is not None and unrelaxed.energy_single_point is not None:
        gap = ground.energy_relaxed - unrelaxed.energy_single_point
        return Verdict.WRONG, (
            f"{unrelaxed.start} ({unrelaxed.origin}) lies {gap:.3f} eV lower at high fidelity "
            "before any relaxation, and has not been relaxed to an end"
        )
    other = candidates[best]
    gap = ground.energy_relaxed - (other.energy_relaxed or 0.0)
    if gap > settings.energy_tolerance:
        return Verdict.WRONG, (
            f"{other.start} ({other.origin}) lies {gap:.3f} eV lower at high fidelity"
        )
    error = model_error(ground)
    limit = settings.max_energy_error
    if limit is not None and error is not None and abs(error) > limit:
        return Verdict.WRONG, f"model energy is off by {error:+.3f} eV per cell"
    return _against_low(candidates, ground, settings)


def _against_low(
    candidates: list[Candidate], ground: Candidate, settings: VerifySettings
) -> tuple[Verdict, str]:
    low = low_ground(candidates)
    energy = own_basin_energy(low, settings) if low is not None else None
    if low is None or energy is None or ground.energy_relaxed is None:
        return Verdict.CONFIRMED, "stays in place; the low-fidelity search has no ground state"
    gain = energy - ground.energy_relaxed
    if gain > settings.energy_tolerance and low.residual_force is not None:
        return Verdict.CONFIRMED, (
            f"stays in place; the lowest low-fidelity minimum ({low.start}) ran out of steps "
            f"at high fidelity, {gain:.3f} eV above it"
        )
    if gain > settings.energy_tolerance:
        fate = "stays" if in_own_basin(low, settings) else "does not survive relaxation"
        return Verdict.LOWER, (
            f"{gain:.3f} eV below the lowest low-fidelity minimum ({low.start}), which {fate}"
        )
    return Verdict.CONFIRMED, "stays in place and is the lowest low-fidelity minimum, or equals it"


def in_own_basin(candidate: Candidate, settings: VerifySettings) -> bool:
    """True if high fidelity kept the candidate's basin, bonds aside."""
    return (
        candidate.deviation is not None
        and candidate.deviation.max_displacement <= settings.basin_displacement
    )


def own_basin_energy(candidate: Candidate, settings: VerifySettings) -> float | None:
    """High-fidelity energy of a candidate in its own basin.

    The relaxed energy if the relaxation stayed; else the energy at the candidate's
    geometry, because the relaxed one belongs to another basin.
    """
    if in_own_basin(candidate, settings):
        return candidate.energy_relaxed
    return candidate.energy_single_point


def model_error(candidate: Candidate) -> float | None:
    """Model minus high fidelity at the candidate's geometry, eV per cell."""
    if candidate.energy_single_point is None:
        return None
    return candidate.energy_model - candidate.energy_single_point


def stop_verdict(
    rounds: list[RoundSummary], *, high_calls: int, settings: LoopSettings, tolerance: float
) -> tuple[StopVerdict | None, str]:
    """Decide whether the loop ends, and why.

    Parameters
    ----------
    rounds
        Finished rounds.
    high_calls
        High-fidelity force calls spent.
    settings
        Budgets.
    tolerance
        Energies closer than this count as equal, eV per cell.

    Returns
    -------
    verdict
        None to go on.
    reason
        With the numbers.
    """
    last = rounds[-1]
    wrong = sorted(key for key, verdict in last.verdicts.items() if verdict is Verdict.WRONG)
    if not wrong:
        return StopVerdict.CONVERGED, f"every verdict of round {last.round} holds"
    names = ", ".join(wrong)
    if last.round >= settings.max_rounds:
        return StopVerdict.BUDGET, f"{names} still wrong after max_rounds = {last.round}"
    if settings.max_high_calls is not None and high_calls >= settings.max_high_calls:
        return StopVerdict.BUDGET, f"{names} still wrong after {high_calls} high-fidelity calls"
    if last.round <= settings.low_rounds:
        return None, f"round {last.round} asked the low fidelity alone"
    # A round can only stall against one that asked the high fidelity, too.
    if last.round > settings.low_rounds + 1 and _stalled(rounds[-2], last, wrong, tolerance):
        return StopVerdict.STALLED, f"round {last.round} improved nothing for {names}"
    return None, f"{names} wrong in round {last.round}"


def _stalled(before: RoundSummary, last: RoundSummary, wrong: list[str], tolerance: float) -> bool:
    """Same wrong verdicts, no lower ground state, errors not a tenth smaller.

    A round in which the low fidelity refuted a prediction taught the model that, and stalls never.
    """
    if last.refuted:
        return False
    for key in wrong:
        if before.verdicts[key] is not Verdict.WRONG:
            return False
        was, now = before.ground_energies[key], last.ground_energies[key]
        if now < was - tolerance or (math.isnan(was) and not math.isnan(now)):
            return False
        old, new = before.energy_errors.get(key), last.energy_errors.get(key)
        if old is not None and new is not None and new < 0.9 * old:
            return False
    return True
