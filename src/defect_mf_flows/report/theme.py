"""Colours and layout that all figures share, for light and for dark pages.

The colours are Okabe and Ito's, which colour-blind readers can tell apart; every colour is
doubled by a symbol, a word or a position.
"""

from __future__ import annotations

import math
from typing import Any

import plotly.graph_objects as go

from defect_mf_flows.schemas.search import Verdict

BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, GREY = "#56B4E9", "#CC79A7", "#8a8f98"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILION, GREY)

HIGH_COLOUR, MODEL_COLOUR, LOW_COLOUR = GREEN, BLUE, ORANGE
VERDICT_COLOUR = {
    Verdict.CONFIRMED: GREEN,
    Verdict.LOWER: BLUE,
    Verdict.WRONG: VERMILION,
}
VERDICT_SIGN = {Verdict.CONFIRMED: "✓", Verdict.LOWER: "▼", Verdict.WRONG: "✗"}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def template(*, dark: bool = False) -> go.layout.Template:
    """Plotly template of the report.

    Parameters
    ----------
    dark
        True for dark pages.

    Returns
    -------
    plotly.graph_objects.layout.Template
        Transparent paper, so that the page's own background shows.
    """
    ink, grid = ("#dfe3e8", "#3a4048") if dark else ("#24292f", "#dfe3e8")
    axis = {
        "gridcolor": grid,
        "linecolor": GREY,
        "zerolinecolor": GREY,
        "zerolinewidth": 1,
        "ticks": "outside",
        "tickcolor": GREY,
        "ticklen": 4,
        "automargin": True,
        "title": {"standoff": 10, "font": {"size": 13}},
    }
    hover = {"bgcolor": "#24292f" if dark else "#ffffff", "font": {"color": ink, "family": FONT}}
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 13, "color": ink},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "colorway": list(CYCLE),
            "xaxis": axis,
            "yaxis": axis,
            "hoverlabel": hover,
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": ink},
            "annotationdefaults": {"font": {"size": 12, "color": ink}, "showarrow": False},
        }
    )


def new_figure(height: int, **layout: Any) -> go.Figure:
    """Empty figure with the report's margins; the page brings the template.

    Parameters
    ----------
    height
        Pixels; the width is that of the page.
    **layout
        Further entries of the layout.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    figure = go.Figure()
    style(figure, height, **layout)
    return figure


def style(figure: go.Figure, height: int, **layout: Any) -> None:
    """Give a figure the report's margins and legend."""
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 12, "t": 34, "b": 8},
        legend={
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.0,
            "yanchor": "bottom",
        },
        hovermode="closest",
    )
    figure.update_layout(**layout)


def rows_axis(labels: list[str]) -> dict[str, Any]:
    """Axis with one row per label, the first on top.

    Positions are numbers and labels only their names, because two rows may bear one name.
    """
    return {
        "tickvals": list(range(len(labels))),
        "ticktext": labels,
        "range": [len(labels) - 0.4, -0.6],
        "showgrid": False,
        "zeroline": False,
        "ticks": "",
        "ticklabelstandoff": 6,
    }


def outlined(colour: str, symbol: str | list[str], *, size: int) -> dict[str, Any]:
    """Markers whose outline is as strong where they are open as where they are filled."""
    return {
        "color": colour,
        "symbol": symbol,
        "size": size,
        "line": {"width": 2, "color": colour},
    }


def join(figure: go.Figure, row: int, values: list[float]) -> None:
    """Join the marks of one row by a thin line, where there are several."""
    if len(values) < 2:
        return
    figure.add_scatter(
        x=[min(values), max(values)],
        y=[row, row],
        mode="lines",
        line={"color": GREY, "width": 2},
        hoverinfo="skip",
        showlegend=False,
    )


def log_ticks(values: list[float]) -> dict[str, Any]:
    """Ticks at 1, 2 and 5 of every decade, written in full, for a logarithmic axis."""
    if not values:
        return {"type": "log"}
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    # Over many decades, the powers of ten alone are enough.
    steps = (1, 2, 5) if high - low <= 3 else (1,)
    ticks = [s * 10.0**e for e in range(low, high + 1) for s in steps]
    return {
        "type": "log",
        "tickvals": ticks,
        "ticktext": [f"{t:.10g}" for t in ticks],
        "minor": {"showgrid": False},
    }


def row_height(rows: int, *, each: int = 30) -> int:
    """Height in pixels of a figure with one row per item."""
    return 120 + each * max(rows, 1)
