"""Ground states per charge with their distances at the defect: figures and table."""

from __future__ import annotations

import itertools
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup

from defect_mf_flows.report.formatting import MISSING, defect_html, is_number, number
from defect_mf_flows.report.page import Plot, make_plot
from defect_mf_flows.report.tables import Cell, Table
from defect_mf_flows.report.theme import (
    GREY,
    HIGH_COLOUR,
    LOW_COLOUR,
    MODEL_COLOUR,
    new_figure,
    outlined,
    rows_axis,
)
from defect_mf_flows.schemas.defect import Environment
from defect_mf_flows.schemas.results import GroundState, Results

#: Name, colour, symbol, place within the row.
SOURCES = {
    "verified": ("verified", HIGH_COLOUR, "square", -0.22),
    "model": ("model", MODEL_COLOUR, "diamond", 0.0),
    "low": ("low fidelity alone", LOW_COLOUR, "circle-open", 0.22),
}
SHOWN = 6  # distances of a table's cell
SAME = 0.015  # Angstrom: closer ones are written as one


def bond_plots(results: Results) -> list[Plot]:
    """Distances between the defect's neighbours, and from them to its site, per defect.

    Parameters
    ----------
    results
        The results.

    Returns
    -------
    list of Plot
        Two per defect; empty in documents without distances.
    """
    found = []
    for n, (defect, grounds) in enumerate(_by_defect(results).items()):
        centre = next(e.centre for g in grounds for e in g.environments.values())
        place = f"the atom {centre}" if centre else "the empty site"
        for key, words in (
            ("between", "between the neighbours"),
            ("to_centre", f"from the neighbours to {place}"),
        ):
            if not any(getattr(e, key) for g in grounds for e in g.environments.values()):
                continue  # a single neighbour has no pairs
            found.append(
                make_plot(
                    f"bonds-{n}-{key}",
                    bond_figure(grounds, key),
                    f"Distances {words} of {defect}, per charge",
                    title=defect_html(defect) + f": {words}",
                )
            )
    return found


def _by_defect(results: Results) -> dict[str, list[GroundState]]:
    known = [g for g in results.ground_states if g.environments.get("verified")]
    return {
        defect: list(group)
        for defect, group in itertools.groupby(
            sorted(known, key=lambda g: (g.defect, -g.charge)), key=lambda g: g.defect
        )
    }


def bond_figure(grounds: list[GroundState], key: str) -> go.Figure:
    """Distances of the ground states of one defect, a row per charge.

    Parameters
    ----------
    grounds
        Of one defect.
    key
        ``"between"`` or ``"to_centre"``.

    Returns
    -------
    plotly.graph_objects.Figure
        Green verified, blue the model's, orange the low-fidelity search's ground state; dotted
        where the distances of the unrelaxed cell are.
    """
    figure = new_figure(130 + 62 * len(grounds))
    for source, (name, colour, symbol, shift) in SOURCES.items():
        rows = [
            (distance, y + shift, text)
            for y, ground in enumerate(grounds)
            for text, distance in _distances(ground.environments.get(source), key)
        ]
        if not rows:
            continue
        figure.add_scatter(
            x=[x for x, _, _ in rows],
            y=[y for _, y, _ in rows],
            mode="markers",
            name=name,
            text=[text for _, _, text in rows],
            marker=outlined(colour, symbol, size=9),
            opacity=0.85,
            hovertemplate=f"{name}: %{{text}} %{{x:.3f}} Å<extra></extra>",
        )
    unrelaxed = [d for _, d in _distances(grounds[0].environments.get("unrelaxed"), key)]
    for distance in _distinct(unrelaxed):
        figure.add_vline(x=distance, line={"color": GREY, "width": 1, "dash": "dot"})
    for y in range(1, len(grounds)):
        figure.add_hline(y=y - 0.5, line={"color": GREY, "width": 1}, opacity=0.35)
    figure.update_xaxes(title="distance (Å)")
    figure.update_yaxes(_rows(grounds))
    return figure


def _rows(grounds: list[GroundState]) -> dict[str, Any]:
    return rows_axis([defect_html(g.defect, g.charge) for g in grounds])


def _distances(environment: Environment | None, key: str) -> list[tuple[str, float]]:
    """Names and lengths of one kind of distance."""
    if environment is None:
        return []
    found = environment.pairs() if key == "between" else environment.to_site()
    return [(name, d) for name, d in found if is_number(d)]


def _distinct(distances: list[float]) -> list[float]:
    """Ascending, with those that are the same once."""
    return [group[0] for group in grouped(distances)]


def grouped(distances: list[float]) -> list[list[float]]:
    """Distances ascending, in groups of the same length.

    Parameters
    ----------
    distances
        Angstrom.

    Returns
    -------
    list of list of float
        A group spans no more than ``SAME``.
    """
    groups: list[list[float]] = []
    for distance in sorted(distances):
        if groups and distance - groups[-1][0] <= SAME:
            groups[-1].append(distance)
        else:
            groups.append([distance])
    return groups


def bond_table(results: Results) -> Table:
    """Verified ground states with their distances, one row per charge state.

    Parameters
    ----------
    results
        The results.

    Returns
    -------
    Table
        Without rows in documents without distances.
    """
    table = Table(
        [
            "State",
            "Shortest contact",
            "Between the neighbours (Å)",
            "From them to the site (Å)",
            "#Model, largest difference (Å)",
            "#Low fidelity, largest difference (Å)",
        ]
    )
    for ground in (g for group in _by_defect(results).values() for g in group):
        verified = ground.environments["verified"]
        table.rows.append(
            [
                defect_html(ground.defect, ground.charge),
                _shortest(verified),
                _lengths(verified.between),
                _lengths(verified.to_centre),
                number(largest_difference(ground, "model")),
                number(largest_difference(ground, "low")),
            ]
        )
    return table


def _shortest(environment: Environment) -> Cell:
    pairs = [(d, name) for name, d in _distances(environment, "between")]
    if not pairs:
        return MISSING
    distance, name = min(pairs)
    return Markup("{} <small>{}</small>").format(f"{number(distance, 2)} Å", name)


def _lengths(distances: list[float]) -> Cell:
    """Lengths with how often they occur, the shortest first."""
    groups = grouped([d for d in distances if is_number(d)])
    parts = [
        f"{number(sum(g) / len(g), 2)}{f' (×{len(g)})' if len(g) > 1 else ''}"
        for g in groups[:SHOWN]
    ]
    rest = f", … {number(groups[-1][-1], 2)}" if len(groups) > SHOWN else ""
    return ", ".join(parts) + rest or MISSING


def largest_difference(ground: GroundState, source: str) -> float | None:
    """Largest difference of a distance from the verified one.

    Parameters
    ----------
    ground
        A ground state.
    source
        ``"model"`` or ``"low"``.

    Returns
    -------
    float or None
        Angstrom; None where that search has no ground state.
    """
    verified, other = ground.environments.get("verified"), ground.environments.get(source)
    if verified is None or other is None:
        return None
    pairs = zip(
        [*verified.between, *verified.to_centre],
        [*other.between, *other.to_centre],
        strict=True,
    )
    return max((abs(a - b) for a, b in pairs), default=None)
