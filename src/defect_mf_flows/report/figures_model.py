"""Figures of the model: parity with the reference and learning curves."""

from __future__ import annotations

import html

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from defect_mf_flows.report import numbers
from defect_mf_flows.report.formatting import is_number, number, page_charge, plural
from defect_mf_flows.report.theme import CYCLE, GREY, HIGH_COLOUR, LOW_COLOUR, log_ticks, style
from defect_mf_flows.schemas.model import ParityPoint
from defect_mf_flows.schemas.results import Results

SYMBOLS = {"train": "circle-open", "valid": "triangle-up-open", "test": "diamond"}
POINTS = 4000  # per head: what a page of a few megabytes and a phone can bear
SVG_POINTS = 1500  # beyond it plotly draws with WebGL


def parity_figure(results: Results, head: str) -> go.Figure:
    """Model against reference energies of one head, with the residuals below.

    Parameters
    ----------
    results
        The results.
    head
        Head of the model.

    Returns
    -------
    plotly.graph_objects.Figure
        Colour tells the charge, symbol the split. The title gives the held-out errors.
    """
    points = thinned([p for p in results.parity if p.head == head], POINTS)
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.68, 0.32], vertical_spacing=0.05
    )
    style(figure, 560, legend={"tracegroupgap": 0, "y": -0.13, "yanchor": "top"})
    scatter = go.Scatter if len(points) <= SVG_POINTS else go.Scattergl
    charges = sorted({p.charge for p in points}, reverse=True)
    for place, charge in enumerate(charges):
        for split in ("train", "valid", "test"):
            mine = [p for p in points if p.charge == charge and p.split == split]
            if mine:
                _add_points(figure, scatter, mine, CYCLE[place % len(CYCLE)])
    values = [v for p in points for v in (p.energy, p.energy_model) if is_number(v)]
    if values:
        ends = [min(values), max(values)]
        figure.add_scatter(
            x=ends,
            y=ends,
            mode="lines",
            line={"color": GREY, "dash": "dash", "width": 1},
            hoverinfo="skip",
            showlegend=False,
            row=1,
            col=1,
        )
    figure.update_yaxes(title="model (eV per cell)", row=1, col=1)
    figure.update_yaxes(title="error (meV)", row=2, col=1)
    figure.update_xaxes(title="reference (eV per cell)", row=2, col=1)
    figure.update_layout(
        title={
            "text": _parity_title(results, head),
            "font": {"size": 12.5},
            # From the figure's own edge, or a phone would cut its end off.
            "x": 0,
            "xref": "container",
        },
        margin={"t": 52},
    )
    return figure


def _add_points(
    figure: go.Figure,
    scatter: type[go.Scatter] | type[go.Scattergl],
    points: list[ParityPoint],
    colour: str,
) -> None:
    charge, split = page_charge(points[0].charge), points[0].split
    reference = np.array([p.energy for p in points], dtype=np.float32)
    model = np.array([p.energy_model for p in points], dtype=np.float32)
    error = 1000 * (model - reference)
    forces = np.array([p.force_rmse for p in points], dtype=np.float32)  # None becomes NaN
    name = f"q = {charge}, {split}"
    for row, y in ((1, model), (2, error)):
        figure.add_trace(
            scatter(
                x=reference,
                y=y,
                mode="markers",
                name=name,
                legendgroup=name,
                showlegend=row == 1,
                customdata=np.stack([error, forces], axis=1),
                marker={
                    "color": colour,
                    "symbol": SYMBOLS.get(split, "circle"),
                    "size": 9 if split == numbers.HELD_OUT else 6,
                    "opacity": 1.0 if split == numbers.HELD_OUT else 0.65,
                },
                hovertemplate=name + "<br>reference %{x:.3f} eV, error %{customdata[0]:.1f} meV"
                "<br>forces %{customdata[1]:.1f} meV/Å<extra></extra>",
            ),
            row=row,
            col=1,
        )


def _parity_title(results: Results, head: str) -> str:
    error = next((e for e in numbers.held_out(results) if e.head == head), None)
    if error is None:
        return f"<b>{html.escape(head)}</b>: no held-out frames"
    return (
        f"<b>{html.escape(head)}</b>, held out ({plural(error.n_frames, 'frame')}), RMSE:<br>"
        f"{number(error.energy_cell, 1)} meV/cell · {number(error.energy_atom, 2)} meV/atom · "
        f"{number(error.force, 1)} meV/Å"
    )


def thinned(points: list[ParityPoint], most: int) -> list[ParityPoint]:
    """Drop points evenly until few enough are left, held-out ones last of all.

    Parameters
    ----------
    points
        Points of one head.
    most
        How many may stay.

    Returns
    -------
    list of ParityPoint
        In the order given.
    """
    if len(points) <= most:
        return points
    order = sorted(range(len(points)), key=lambda i: points[i].split != numbers.HELD_OUT)
    first = [i for i in order if points[i].split == numbers.HELD_OUT][:most]
    others = order[len(first) :]
    places = np.linspace(0, len(others) - 1, max(most - len(first), 0)).round().astype(int)
    kept = {*first, *(others[i] for i in places)}
    return [p for i, p in enumerate(points) if i in kept]


def learning_figure(results: Results, quantity: str) -> go.Figure:
    """Validation error per epoch and head.

    Parameters
    ----------
    results
        The results.
    quantity
        ``"energy_rmse"`` (meV per atom) or ``"force_rmse"`` (meV/Angstrom).

    Returns
    -------
    plotly.graph_objects.Figure
        Logarithmic in the error.
    """
    unit = {"energy_rmse": "energy RMSE (meV/atom)", "force_rmse": "force RMSE (meV/Å)"}[quantity]
    figure = go.Figure()
    style(figure, 340)
    known = [LOW_COLOUR, HIGH_COLOUR, *CYCLE]
    lines = {results.fidelities.get("low"): "dash", results.fidelities.get("high"): "solid"}
    for i, head in enumerate(numbers.heads(results)):
        pairs = [
            (e.epoch, e.valid.get(head, {}).get(quantity))
            for e in results.history
            if head in e.valid
        ]
        figure.add_scatter(
            x=[epoch for epoch, _ in pairs],
            # A logarithm has no place for zero: leave a gap there, as for NaN.
            y=[v if v is not None and is_number(v) and v > 0 else None for _, v in pairs],
            mode="lines+markers" if len(pairs) < 40 else "lines",
            name=html.escape(head),
            line={"color": known[i % len(known)], "width": 2, "dash": lines.get(head, "dot")},
            hovertemplate="epoch %{x}: %{y:.2f}<extra>" + html.escape(head) + "</extra>",
        )
    shown = [y for trace in figure.data for y in trace.y if y is not None]
    few = {"dtick": 1} if len(results.history) <= 8 else {}
    figure.update_xaxes(title="epoch", rangemode="nonnegative", zeroline=False, **few)
    figure.update_yaxes(title=unit, **log_ticks(shown))
    figure.update_layout(showlegend=True)
    return figure
