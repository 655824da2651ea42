"""Maps of descriptors: what the network sees in a defect, with and without the charge."""

from __future__ import annotations

import html

import plotly.graph_objects as go

from defect_mf_flows.report import numbers
from defect_mf_flows.report.figures_model import SYMBOLS
from defect_mf_flows.report.formatting import (
    defect_html,
    is_number,
    number,
    page_charge,
    start_text,
)
from defect_mf_flows.report.page import Plot, make_plot
from defect_mf_flows.report.theme import CYCLE, GREY, new_figure
from defect_mf_flows.schemas.model import DescriptorMap, Projection
from defect_mf_flows.schemas.results import Results


def descriptor_plots(results: Results) -> list[Plot]:
    """Two maps per defect: told the charge, and told one charge for every frame.

    Parameters
    ----------
    results
        The results.

    Returns
    -------
    list of Plot
        Empty where no map was recorded.
    """
    found = []
    for n, item in enumerate(results.descriptors):
        held = f"every frame told charge {page_charge(item.held_charge)}"
        for key, words, view in (
            ("with", "told the charge", item.with_charge),
            ("without", held, item.without_charge),
        ):
            found.append(
                make_plot(
                    f"descriptors-{n}-{key}",
                    descriptor_figure(item, view),
                    f"Principal components of the descriptors of {item.defect}, {words}",
                    title=defect_html(item.defect) + f", {words}",
                )
            )
    return found


def descriptor_figure(item: DescriptorMap, view: Projection) -> go.Figure:
    """One map; colour tells the charge, symbol the side of the split.

    Parameters
    ----------
    item
        Charges and sides of its points.
    view
        The points.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    figure = new_figure(420, legend={"tracegroupgap": 0, "y": -0.13, "yanchor": "top"})
    for place, charge in enumerate(sorted(set(item.charges), reverse=True)):
        name = f"q = {page_charge(charge)}"
        shown = False
        for split in ("train", "valid", "test"):
            mine = [
                i
                for i, (q, side) in enumerate(zip(item.charges, item.splits, strict=True))
                if (q, side) == (charge, split)
            ]
            if not mine:
                continue
            held_out = split == numbers.HELD_OUT
            figure.add_scatter(
                x=[view.points[i][0] for i in mine],
                y=[view.points[i][1] for i in mine],
                mode="markers",
                name=name,
                legendgroup=name,
                showlegend=not shown,
                text=[html.escape(start_text(item.starts[i])) for i in mine],
                marker={
                    "color": CYCLE[place % len(CYCLE)],
                    "symbol": SYMBOLS.get(split, "circle"),
                    "size": 8 if held_out else 6,
                    "opacity": 1.0 if held_out else 0.7,
                },
                hovertemplate=f"{name}, {split}<br>%{{text}}<extra></extra>",
            )
            shown = True
    _axes(figure, view)
    return figure


def _axes(figure: go.Figure, view: Projection) -> None:
    first, second = (f"{100 * share:.0f} % of the variance" for share in view.explained)
    plain = {"zeroline": False, "showticklabels": False, "ticks": ""}
    figure.update_xaxes(title=f"first component ({first})", **plain)
    figure.update_yaxes(title=f"second component ({second})", **plain)
    if is_number(view.separation):
        figure.add_annotation(
            xref="paper",
            yref="paper",
            x=1,
            y=1,
            xanchor="right",
            yanchor="bottom",
            font={"color": GREY},
            text=f"separation of the charges {number(view.separation, 2)}",
        )


def descriptor_caption(results: Results) -> str:
    """Say what the maps show and how many of the frames.

    Parameters
    ----------
    results
        The results.

    Returns
    -------
    str
        Plain text.
    """
    drawn = sum(len(item.charges) for item in results.descriptors)
    known = sum(item.n_frames for item in results.descriptors)
    thinned = f" Drawn are {drawn} of {known} frames." if drawn < known else ""
    return (
        "Mean difference between the network's descriptors of a frame and those of the pristine "
        "host, on its first two principal components; filled diamonds are held-out frames. "
        "Separation: silhouette coefficient of the charges in all dimensions, 1 if each charge "
        "is a cluster of its own, about 0 if they overlap. What the second map separates, the "
        "geometries separate by themselves; the rest is the work of the charge input." + thinned
    )
