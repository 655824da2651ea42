"""Views of the verified geometries in three dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from ase.data import atomic_numbers, covalent_radii
from numpy.typing import NDArray

from defect_mf_flows.report.formatting import is_number, number
from defect_mf_flows.report.theme import CYCLE, GREY, VERMILION, new_figure
from defect_mf_flows.schemas.results import GroundState, Results
from defect_mf_flows.schemas.structures import symbols_of

BOND_SCALE = 1.2  # of the sum of the covalent radii
BONDS_WITHIN = 6.5  # Angstrom from the view's centre, in cells too large to draw whole
WHOLE_CELL = 80  # atoms


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
        symbols=symbols_of(structure),
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
