"""Figures that several parts of the report need, derived from the results."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from defect_mf_flows.report.formatting import is_number
from defect_mf_flows.schemas.model import HeadMetrics
from defect_mf_flows.schemas.results import GroundState, Results, TransitionLevel
from defect_mf_flows.schemas.search import Verdict

HELD_OUT = "test"
SPLITS = (HELD_OUT, "valid", "train")


@dataclass(frozen=True)
class HeadError:
    """Errors of one head on the held-out split, over all charges.

    Attributes
    ----------
    head, n_frames
        What was evaluated.
    energy_cell, energy_atom, force
        Root mean square errors, meV per cell, meV per atom, meV/Angstrom.
    """

    head: str
    n_frames: int
    energy_cell: float | None
    energy_atom: float | None
    force: float | None


def verdict_counts(results: Results) -> dict[Verdict, int]:
    """Count the charge states per verdict, all verdicts present."""
    found = Counter(g.verdict for g in results.ground_states)
    return {verdict: found[verdict] for verdict in Verdict}


def searched_low(results: Results) -> list[GroundState]:
    """Charge states whose low-fidelity ground state is known.

    It is not where a low-fidelity relaxation ran out of steps at a lower energy, and what high
    fidelity makes of it is not where its relaxation there failed below all others.
    """
    return [g for g in results.ground_states if g.low_start and not g.low_is_open]


def open_low(results: Results) -> list[GroundState]:
    """Charge states in which nobody knows whether high fidelity upholds the low fidelity."""
    return [g for g in results.ground_states if g.low_is_open]


def refuted_low(results: Results) -> list[GroundState]:
    """Charge states whose low-fidelity ground state is refuted, the worst first."""
    found = [g for g in searched_low(results) if not g.low_is_ground_state]
    return sorted(
        found, key=lambda g: -(g.low_excess or 0.0) if is_number(g.low_excess) else math.inf
    )


def difference(value: float | None, reference: float | None) -> float | None:
    """Value minus reference, None if either is missing."""
    if value is None or reference is None or not (is_number(value) and is_number(reference)):
        return None
    return value - reference


def outside_gap(value: float | None, results: Results) -> bool:
    """Tell whether a level lies below the valence or above the conduction band edge."""
    if value is None or not is_number(value) or results.band_edges is None:
        return False
    return not 0.0 <= value <= results.band_edges.gap


def level_values(level: TransitionLevel) -> dict[str, float]:
    """The values of a level that exist, by source."""
    values = {"hf": level.hf, "model": level.model, "low": level.low}
    return {k: v for k, v in values.items() if v is not None and is_number(v)}


def worst_level(results: Results, source: str) -> tuple[float, TransitionLevel] | None:
    """Level that a source misses by most, and by how much; None if it can be told of none.

    Parameters
    ----------
    results
        The results.
    source
        ``"model"`` or ``"low"``.

    Returns
    -------
    tuple of float and TransitionLevel, or None
        Absolute difference from high fidelity, eV, and the level.
    """
    gaps = [
        (abs(gap), level)
        for level in results.transition_levels
        if (gap := difference(getattr(level, source), level.hf)) is not None
    ]
    return max(gaps, key=lambda item: item[0], default=None)


def held_out(results: Results) -> list[HeadError]:
    """Errors per head on the held-out split, frames of all charges weighted equally.

    Parameters
    ----------
    results
        The results.

    Returns
    -------
    list of HeadError
        Low fidelity first; heads without held-out frames are left out.
    """
    errors = []
    for head in heads(results):
        rows = [
            m for m in results.metrics if m.head == head and m.split == HELD_OUT and m.n_frames > 0
        ]
        if rows:
            errors.append(
                HeadError(
                    head=head,
                    n_frames=sum(m.n_frames for m in rows),
                    energy_cell=_pooled(rows, "energy_rmse_cell"),
                    energy_atom=_pooled(rows, "energy_rmse_atom"),
                    force=_pooled(rows, "force_rmse"),
                )
            )
    return errors


def _pooled(rows: list[HeadMetrics], name: str) -> float | None:
    """Root mean square over frames of groups whose root mean squares are known."""
    known = [
        (m.n_frames - (m.n_without_forces if name.startswith("force") else 0), getattr(m, name))
        for m in rows
        if is_number(getattr(m, name))
    ]
    total = sum(n for n, _ in known)
    return math.sqrt(sum(n * value**2 for n, value in known) / total) if total else None


def heads(results: Results) -> list[str]:
    """Every head of the last model, the low fidelity first."""
    named: Iterable[str] = [
        *(m.head for m in results.metrics),
        *(p.head for p in results.parity),
        *(h for e in results.history for h in e.valid),
    ]
    low, high = results.fidelities.get("low"), results.fidelities.get("high")
    rank = {low: 0, high: 2}
    return sorted(set(named), key=lambda head: (rank.get(head, 1), head))


def reference_calls(results: Results) -> dict[str, int]:
    """Energy-and-force evaluations of each reference method, in the order of the stages."""
    calls: dict[str, int] = {}
    for cost in results.cost:
        if cost.fidelity is not None:
            calls[cost.fidelity] = calls.get(cost.fidelity, 0) + cost.calls
    return calls


def judged_states(results: Results) -> list[str]:
    """Every ``"defect|charge"`` that a round gave a verdict, in the order of the rounds."""
    return list(dict.fromkeys(key for r in results.rounds for key in r.verdicts))


def defects(results: Results) -> list[str]:
    """Names of the defects, in the order of the ground states."""
    return list(dict.fromkeys(g.defect for g in results.ground_states))
