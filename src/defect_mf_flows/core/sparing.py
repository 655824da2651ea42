"""Which candidates are worth a high-fidelity calculation, by single points of both fidelities."""

from __future__ import annotations

from collections.abc import Sequence

from defect_mf_flows.schemas.search import Candidate, Verification

#: Why a candidate is not relaxed though its single point is low enough.
LATER = "others of this round have lower single points, and its forces promise no more"

#: Why nothing is computed at high fidelity in a round of ``loop.low_rounds``.
LOW_ALONE = "this round asked the low fidelity alone (loop.low_rounds)"


def weigh(candidate: Candidate, *, low_error: float | None, limit: float) -> Candidate:
    """Mark a candidate at which the model does not even know the low fidelity.

    Where the search has left what the model learned, both heads are wrong together, and a
    low-fidelity single point tells at a fraction of the cost of a high-fidelity one.

    Parameters
    ----------
    candidate
        Minimum of the model.
    low_error
        Model minus low fidelity there, on the low head, eV per cell; None: the low fidelity failed.
    limit
        Largest error that may be, eV per cell.

    Returns
    -------
    Candidate
        With the error, and ``spared`` filled in where it applies.
    """
    if low_error is None:
        why = "the low fidelity failed at the geometry that the model predicts"
    elif abs(low_error) > limit:
        why = f"the model is {low_error:+.3f} eV off the low fidelity at the minimum it predicts"
    else:
        why = ""
    return candidate.model_copy(update={"low_error": low_error, "spared": why})


def left_to_low(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Spare what the low fidelity has not refused either, in a round that asks it alone.

    Parameters
    ----------
    candidates
        Of one round, weighed.

    Returns
    -------
    list of Candidate
        In their order, all of them spared.
    """
    return [c if c.spared else c.model_copy(update={"spared": LOW_ALONE}) for c in candidates]


def fill_places(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Let as many predictions of a charge state go on as there are places.

    There is a place for each that is not in reserve. The model's ground state keeps its own, for
    the verdict is about it. The others go to those that lie lowest once the error of the low head
    is taken off the energy of the high one: the two heads share all but their readouts, and are
    off together.

    Parameters
    ----------
    candidates
        Of one charge state and round, weighed where the low fidelity was asked. Those that are
        spared already, known, or no predictions of the model are left as they are.

    Returns
    -------
    list of Candidate
        In their order, ``spared`` filled in for those that got no place.
    """
    predicted = [c for c in candidates if c.origin == "model" and not c.known_from]
    places = sum(not c.reserve for c in predicted)
    sound = [c for c in predicted if not c.spared]
    sound.sort(key=lambda c: (c.rank > 0, c.energy_model - (c.low_error or 0.0)))
    late = {c.rank for c in sound[places:]}
    why = "its place went to others, which lie lower by all that the model and the low fidelity say"
    return [
        c.model_copy(update={"spared": why})
        if c.origin == "model" and not c.known_from and c.rank in late
        else c
        for c in candidates
    ]


def ask_near(candidates: Sequence[Candidate], *, within: float) -> list[Candidate]:
    """Spare predictions that lie far above the lowest one, before high fidelity is asked.

    Parameters
    ----------
    candidates
        Of one charge state and round, weighed where the low fidelity was asked.
    within
        A prediction further above the lowest that was not refused is spared, eV per cell. What the
        low head is off by is taken off the energy. The model's ground state never is.

    Returns
    -------
    list of Candidate
        In their order, ``spared`` filled in where it applies.
    """
    heights = {
        k: c.energy_model - (c.low_error or 0.0)
        for k, c in enumerate(candidates)
        if c.origin == "model" and not c.spared
    }
    lowest = min(heights.values(), default=0.0)
    far = {
        k: height - lowest
        for k, height in heights.items()
        if height - lowest > within and candidates[k].rank > 0 and not candidates[k].known_from
    }
    return [
        c.model_copy(update={"spared": f"the model puts it {far[k]:.3f} eV above its lowest"})
        if k in far
        else c
        for k, c in enumerate(candidates)
    ]


def refuted(verification: Verification) -> bool:
    """Whether the low fidelity refuted the model's ground state of this round.

    Parameters
    ----------
    verification
        Judged.
    """
    if verification.model_ground is None:
        return False
    ground = verification.candidates[verification.model_ground]
    if ground.spared == LOW_ALONE:
        return False
    return bool(ground.spared) and not ground.calculations  # else the high fidelity was asked


def spare(
    candidates: Sequence[Candidate],
    earlier: Sequence[Candidate] = (),
    *,
    within: float,
    most: int | None = None,
) -> list[Candidate]:
    """Mark the candidates of a charge state that need not be relaxed.

    Parameters
    ----------
    candidates
        Of one round, with their single points; those of known minima are compared with and never
        marked, those that are marked stay so.
    earlier
        Candidates of earlier rounds, whose single points and relaxed energies count as well.
    within
        One whose single point lies further above the lowest of all these is spared, eV per cell.
    most
        Number of relaxations, of the lowest single points of this round, those of known minima,
        which are relaxed already, among them; None: no limit.

    Returns
    -------
    list of Candidate
        In their order, ``spared`` filled in where it applies.
    """
    best = _lowest_known(candidates, earlier)
    marked = [
        c if c.known_from or c.spared else c.model_copy(update={"spared": _why(c, best, within)})
        for c in candidates
    ]
    near = [k for k, c in enumerate(marked) if c.energy_single_point is not None and not c.spared]
    near.sort(key=lambda k: marked[k].energy_single_point or 0.0)
    for k in near[len(near) if most is None else most :]:
        if not marked[k].known_from:
            marked[k] = marked[k].model_copy(update={"spared": LATER})
    return marked


def _lowest_known(
    candidates: Sequence[Candidate], earlier: Sequence[Candidate]
) -> tuple[float, str] | None:
    """Lowest energy that high fidelity knows of a charge state, eV per cell, and of what."""
    singles = [
        (c.energy_single_point, f"that of {c.start} ({c.origin})")
        for c in (*candidates, *earlier)
        if c.energy_single_point is not None
    ]
    relaxed = [
        (c.energy_relaxed, f"what {c.start} ({c.origin}) relaxed to in round {c.round}")
        for c in earlier
        if c.energy_relaxed is not None
    ]
    return min([*singles, *relaxed], default=None)


def _why(candidate: Candidate, best: tuple[float, str] | None, within: float) -> str:
    if candidate.energy_single_point is None or best is None:
        return "its high-fidelity single point failed"
    lowest, what = best
    gap = candidate.energy_single_point - lowest
    if gap <= within:
        return ""
    return (
        f"its single point lies {gap:.3f} eV above {what} at high fidelity, too far to be relaxed"
    )
