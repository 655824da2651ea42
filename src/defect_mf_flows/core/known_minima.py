"""Minima that high fidelity has relaxed already, so that it need not do so again."""

from __future__ import annotations

from collections.abc import Sequence

from pymatgen.core import Structure

from defect_mf_flows.campaign import VerifySettings
from defect_mf_flows.core.matching import deviation
from defect_mf_flows.core.minima import Matcher
from defect_mf_flows.core.start_labels import verified_label
from defect_mf_flows.schemas.search import Candidate, Deviation

#: A single point this far below the minimum that it should lie in contradicts it, eV per cell.
CONTRADICTED = 0.005


def verified_minima(candidates: Sequence[Candidate], charge: int) -> dict[str, Candidate]:
    """Candidates that high fidelity has relaxed, by the label of the start that each makes.

    Parameters
    ----------
    candidates
        Of one charge state, from all earlier rounds.
    charge
        Of that charge state.

    Returns
    -------
    dict
        Label of the start in the next search -> candidate.
    """
    return {
        verified_label(charge, number): candidate
        for number, candidate in enumerate(candidates)
        if candidate.relaxed is not None and not candidate.known_from
    }


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
        if not _is_minimum(other):
            continue
        moved = deviation(candidate.structure, _relaxed(other), matcher.defect.site)
        if (
            moved.local_rmsd <= settings.max_local_rmsd
            and moved.max_displacement <= settings.max_displacement
            and matcher.same_geometry(candidate.structure, _relaxed(other))
        ):
            near.append((moved, other))
    if not near:
        return candidate
    moved, other = min(near, key=lambda item: item[0].local_rmsd)
    return _taking_over(candidate, other, moved, f"is {_named(other)}")


def as_traced(
    candidate: Candidate, earlier: Sequence[Candidate], *, charge: int, site: list[float]
) -> Candidate:
    """Take over the relaxation of the verified minimum that the model relaxes into this one.

    What the model moved away from that minimum, high fidelity would move back.

    Parameters
    ----------
    candidate
        Minimum of the model, with its high-fidelity single point.
    earlier
        Candidates of its charge state from earlier rounds.
    charge
        Of that charge state.
    site
        Fractional coordinates of the defect.

    Returns
    -------
    Candidate
        As :func:`as_known`; the same candidate if no verified minimum of its charge led to it, or
        if its single point does not lie above the lowest that did.
    """
    verified = verified_minima(earlier, charge)
    led = [verified[s] for s in candidate.led_by if s in verified and _is_minimum(verified[s])]
    if candidate.known_from or candidate.spared or not led:
        return candidate
    other = min(led, key=lambda c: c.energy_relaxed or 0.0)
    moved = deviation(candidate.structure, _relaxed(other), site)
    why = f"is where the model relaxes {_named(other)}"
    traced = _taking_over(candidate, other, moved, why)
    return candidate if contradicted(traced) else traced


def _is_minimum(candidate: Candidate) -> bool:
    """Whether high fidelity has relaxed it to the end."""
    return (
        candidate.relaxed is not None
        and candidate.energy_relaxed is not None
        and candidate.residual_force is None
        and not candidate.known_from
    )


def _relaxed(candidate: Candidate) -> Structure:
    assert candidate.relaxed is not None
    return candidate.relaxed


def _named(other: Candidate) -> str:
    if other.round == 0:
        return f"the minimum that high fidelity relaxed from {other.start} before round 1"
    return f"the minimum that round {other.round} relaxed from {other.start} ({other.origin})"


def _taking_over(candidate: Candidate, other: Candidate, moved: Deviation, why: str) -> Candidate:
    return candidate.model_copy(
        update={
            "energy_relaxed": other.energy_relaxed,
            "relaxed": other.relaxed,
            "deviation": moved,
            "calculations": other.calculations,
            "known_from": f"{why}, {moved.local_rmsd:.3f} A away (local RMSD)",
        }
    )


def taken_over(candidate: Candidate) -> bool:
    """Whether a known minimum is believed without a single point of its own.

    The model's ground state carries the verdict and is compared with high fidelity each time;
    of minima above it the relaxed energy is known and nothing hangs on the model's error.
    """
    return bool(candidate.known_from) and candidate.rank > 0


def found_first(candidates: Sequence[Candidate], ground: Candidate) -> Candidate:
    """Candidate whose relaxation found a ground state.

    Parameters
    ----------
    candidates
        Of the charge state, from all rounds.
    ground
        One of them, the ground state.

    Returns
    -------
    Candidate
        The ground state itself, or the one whose relaxation it took over: the model then found
        again what was known.
    """
    if not ground.known_from:
        return ground
    same = [c for c in candidates if not c.known_from and c.energy_relaxed == ground.energy_relaxed]
    return min(same, key=lambda c: c.round, default=ground)


def contradicted(candidate: Candidate) -> bool:
    """Whether the single point of a known minimum failed, or lies below that minimum."""
    if candidate.energy_single_point is None or candidate.energy_relaxed is None:
        return True
    return candidate.energy_single_point < candidate.energy_relaxed - CONTRADICTED
