"""Tables of the search: minima in their order, and the labels that the loop asked for."""

from __future__ import annotations

from collections.abc import Iterator

from defect_mf_flows.report.formatting import (
    MISSING,
    defect_html,
    fate_text,
    milli,
    percent,
    plural,
    tidy,
)
from defect_mf_flows.report.tables import Cell, Table, start_cell
from defect_mf_flows.schemas.results import FoundMinimum, Results

#: Minima per charge state; those that may be the lowest are always shown.
MOST_MINIMA = 8


def shown_minima(results: Results) -> Iterator[FoundMinimum]:
    """The lowest minima of every charge state, and all that may be the lowest."""
    for minimum in results.ranked_minima:
        if minimum.rank < MOST_MINIMA or minimum.contender:
            yield minimum


def minima_table(results: Results) -> Table:
    """Minima of the last search by rank, one per row."""
    committee = any(m.spread is not None for m in results.ranked_minima)
    spread: list[Cell] = ["#Spread (meV)", "#Chance to be the lowest"] if committee else []
    table = Table(
        [
            "State",
            "#Rank",
            "#Model, above the lowest (meV)",
            *spread,
            "#Verified, above the ground state (meV)",
            "Defect",
            "Found from",
            "#Starts",
        ]
    )
    for m in shown_minima(results):
        sure: list[Cell] = [milli(m.spread, 1), percent(m.share)] if committee else []
        table.rows.append(
            [
                defect_html(m.defect, m.charge),
                f"{m.rank + 1}{' ≈' if m.contender else ''}",
                milli(m.energy, 1),
                *sure,
                milli(m.verified, 1),
                fate_text(m.fate),
                start_cell(m.start),
                str(m.n_starts),
            ]
        )
    return table


#: Where a candidate comes from, in words.
ORIGINS = {
    "model": "minimum {} of the model",
    "low": "minimum {} of the low fidelity",
    "label": "label",
    "rattled": "rattled start",
}


def tried_table(results: Results) -> Table:
    """What verification asked of every candidate, one per row."""
    table = Table(
        [
            "State",
            "#Round",
            "Candidate",
            "Found from",
            "#Model (meV)",
            "#Model minus low fidelity (meV)",
            "#High fidelity there (meV)",
            "#High fidelity, relaxed (meV)",
            "#Calls",
            "Outcome",
        ]
    )
    for item in results.tried:
        table.rows.append(
            [
                defect_html(item.defect, item.charge),
                str(item.round),
                ORIGINS.get(item.origin, item.origin).format(item.rank + 1),
                start_cell(item.start),
                milli(item.energy_model, 0),
                milli(item.low_error, 0, signed=True),
                milli(item.energy_single_point, 0),
                milli(item.energy_relaxed, 0),
                str(item.calls),
                tidy(item.outcome),
            ]
        )
    return table


def minima_caption(results: Results) -> str:
    """What the table of minima shows, and what it leaves out."""
    text = "Minima of the last search on the model, the lowest first."
    if any(m.spread is not None for m in results.ranked_minima):
        text += (
            " ≈ Within the committee's spread of the lowest, so that it may be the lowest: such "
            "minima are candidates for verification too."
        )
    left = len(results.ranked_minima) - sum(1 for _ in shown_minima(results))
    return text + (f" {left} higher ones are in results.json." if left else "")


def threshold_table(results: Results) -> Table:
    """When the last search took two ends for one minimum, one charge state per row."""
    table = Table(["State", "#SOAP distance of one minimum", "From", "#Gap from", "#to", "#Pairs"])
    for item in results.thresholds:
        t = item.threshold
        table.rows.append(
            [
                defect_html(item.defect, item.charge),
                f"{t.value:.1e}",
                "the data" if t.chosen else "the setting",
                MISSING if t.below is None else f"{t.below:.1e}",
                MISSING if t.above is None else f"{t.above:.1e}",
                str(t.n_pairs),
            ]
        )
    return table


def refinement_sentence(results: Results) -> str:
    """How often the first k minima hold the ground state, and the steps left; may be empty."""
    found = results.refinement
    if found is None:
        return ""
    shares = ", ".join(
        f"{100 * share:.0f} % from the first {k}"
        if k > 1
        else f"{100 * share:.0f} % from the first"
        for k, share in enumerate(found.success, start=1)
    )
    text = (
        f"Verified ground states reached within {1000 * found.tolerance:g} meV from the model's "
        f"lowest minima: {shares or 'none was verified'} "
        f"({plural(found.n_states, 'charge state')})."
    )
    if found.steps is not None:
        text += (
            f" High fidelity took {found.steps:g} steps from a minimum of the model to its own "
            f"(median of {found.n_relaxed})."
        )
    return text


def threshold_sentence(results: Results) -> str:
    """The thresholds in a line; may be empty."""
    found = [item.threshold for item in results.thresholds]
    if not found:
        return ""
    values = sorted(t.value for t in found)
    span = f"{values[0]:.1e}" + (f" to {values[-1]:.1e}" if values[-1] > values[0] else "")
    chosen = sum(t.chosen for t in found)
    return (
        f"Two ends count as one minimum below a SOAP distance of {span}, chosen from the data for "
        f"{chosen} of {plural(len(found), 'charge state')}."
    )


def acquired_table(results: Results) -> Table:
    """Labels that the committee asked for."""
    kinds = {
        "minimum": "predicted minimum",
        "crossing": "between two minima",
        "relaxation": "on the way to a minimum",
    }
    table = Table(["State", "#After round", "What", "Geometry", "#Energy (meV)", "#Spread (meV)"])
    for a in results.acquired:
        table.rows.append(
            [
                defect_html(a.defect, a.charge),
                str(a.round),
                kinds.get(a.kind, a.kind) or MISSING,
                a.label,
                milli(a.energy, 1),
                milli(a.spread, 1),
            ]
        )
    return table
