"""Figures of the science and of its cost: ground states, transition levels, calls."""

from __future__ import annotations

import html
from typing import Any

import plotly.graph_objects as go

from defect_mf_flows.report import numbers
from defect_mf_flows.report.formatting import (
    MISSING,
    defect_html,
    duration,
    is_number,
    level_html,
    milli,
    number,
    start_text,
)
from defect_mf_flows.report.theme import (
    GREEN,
    GREY,
    HIGH_COLOUR,
    LOW_COLOUR,
    MODEL_COLOUR,
    VERMILION,
    join,
    new_figure,
    outlined,
    row_height,
    rows_axis,
)
from defect_mf_flows.schemas.results import GroundState, Results, TransitionLevel

LEVEL_SOURCES = {
    "hf": ("high fidelity", HIGH_COLOUR, "square"),
    "model": ("model", MODEL_COLOUR, "diamond"),
    "low": ("low fidelity alone", LOW_COLOUR, "circle"),
}


def low_excess_figure(results: Results) -> go.Figure:
    """How far the low-fidelity ground state lies above the verified one, per charge state.

    Parameters
    ----------
    results
        The results.

    Returns
    -------
    plotly.graph_objects.Figure
        One bar per charge state, eV per cell at high fidelity.
    """
    grounds = results.ground_states
    known = [g.low_excess if is_number(g.low_excess) else None for g in grounds]
    figure = new_figure(row_height(len(grounds)), showlegend=False)
    figure.add_bar(
        orientation="h",
        x=[v if v is not None else 0.0 for v in known],
        y=list(range(len(grounds))),
        marker={"color": [_low_colour(g) for g in grounds]},
        text=[_excess_text(g) for g in grounds],
        textposition="outside",
        cliponaxis=False,
        customdata=[
            [html.escape(start_text(g.low_start)), html.escape(start_text(g.start))]
            for g in grounds
        ],
        hovertemplate="low-fidelity ground state from %{customdata[0]}<br>"
        "verified ground state from %{customdata[1]}<br>%{x:.4f} eV above it<extra></extra>",
    )
    values = [v for v in known if v is not None] or [0.0]
    top, bottom = max([*values, 0.05]), min([*values, 0.0])
    figure.update_xaxes(title="eV per cell above the verified one")
    # Room for the numbers beside the bars: on the left, too, where one lies lower.
    room = 0.75 * (top - bottom)
    figure.update_xaxes(range=[bottom - room if bottom < 0 else 0.0, top + room])
    figure.update_yaxes(_state_rows(results))
    return figure


def _low_colour(ground: GroundState) -> str:
    if ground.low_is_open:
        return GREY
    return GREEN if ground.low_is_ground_state else VERMILION


def _state_rows(results: Results) -> dict[str, Any]:
    return rows_axis([defect_html(g.defect, g.charge) for g in results.ground_states])


def _excess_text(ground: GroundState) -> str:
    if not ground.low_start:
        return "no low-fidelity ground state"
    if not is_number(ground.low_excess):
        return "no high-fidelity energy"
    word = "upheld" if ground.low_is_ground_state else "refuted"
    word = "open" if ground.low_is_open else word
    return f"{number(ground.low_excess)} eV, {word}"


def shortest_bond_figure(results: Results) -> go.Figure:
    """Shortest distance between the defect's neighbours, verified against low fidelity.

    Parameters
    ----------
    results
        The results.

    Returns
    -------
    plotly.graph_objects.Figure
        Two symbols per charge state, joined by a line.
    """
    grounds = results.ground_states
    figure = new_figure(row_height(len(grounds)))
    for y, ground in enumerate(grounds):
        join(figure, y, [v for v in ground.shortest_bonds.values() if is_number(v)])
    for key, name, colour, symbol in (
        ("low", "low-fidelity ground state", LOW_COLOUR, "circle-open"),
        ("verified", "verified ground state", HIGH_COLOUR, "square"),
    ):
        rows = [
            (g.shortest_bonds[key], y) for y, g in enumerate(grounds) if key in g.shortest_bonds
        ]
        figure.add_scatter(
            x=[x for x, _ in rows],
            y=[y for _, y in rows],
            mode="markers",
            name=name,
            marker=outlined(colour, symbol, size=11),
            hovertemplate=name + ": %{x:.3f} Å<extra></extra>",
        )
    figure.update_xaxes(title="shortest contact (Å)")
    figure.update_yaxes(_state_rows(results))
    return figure


def level_name(level: TransitionLevel) -> str:
    """Name of a level, e.g. ``V<sub>Zn</sub> ε(0/−1)``.

    With a dagger if not thermodynamic, a double one if carriers of a charge are in host bands, a
    section sign if a relaxation behind it ran out of steps.
    """
    name = level_html(level.defect, level.from_charge, level.to_charge)
    marks = ("" if level.thermodynamic else "†") + ("‡" if level.perturbed_host else "")
    marks += "§" if level.unfinished else ""
    return f"{name} {marks}".rstrip()


def levels_figure(results: Results) -> go.Figure:
    """Transition levels of the three sources over the host's band edges.

    Parameters
    ----------
    results
        The results.

    Returns
    -------
    plotly.graph_objects.Figure
        One row per level; open symbols lie outside the gap.
    """
    levels = results.transition_levels
    figure = new_figure(row_height(len(levels), each=34) + 20)
    found = [v for level in levels for v in numbers.level_values(level).values()]
    gap = results.band_edges.gap if results.band_edges else None
    ends = [*found, 0.0, *([gap] if gap is not None else [])]
    pad = 0.08 * ((max(ends) - min(ends)) or 1.0)
    span = (min(ends) - pad, max(ends) + pad)
    if gap is not None:
        _bands(figure, gap, span)
    for y, level in enumerate(levels):
        join(figure, y, list(numbers.level_values(level).values()))
    for source in ("low", "hf", "model"):
        figure.add_trace(_level_trace(results, source))
    _difference_labels(figure, levels)
    figure.update_layout(margin={"r": 86})
    figure.update_xaxes(title="energy above the VBM (eV)", range=span)
    figure.update_yaxes(rows_axis([level_name(level) for level in levels]))
    # Room above the first row for the names of the band edges.
    figure.update_yaxes(range=[len(levels) - 0.4, -1.2])
    return figure


def _bands(figure: go.Figure, gap: float, span: tuple[float, float]) -> None:
    """Shade the bands left and right of the gap."""
    for x0, x1, edge, label, side in (
        (span[0], 0.0, 0.0, "VBM", "right"),
        (gap, span[1], gap, "CBM", "left"),
    ):
        figure.add_vrect(x0=x0, x1=x1, fillcolor=GREY, opacity=0.18, line_width=0, layer="below")
        figure.add_vline(x=edge, line={"color": GREY, "width": 1.5}, layer="below")
        figure.add_annotation(
            x=edge, y=-0.85, text=label, xanchor=side, xshift=-4 if side == "right" else 4
        )


def _level_trace(results: Results, source: str) -> go.Scatter:
    name, colour, symbol = LEVEL_SOURCES[source]
    rows: list[tuple[float, int, str, str]] = []
    for y, level in enumerate(results.transition_levels):
        value = numbers.level_values(level).get(source)
        if value is None:
            continue
        gap = numbers.difference(value, level.hf)
        against = (
            "" if source == "hf" else f"<br>{milli(gap, 1, signed=True)} meV from high fidelity"
        )
        outside = numbers.outside_gap(value, results)
        note = "<br>outside the gap" if outside else ""
        rows.append((value, y, symbol + ("-open" if outside else ""), against + note))
    return go.Scatter(
        x=[r[0] for r in rows],
        y=[r[1] for r in rows],
        mode="markers",
        name=name,
        marker=outlined(colour, [r[2] for r in rows], size=12),
        customdata=[r[3] for r in rows],
        hovertemplate=name + ": %{x:.3f} eV%{customdata}<extra></extra>",
    )


def _difference_labels(figure: go.Figure, levels: list[TransitionLevel]) -> None:
    """Write model minus high fidelity in meV beside each row, in the right margin."""
    for y, level in enumerate(levels):
        gap = numbers.difference(level.model, level.hf)
        figure.add_annotation(
            xref="paper",
            x=1,
            xanchor="left",
            xshift=6,
            y=y,
            text=MISSING if gap is None else f"{milli(gap, 0, signed=True)} meV",
        )


def calls_figure(results: Results) -> go.Figure:
    """Energy-and-force evaluations per stage.

    Parameters
    ----------
    results
        The results.

    Returns
    -------
    plotly.graph_objects.Figure
        Horizontal bars; evaluations of the model apart in colour from reference calls.
    """
    rows = [(c.stage, c.fidelity, float(c.calls), str(c.calls)) for c in results.cost]
    return _cost_bars(rows, title="energy-and-force evaluations", results=results)


def seconds_figure(results: Results) -> go.Figure:
    """Summed wall time per stage, see :func:`calls_figure`."""
    rows = [(c.stage, c.fidelity, c.seconds, duration(c.seconds)) for c in results.cost]
    return _cost_bars(rows, title="wall time, summed (s)", results=results)


def _cost_bars(
    rows: list[tuple[str, str | None, float, str]], *, title: str, results: Results
) -> go.Figure:
    colours: dict[str | None, Any] = {
        results.fidelities.get("low"): LOW_COLOUR,
        results.fidelities.get("high"): HIGH_COLOUR,
        None: MODEL_COLOUR,
    }
    figure = new_figure(row_height(len(rows)))
    for fidelity in dict.fromkeys(r[1] for r in rows):
        mine = [(y, r) for y, r in enumerate(rows) if r[1] == fidelity]
        figure.add_bar(
            orientation="h",
            name=html.escape(fidelity or "model"),
            x=[r[2] for _, r in mine],
            y=[y for y, _ in mine],
            text=[r[3] for _, r in mine],
            textposition="outside",
            cliponaxis=False,
            marker={"color": colours.get(fidelity, GREY)},
            hovertemplate="%{text}<extra></extra>",
        )
    top = max([r[2] for r in rows if is_number(r[2])], default=1.0) or 1.0
    figure.update_layout(barmode="overlay", showlegend=True)
    figure.update_xaxes(title=title, range=[0, 1.55 * top])
    figure.update_yaxes(rows_axis([_stage_label(r[0], r[1]) for r in rows]))
    return figure


def _stage_label(stage: str, fidelity: str | None) -> str:
    # Two rows may bear one stage's name (the host, at either fidelity).
    return html.escape(f"{stage}, {fidelity}" if "(host)" in stage and fidelity else stage)
