"""Figures that compare campaigns."""

from __future__ import annotations

import html

import plotly.graph_objects as go

from defect_mf_flows.report import numbers
from defect_mf_flows.report.formatting import level_html
from defect_mf_flows.report.theme import CYCLE, new_figure, outlined, row_height, rows_axis
from defect_mf_flows.schemas.results import Results, StageCost

SYMBOLS = ("square", "diamond", "circle", "triangle-up", "cross", "star", "hexagon")
WORDS = {"hf": "verified", "model": "model"}


def levels(campaigns: dict[str, Results]) -> go.Figure | None:
    """Levels of all campaigns, a row each; filled: verified, open: model."""
    keys = list(
        dict.fromkeys(
            (lv.defect, lv.from_charge, lv.to_charge)
            for r in campaigns.values()
            for lv in r.transition_levels
        )
    )
    if not keys:
        return None
    figure = new_figure(row_height(len(keys), each=26 + 14 * len(campaigns)) + 20)
    for n, (name, r) in enumerate(campaigns.items()):
        # Campaigns side by side within a row, so that equal levels do not hide each other.
        shift = 0.6 * ((n + 0.5) / len(campaigns) - 0.5)
        for source in ("hf", "model"):
            rows = [
                (value, keys.index((lv.defect, lv.from_charge, lv.to_charge)) + shift)
                for lv in r.transition_levels
                if (value := numbers.level_values(lv).get(source)) is not None
            ]
            symbol = SYMBOLS[n % len(SYMBOLS)] + ("" if source == "hf" else "-open")
            label = f"{html.escape(name)}, {WORDS[source]}"
            figure.add_scatter(
                x=[x for x, _ in rows],
                y=[y for _, y in rows],
                mode="markers",
                name=label,
                marker=outlined(CYCLE[n % len(CYCLE)], symbol, size=10),
                hovertemplate=label + ": %{x:.3f} eV<extra></extra>",
            )
    figure.update_xaxes(title="energy above the VBM (eV)")
    figure.update_yaxes(rows_axis([level_html(*key) for key in keys]))
    return figure


def errors(campaigns: dict[str, Results]) -> go.Figure | None:
    """Held-out energy error of the high head."""
    found = {
        name: error.energy_cell
        for name, r in campaigns.items()
        for error in numbers.held_out(r)
        if error.head == r.fidelities.get("high") and error.energy_cell is not None
    }
    if not found:
        return None
    figure = new_figure(row_height(len(found)), showlegend=False)
    figure.add_bar(
        orientation="h",
        x=list(found.values()),
        y=list(range(len(found))),
        marker={"color": [CYCLE[list(campaigns).index(n) % len(CYCLE)] for n in found]},
        text=[f"{value:.1f}" for value in found.values()],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{x:.1f} meV/cell<extra></extra>",
    )
    figure.update_xaxes(title="energy RMSE (meV/cell)", range=[0, 1.25 * max(found.values())])
    figure.update_yaxes(rows_axis([html.escape(name) for name in found]))
    return figure


def cost(campaigns: dict[str, Results]) -> go.Figure | None:
    """Wall time of every campaign, its stages stacked."""
    stages = list(dict.fromkeys(_stage(c) for r in campaigns.values() for c in r.cost))
    if not stages:
        return None
    # On a phone the legend has a line per stage.
    figure = new_figure(row_height(len(campaigns)) + 22 * len(stages))
    for n, stage in enumerate(stages):
        figure.add_bar(
            orientation="h",
            name=html.escape(stage),
            x=[
                sum(c.seconds for c in r.cost if _stage(c) == stage) / 3600
                for r in campaigns.values()
            ],
            y=list(range(len(campaigns))),
            marker={"color": CYCLE[n % len(CYCLE)]},
            hovertemplate=html.escape(stage) + ": %{x:.3f} h<extra></extra>",
        )
    figure.update_layout(barmode="stack", showlegend=True)
    figure.update_xaxes(title="wall time, summed (h)")
    figure.update_yaxes(rows_axis([html.escape(name) for name in campaigns]))
    return figure


def _stage(cost: StageCost) -> str:
    """Stage without the part that tells the host from the defects."""
    return cost.stage.removesuffix(" (host)")
