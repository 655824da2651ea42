"""Figures of the search: where the relaxations ended, and the verified geometries."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from ase.data import atomic_numbers, covalent_radii
from numpy.typing import NDArray

from defect_mf_flows.report.formatting import is_number, number, start_order, start_text
from defect_mf_flows.report.theme import CYCLE, GREY, VERMILION, new_figure
from defect_mf_flows.schemas.results import GroundState, PesPoint, Results

SOURCES = {"low": ("low fidelity", "circle", -0.13), "model": ("model", "diamond", 0.13)}
BOND_SCALE = 1.2  # of the sum of the covalent radii
BONDS_WITHIN = 6.5  # Angstrom from the view's centre, in cells too large to draw whole
WHOLE_CELL = 80  # atoms


def pes_figure(results: Results, defect: str, charge: int) -> go.Figure:
    """Energy at the end of each relaxation against its start, for one charge state.

    Parameters
    ----------
    results
        The results.
    defect, charge
        Which charge state.

    Returns
    -------
    plotly.graph_objects.Figure
        Circles for the low-fidelity search, diamonds for the model's; the colour tells the
        local RMSD to the verified ground state.
    """
    points = [
        p for p in results.pes if (p.defect, p.charge) == (defect, charge) and is_number(p.energy)
    ]
    starts = sorted({p.start for p in points}, key=start_order)
    place = {start: i for i, start in enumerate(starts)}
    figure = new_figure(380)
    # One colour scale for the page, so that panels can be compared.
    top = max([p.rmsd for p in results.pes if is_number(p.rmsd)], default=0.1)
    for source, (name, symbol, shift) in SOURCES.items():
        mine = [p for p in points if p.source == source]
        if not mine:
            continue
        figure.add_scatter(
            x=[place[p.start] + shift for p in mine],
            y=[p.energy for p in mine],
            mode="markers",
            showlegend=False,
            cliponaxis=False,
            marker={
                "symbol": symbol,
                "size": 11,
                "color": [p.rmsd for p in mine],
                "coloraxis": "coloraxis",
                "line": {"color": GREY, "width": 1},
            },
            text=[_pes_hover(p) for p in mine],
            hovertemplate="%{text}<extra>" + name + "</extra>",
        )
        # Points carry colours of the scale; the legend shows the symbol alone.
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            name=name,
            marker={"symbol": symbol, "size": 11, "color": GREY},
        )
    _pes_axes(figure, starts, top)
    return figure


def _pes_hover(point: PesPoint) -> str:
    return (
        f"{html.escape(point.start)}<br>{number(point.energy, 4)} eV above the lowest"
        f"<br>local RMSD {number(point.rmsd)} Å"
    )


def _pes_axes(figure: go.Figure, starts: list[str], top: float) -> None:
    figure.update_layout(
        coloraxis={
            "colorscale": "Cividis",
            "cmin": 0,
            "cmax": top or 0.1,
            "colorbar": {
                "title": {"text": "local RMSD (Å)", "side": "right", "font": {"size": 12}},
                "thickness": 10,
                "outlinewidth": 0,
                "x": 1.02,
            },
        },
        showlegend=True,
    )
    every = max(1, -(-len(starts) // 40))  # more labels than that would overlap
    figure.update_xaxes(
        title="start structure",
        tickvals=list(range(len(starts)))[::every],
        ticktext=[html.escape(start_text(s)) for s in starts][::every],
        tickangle=-60,
        tickfont={"size": 11 if len(starts) < 20 else 9},
        range=[-0.6, len(starts) - 0.4],
        zeroline=False,
    )
    figure.update_yaxes(title="eV per cell above the lowest", rangemode="tozero")


@dataclass(frozen=True)
class View:
    """A structure made ready to draw.

    Attributes
    ----------
    symbols
        Element per atom.
    positions
        Cartesian, wrapped into a cell whose middle is the defect's shortest contact.
    lattice
        Rows are lattice vectors.
    contact
        The two neighbours of the defect that are closest to each other, or None.
    """

    symbols: list[str]
    positions: NDArray[np.float64]
    lattice: NDArray[np.float64]
    contact: tuple[int, int] | None


def make_view(ground: GroundState) -> View:
    """Centre a verified ground state on the shortest contact of its neighbours.

    Parameters
    ----------
    ground
        The ground state.

    Returns
    -------
    View
        Without a contact if no distance of the structure equals the recorded one.
    """
    structure = ground.structure
    lattice = np.array(structure.lattice.matrix)
    fractional = np.array(structure.frac_coords)
    contact, middle = None, np.array([0.5, 0.5, 0.5])
    wanted = ground.shortest_bonds.get("verified")
    if wanted is not None and is_number(wanted) and len(structure) > 1:
        matrix = np.array(structure.distance_matrix)
        matrix[np.tril_indices(len(matrix))] = np.inf
        i, j = (int(k) for k in np.unravel_index(np.abs(matrix - wanted).argmin(), matrix.shape))
        if abs(matrix[i, j] - wanted) < 1e-3:
            contact = (i, j)
            image = structure[i].distance_and_image(structure[j])[1]
            middle = (fractional[i] + fractional[j] + image) / 2
    wrapped = (fractional - middle + 0.5) % 1.0
    return View(
        symbols=[site.specie.symbol for site in structure],
        positions=wrapped @ lattice,
        lattice=lattice,
        contact=contact,
    )


def bonds(view: View) -> list[tuple[int, int]]:
    """Pairs of atoms close enough to draw a bond, inside the view's cell.

    Parameters
    ----------
    view
        The structure.

    Returns
    -------
    list of tuple
        Near the centre only if the cell is large.
    """
    radii = np.array([covalent_radii[atomic_numbers[s]] for s in view.symbols])
    distances = np.linalg.norm(view.positions[:, None] - view.positions[None], axis=-1)
    close = distances < BOND_SCALE * (radii[:, None] + radii[None])
    if len(view.symbols) > WHOLE_CELL:
        near = np.linalg.norm(view.positions - view.lattice.sum(axis=0) / 2, axis=1) < BONDS_WITHIN
        close &= near[:, None] & near[None]
    return [(int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(close, 1)), strict=True)]


def element_colours(results: Results) -> dict[str, str]:
    """One colour per element, the same in every view of the page."""
    symbols = sorted({s.symbol for g in results.ground_states for s in g.structure.elements})
    palette = [c for c in CYCLE if c != VERMILION]  # that one marks the contact
    return {symbol: palette[n % len(palette)] for n, symbol in enumerate(symbols)}


def structure_figure(ground: GroundState, colours: dict[str, str]) -> go.Figure:
    """Three-dimensional view of a verified ground state.

    Parameters
    ----------
    ground
        The ground state.
    colours
        From :func:`element_colours`.

    Returns
    -------
    plotly.graph_objects.Figure
        Atoms, bonds, the cell, and the defect's shortest contact in colour.
    """
    view = make_view(ground)
    figure = new_figure(460)
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    edges = [
        (a, b)
        for a in range(8)
        for b in range(a + 1, 8)
        if np.abs(corners[a] - corners[b]).sum() == 1
    ]
    figure.add_trace(_lines(corners @ view.lattice, edges, color=GREY, width=1))
    figure.add_trace(_lines(view.positions, bonds(view), color=GREY, width=5))
    if view.contact:
        line = _lines(view.positions, [view.contact], color=VERMILION, width=6)
        i, j = view.contact
        pair = f"{view.symbols[i]}{i}–{view.symbols[j]}{j}"
        line.update(
            name=f"shortest contact {pair}: {number(ground.shortest_bonds['verified'])} Å",
            showlegend=True,
        )
        figure.add_trace(line)
    largest = max(covalent_radii[atomic_numbers[s]] for s in view.symbols)
    for symbol in dict.fromkeys(view.symbols):
        mine = np.array([i for i, s in enumerate(view.symbols) if s == symbol])
        size = 6 + 9 * covalent_radii[atomic_numbers[symbol]] / largest
        figure.add_trace(_atoms(view, mine, symbol, colours.get(symbol, GREY), size))
    hidden = {"visible": False, "showspikes": False}
    figure.update_layout(
        scene={
            "xaxis": hidden,
            "yaxis": hidden,
            "zaxis": hidden,
            "aspectmode": "data",
            "camera": {
                "projection": {"type": "orthographic"},
                "eye": {"x": 0.3, "y": -1.0, "z": 0.3},
            },
        },
        margin={"l": 0, "r": 0, "t": 30, "b": 0},
    )
    return figure


def _atoms(
    view: View, mine: NDArray[np.int64], symbol: str, colour: str, size: float
) -> go.Scatter3d:
    spots = view.positions[mine].astype(np.float32)
    return go.Scatter3d(
        x=spots[:, 0],
        y=spots[:, 1],
        z=spots[:, 2],
        mode="markers",
        name=symbol,
        customdata=mine.astype(np.int16),
        marker={"color": colour, "size": size, "line": {"color": "#333333", "width": 1}},
        hovertemplate=f"{symbol}%{{customdata}}<extra></extra>",
    )


def _lines(
    positions: NDArray[np.float64], pairs: list[tuple[int, int]], **line: Any
) -> go.Scatter3d:
    """Many line segments in one trace, with gaps between them."""
    gap = np.full(3, np.nan)
    spots = np.array(
        [p for i, j in pairs for p in (positions[i], positions[j], gap)], dtype=np.float32
    ).reshape(-1, 3)
    return go.Scatter3d(
        x=spots[:, 0],
        y=spots[:, 1],
        z=spots[:, 2],
        mode="lines",
        line=line,
        hoverinfo="skip",
        showlegend=False,
    )
