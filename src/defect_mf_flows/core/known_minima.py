"""Minima that high fidelity has relaxed already, so that it need not do so again."""

from __future__ import annotations

from defect_mf_flows.campaign import VerifySettings
from defect_mf_flows.core.matching import deviation
from defect_mf_flows.core.minima import Matcher
from defect_mf_flows.schemas.search import Candidate, Deviation

#: A single point this far below the minimum that it should lie in contradicts it, eV per cell.
CONTRADICTED = 0.005


def as_known(
    candidate: Candidate, earlier: list[Candidate], matcher: Matcher, *, settings: VerifySettings
) -> Candidate:
    """Take over the relaxation of a minimum that was verified before.

    Parameters
    ----------
    candidate
        Minimum of the model, not relaxed.
    earlier
        Candidates of its charge state from earlier rounds.
    matcher
        Tells minima of the defect apart.
    settings
        A candidate within the limits of a confirmed ground state of another's relaxed geometry,
        in the same orientation, is that minimum if the matcher says so, too.

    Returns
    -------
    Candidate
        With relaxed geometry, energy, deviation and calculations of the nearest such minimum and
        the reason; the same candidate if there is none, or if a single point has contradicted
        one of its charge state.
    """
    if any(c.known_from and c.energy_relaxed is None for c in earlier):
        return candidate
    near: list[tuple[Deviation, Candidate]] = []
    for other in earlier:
        if other.relaxed is None or other.energy_relaxed is None or other.known_from:
            continue
        if other.residual_force is not None:
            continue  # no minimum yet
        moved = deviation(candidate.structure, other.relaxed, matcher.defect.site)
        if (
            moved.local_rmsd <= settings.max_local_rmsd
            and moved.max_displacement <= settings.max_displacement
            and matcher.same_geometry(candidate.structure, other.relaxed)
        ):
            near.append((moved, other))
    if not near:
        return candidate
    moved, other = min(near, key=lambda item: item[0].local_rmsd)
    return candidate.model_copy(
        update={
            "energy_relaxed": other.energy_relaxed,
            "relaxed": other.relaxed,
            "deviation": moved,
            "calculations": other.calculations,
            "known_from": (
                f"is the minimum that round {other.round} relaxed from {other.start} "
                f"({other.origin}), {moved.local_rmsd:.3f} A away (local RMSD)"
            ),
        }
    )


def taken_over(candidate: Candidate) -> bool:
    """Whether a known minimum is believed without a single point of its own.

    The model's ground state carries the verdict and is compared with high fidelity each time;
    of minima above it the relaxed energy is known and nothing hangs on the model's error.
    """
    return bool(candidate.known_from) and candidate.rank > 0


def contradicted(candidate: Candidate) -> bool:
    """Whether the single point of a known minimum failed, or lies below that minimum."""
    if candidate.energy_single_point is None or candidate.energy_relaxed is None:
        return True
    return candidate.energy_single_point < candidate.energy_relaxed - CONTRADICTED
