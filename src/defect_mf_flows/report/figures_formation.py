"""Formation energies of a campaign: verified, model and low fidelity side by side."""

from __future__ import annotations

from itertools import pairwise

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from defect_mf_flows.core.formation import crossing, stable_charges
from defect_mf_flows.report.diagram import envelope
from defect_mf_flows.report.formatting import is_number, page_charge
from defect_mf_flows.report.theme import CYCLE, GREY, style
from defect_mf_flows.schemas.results import FormationEnergies, Results

SOURCES = {"hf": "high fidelity", "model": "model", "low": "low fidelity"}
MARGIN = 0.2  # eV beside the band edges


def formation_figure(results: Results, defect: str) -> go.Figure:
    """Formation energies against the Fermi level, one panel per source.

    Parameters
    ----------
    results
        The results.
    defect
        Name of the defect.

    Returns
    -------
    plotly.graph_objects.Figure
        Full lines where a charge is the most stable, dashed where it is not. Energies count
        from the least charged state, so that no chemical potential enters.
    """
    panels = [
        f
        for source in SOURCES
        for f in results.formation
        if (f.defect, f.source) == (defect, source) and all(map(is_number, f.energies))
    ]
    figure = make_subplots(
        rows=1, cols=max(len(panels), 1), shared_yaxes=True, horizontal_spacing=0.03,
        subplot_titles=[SOURCES[f.source] for f in panels],
    )  # fmt: skip
    style(figure, 400)
    ends = _ends(results, panels)
    every = sorted({q for f in panels for q in f.charges}, reverse=True)
    colours = {q: CYCLE[n % (len(CYCLE) - 1)] for n, q in enumerate(every)}
    for column, panel in enumerate(panels, start=1):
        _panel(figure, panel, column, ends, colours, results.band_edges)
    lowest = [y for f in panels for y in envelope(dict(_pairs(f)), *ends)[1]]
    if lowest:
        span = max(max(lowest) - min(lowest), 0.5)
        figure.update_yaxes(range=[min(lowest) - 0.15 * span, max(lowest) + 0.35 * span])
    figure.update_annotations(font_size=12)  # three titles side by side on a phone
    figure.update_xaxes(range=list(ends), zeroline=False, tickangle=0, nticks=5)
    figure.update_xaxes(title="Fermi level (eV)", col=(len(panels) + 1) // 2 or 1)
    figure.update_yaxes(zeroline=False)
    figure.update_yaxes(title="relative formation energy (eV)", col=1)
    figure.update_layout(
        legend={"y": -0.24, "yanchor": "top", "title": {"text": "charge "}},
        margin={"b": 60, "t": 30},
    )
    return figure


def _pairs(panel: FormationEnergies) -> list[tuple[int, float]]:
    return list(zip(panel.charges, panel.energies, strict=True))


def _ends(results: Results, panels: list[FormationEnergies]) -> tuple[float, float]:
    """Fermi levels between which to draw: the gap, or where the levels are."""
    if results.band_edges is not None:
        return -MARGIN, results.band_edges.gap + MARGIN
    levels = [
        crossing(dict(_pairs(f)), a, b)
        for f in panels
        for a, b in pairwise(sorted(f.charges)[::-1])
    ]
    return min([0.0, *levels]) - MARGIN, max([0.0, *levels]) + MARGIN


def _panel(
    figure: go.Figure,
    panel: FormationEnergies,
    column: int,
    ends: tuple[float, float],
    colours: dict[int, str],
    edges: object,
) -> None:
    energies = dict(_pairs(panel))
    for charge, energy in energies.items():
        figure.add_scatter(
            row=1, col=column, x=list(ends), y=[energy + charge * f for f in ends],
            mode="lines", line={"dash": "dot", "width": 1.2, "color": colours[charge]},
            opacity=0.7, hoverinfo="skip", showlegend=False,
        )  # fmt: skip
    x, y, charges = envelope(energies, *ends)
    for n, charge in enumerate(charges):
        figure.add_scatter(
            row=1, col=column, x=x[n : n + 2], y=y[n : n + 2], mode="lines",
            line={"width": 3, "color": colours[charge]}, hoverinfo="skip", showlegend=False,
        )  # fmt: skip
    hull = stable_charges(energies)
    names = [f"({page_charge(a)}/{page_charge(b)})" for a, b in pairwise(hull)]
    places = [crossing(energies, a, b) for a, b in pairwise(hull)]
    shown = [(f, name) for f, name in zip(places, names, strict=True) if ends[0] < f < ends[1]]
    figure.add_scatter(
        row=1, col=column, x=[f for f, _ in shown], y=y[1:-1],
        mode="markers", text=[name for _, name in shown], textposition="top center",
        marker={"size": 9, "color": GREY, "line": {"width": 1.5, "color": "#24292f"}},
        hovertemplate="%{text}: %{x:.3f} eV above the VBM<extra></extra>", showlegend=False,
    )  # fmt: skip
    if edges is not None:
        for x0, x1 in ((ends[0], 0.0), (ends[1] - MARGIN, ends[1])):
            figure.add_vrect(
                row=1, col=column, x0=x0, x1=x1, fillcolor=GREY, opacity=0.18, line_width=0,
                layer="below",
            )  # fmt: skip
    if column == 1:
        for charge, colour in colours.items():
            figure.add_scatter(
                row=1, col=1, x=[None], y=[None], mode="lines", name=page_charge(charge),
                line={"width": 3, "color": colour},
            )  # fmt: skip
