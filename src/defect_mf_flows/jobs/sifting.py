"""What single points make of a round's candidates, before any is relaxed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from defect_mf_flows.campaign import DefectSettings, VerifySettings
from defect_mf_flows.core.charge import with_spin
from defect_mf_flows.core.known_minima import as_traced
from defect_mf_flows.core.sparing import ask_near, fill_places, spare, weigh
from defect_mf_flows.jobs.candidates import is_prediction
from defect_mf_flows.jobs.common import calculations, earlier_candidates
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.schemas.defect import DefectSet
from defect_mf_flows.schemas.loop import LoopState
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.search import Candidate, CandidateSet, Owner


def weighed_candidates(
    chosen: CandidateSet,
    checks: list[str],
    model: Model,
    low: str,
    *,
    defects: DefectSettings,
    limit: float,
    device: str,
) -> list[Candidate]:
    """Spare the candidates at which the model does not know the low fidelity.

    Parameters
    ----------
    chosen
        Candidates of the round.
    checks
        uuids of the low-fidelity single points: of the predicted minima in their order, then of
        ends that were refused.
    model
        With its blob.
    low
        Low fidelity.
    defects
        For their spins.
    limit
        Largest error of the low head, eV per cell.
    device
        torch device.

    Returns
    -------
    list of Candidate
        In their order.
    """
    from defect_mf_flows.learning.potential import Potential

    potential = Potential(model, head=low, device=device)
    done = iter(calculations(checks, frames=False))

    def judged(candidate: Candidate, owner: Owner) -> Candidate:
        if not is_prediction(candidate):
            return candidate
        found = next(done)
        spin = defects.spin_of(*owner)
        known = potential.predict([with_spin(candidate.structure, spin)])[0][0]
        failed = found.failure is not None or found.final_energy is None
        error = None if failed else known - float(found.final_energy or 0.0)
        return weigh(candidate, low_error=error, limit=limit)

    return [
        judged(candidate, owner)
        for candidate, owner in zip(chosen.candidates, chosen.owners, strict=True)
    ]


def placed_candidates(chosen: CandidateSet, *, within: float | None) -> list[Candidate]:
    """Spare the predictions that the high fidelity is not asked about.

    Parameters
    ----------
    chosen
        Candidates of the round, weighed where the low fidelity was asked.
    within
        As for :func:`~defect_mf_flows.core.sparing.ask_near`; None: none lies too high.

    Returns
    -------
    list of Candidate
        In their order; what the low fidelity refused has left its place to those in reserve.
    """

    def place(_: Owner, mine: list[Candidate]) -> list[Candidate]:
        placed = fill_places(mine)
        return placed if within is None else ask_near(placed, within=within)

    return _by_owner(chosen.candidates, chosen.owners, place)


def sifted_candidates(
    chosen: CandidateSet,
    single_points: list[str | None],
    state: LoopState,
    defects: DefectSet,
    *,
    settings: VerifySettings,
) -> list[Candidate]:
    """Spare the candidates whose high-fidelity single points are too high to be relaxed.

    Parameters
    ----------
    chosen
        Candidates of the round.
    single_points
        uuids of their single points, in the same order; None where there is none.
    state
        Holds the earlier rounds, whose single points count as well.
    defects
        For their sites.
    settings
        ``relax_within`` is set.

    Returns
    -------
    list of Candidate
        In their order; those to be relaxed name their single points.
    """
    assert settings.relax_within is not None
    within, most = settings.relax_within, settings.relaxations
    done = {c.job_uuid: c for c in calculations([u for u in single_points if u is not None])}
    known = [
        candidate
        if uuid is None
        else candidate.model_copy(update={"energy_single_point": _first_energy(done[uuid])})
        for candidate, uuid in zip(chosen.candidates, single_points, strict=True)
    ]
    sites = {defect.name: defect.site for defect in defects.defects}

    def sift(owner: Owner, mine: list[Candidate]) -> list[Candidate]:
        earlier = earlier_candidates(state, *owner)
        if settings.trace_verified:
            name, charge = owner
            mine = [as_traced(c, earlier, charge=charge, site=sites[name]) for c in mine]
        return spare(mine, earlier, within=within, most=most)

    marked = _by_owner(known, chosen.owners, sift)
    return [
        c
        if c.spared or c.known_from
        else c.model_copy(update={"calculations": [str(single_points[k])]})
        for k, c in enumerate(marked)
    ]


def _by_owner(
    candidates: Sequence[Candidate],
    owners: Sequence[Owner],
    mark: Callable[[Owner, list[Candidate]], list[Candidate]],
) -> list[Candidate]:
    """Mark the candidates of each charge state together; they keep their order."""
    marked: dict[int, Candidate] = {}
    for owner in dict.fromkeys(owners):
        places = [k for k, other in enumerate(owners) if other == owner]
        found = mark(owner, [candidates[k] for k in places])
        marked |= dict(zip(places, found, strict=True))
    return [marked[k] for k in range(len(owners))]


def _first_energy(found: Calculation) -> float | None:
    """Energy of a single point that did not fail; an exploded cell has a frame all the same."""
    return found.frames[0].energy if found.failure is None and found.frames else None
