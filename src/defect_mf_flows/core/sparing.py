"""Which candidates are worth a high-fidelity relaxation, by their high-fidelity single points."""

from __future__ import annotations

from collections.abc import Sequence

from defect_mf_flows.schemas.search import Candidate


def spare(candidates: Sequence[Candidate], *, within: float) -> list[Candidate]:
    """Mark the candidates of a charge state that need not be relaxed.

    Parameters
    ----------
    candidates
        Of one round, with their single points; those of known minima are compared with and never
        marked.
    within
        One whose single point lies further above the lowest is spared, eV per cell.

    Returns
    -------
    list of Candidate
        In their order, ``spared`` filled in where it applies.
    """
    done = [c for c in candidates if c.energy_single_point is not None]
    best = min(done, key=lambda c: c.energy_single_point or 0.0, default=None)
    return [
        c if c.known_from else c.model_copy(update={"spared": _why(c, best, within)})
        for c in candidates
    ]


def _why(candidate: Candidate, best: Candidate | None, within: float) -> str:
    if candidate.energy_single_point is None or best is None:
        return "its high-fidelity single point failed"
    gap = candidate.energy_single_point - (best.energy_single_point or 0.0)
    if gap <= within:
        return ""
    return (
        f"its single point lies {gap:.3f} eV above that of {best.start} ({best.origin}) at high "
        "fidelity, too far to be relaxed"
    )
