"""Where the relaxations ended: energy against the distortion of the start, per search."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from defect_mf_flows.report.formatting import change_text, defect_html, is_number, number
from defect_mf_flows.report.page import Plot, make_plot
from defect_mf_flows.report.theme import GREY, new_figure
from defect_mf_flows.schemas.results import PesPoint, Results

SOURCES = {"low": "low fidelity", "model": "model"}
#: Starts that are no distortion get columns of their own, in this order.
COLUMNS = {
    "Unperturbed": "unperturbed",
    "Dimer": "dimer",
    "Rattle": "rattled",
    "Split": "split",
    "Exchange": "exchanged",
    "Given": "given",
    "Low": "from LF",
    "Unfinished": "LF, unfinished",
    "Verified": "from verified",
}
OTHER = "other"
FAR = 0.4  # Angstrom: beyond it one colour says enough, and below it small differences show
_DISTORTION = re.compile(r"^(Bond_Distortion|Pair_.+)_(-?\d+(?:\.\d+)?)%$")
#: Name in the legend, symbol, size.
SHAPES = {
    "all": ("all neighbours", "circle", 11),
    "pair": ("one pair", "diamond", 10),
    "other": ("other starts", "square", 9),
}


@dataclass(frozen=True)
class Place:
    """Where a start stands on the axis.

    Attributes
    ----------
    x
        Percent of distortion, or the middle of a column to the right of them.
    shape
        Key of ``SHAPES``.
    """

    x: float
    shape: str


def distortion(start: str) -> tuple[float, bool] | None:
    """Percent by which a start changes bonds, and whether of one pair only; None for others."""
    if found := _DISTORTION.match(start):
        return float(found[2]), found[1] != "Bond_Distortion"
    return None


def column(start: str) -> str:
    """Column of a start that is no distortion of bonds."""
    kind = start.split("_")[0]
    return COLUMNS.get(kind, OTHER)


def places(starts: list[str]) -> tuple[dict[str, Place], list[tuple[float, str]]]:
    """Place starts on one axis: distortions by their size, the others in columns beside them.

    Parameters
    ----------
    starts
        Labels of the starts, each once.

    Returns
    -------
    where
        Place of every start.
    ticks
        Positions and labels of the axis.
    """
    sizes = {s: found for s in starts if (found := distortion(s)) is not None}
    values = sorted({value for value, _ in sizes.values()})
    where = {s: Place(value, "pair" if pair else "all") for s, (value, pair) in sizes.items()}
    span = (values[-1] - values[0] if values else 0.0) or 100.0
    ticks = [(value, change_text(value)) for value in _few(values)]
    step, right = 0.16 * span, (values[-1] if values else 0.0)
    order = [*COLUMNS.values(), OTHER]
    others: dict[str, list[str]] = {}
    for start in sorted(s for s in starts if s not in sizes):
        others.setdefault(column(start), []).append(start)
    for n, name in enumerate(sorted(others, key=order.index)):
        middle = right + (n + 1.2) * step
        ticks.append((middle, name))
        mine = others[name]
        for k, start in enumerate(mine):
            # Side by side, or those of equal energy would hide each other.
            shift = 0.6 * step * ((k + 0.5) / len(mine) - 0.5)
            where[start] = Place(middle + shift, "other")
    return where, ticks


def _few(values: list[float]) -> list[float]:
    """At most seven of the distortions, zero among them if it is there."""
    every = max(1, -(-len(values) // 7))
    zero = values.index(0.0) if 0.0 in values else 0
    return [v for i, v in enumerate(values) if (i - zero) % every == 0]


def pes_plots(results: Results) -> list[Plot]:
    """Panels of every charge state, low fidelity and model side by side.

    Parameters
    ----------
    results
        The results.

    Returns
    -------
    list of Plot
        Two per charge state, or one where only one search has end points.
    """
    found = []
    for n, (defect, charge) in enumerate(dict.fromkeys((p.defect, p.charge) for p in results.pes)):
        for source, name in SOURCES.items():
            figure = pes_figure(results, defect, charge, source)
            if not figure.data:
                continue
            found.append(
                make_plot(
                    f"pes-{n}-{source}",
                    figure,
                    f"End points of the relaxations of {defect}, charge {charge:+d}, {name}",
                    title=defect_html(defect, charge) + f", {name}",
                )
            )
    return found


def pes_figure(results: Results, defect: str, charge: int, source: str) -> go.Figure:
    """Energy at the end of each relaxation against the distortion of its start.

    Parameters
    ----------
    results
        The results.
    defect, charge
        Which charge state.
    source
        ``"low"`` or ``"model"``.

    Returns
    -------
    plotly.graph_objects.Figure
        The colour tells the local RMSD to the verified ground state; axes and colours are the
        same for both searches of a charge state. Without traces if there is no point.
    """
    points = [
        p for p in results.pes if (p.defect, p.charge) == (defect, charge) and is_number(p.energy)
    ]
    where, ticks = places(sorted({p.start for p in points}))
    figure = new_figure(380, legend={"y": 1.0, "yanchor": "bottom", "font": {"size": 12}})
    mine = sorted((p for p in points if p.source == source), key=lambda p: where[p.start].x)
    if not mine:
        return figure
    _add_curve(figure, [p for p in mine if where[p.start].shape == "all"], where)
    for shape, (name, symbol, size) in SHAPES.items():
        chosen = [p for p in mine if where[p.start].shape == shape]
        if not chosen:
            continue
        figure.add_scatter(
            x=[where[p.start].x for p in chosen],
            y=[p.energy for p in chosen],
            mode="markers",
            showlegend=False,
            cliponaxis=False,
            marker={
                "symbol": symbol,
                "size": size,
                "color": [p.rmsd if is_number(p.rmsd) else None for p in chosen],
                "coloraxis": "coloraxis",
                "line": {"color": GREY, "width": 1},
            },
            text=[_hover(p) for p in chosen],
            hovertemplate="%{text}<extra></extra>",
        )
        # Points carry colours of the scale; the legend shows the symbol alone.
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            name=name,
            marker={"symbol": symbol, "size": size, "color": GREY},
        )
    top = max(p.energy for p in points) or 0.1
    _axes(figure, ticks, [place.x for place in where.values()], top)
    return figure


def _add_curve(figure: go.Figure, points: list[PesPoint], where: dict[str, Place]) -> None:
    if len(points) < 2:
        return
    figure.add_scatter(
        x=[where[p.start].x for p in points],
        y=[p.energy for p in points],
        mode="lines",
        line={"color": GREY, "width": 1.5},
        hoverinfo="skip",
        showlegend=False,
    )


def _hover(point: PesPoint) -> str:
    return (
        f"{html.escape(point.start)}<br>{number(point.energy, 4)} eV above the lowest"
        f"<br>local RMSD {number(point.rmsd)} Å"
    )


def _axes(
    figure: go.Figure, ticks: list[tuple[float, str]], spots: list[float], top: float
) -> None:
    bar: dict[str, Any] = {
        "title": {"text": "local RMSD (Å)", "side": "right", "font": {"size": 12}},
        "thickness": 10,
        "outlinewidth": 0,
        "x": 1.02,
        "tickvals": [0, 0.1, 0.2, 0.3, FAR],
        "ticktext": ["0", "0.1", "0.2", "0.3", f"≥ {FAR:g}"],
    }
    figure.update_layout(
        coloraxis={"colorscale": "Cividis", "cmin": 0, "cmax": FAR, "colorbar": bar},
        showlegend=True,
    )
    room = 0.05 * ((max(spots) - min(spots)) or 1.0)
    figure.update_xaxes(
        title="bond distortion of the start, or its kind",
        tickvals=[x for x, _ in ticks],
        ticktext=[html.escape(text) for _, text in ticks],
        tickangle=-50,
        tickfont={"size": 11},
        range=[min(spots) - room, max(spots) + room],
        zeroline=False,
        showgrid=False,
    )
    figure.update_yaxes(title="eV per cell above the lowest", range=[-0.05 * top, 1.08 * top])
