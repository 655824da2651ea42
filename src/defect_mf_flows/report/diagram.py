"""Formation energies against the Fermi level, as a picture."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from defect_mf_flows.core.formation import crossing, stable_charges
from defect_mf_flows.core.notation import charge_text
from defect_mf_flows.report.picture import new_picture, save_picture
from defect_mf_flows.report.theme import CYCLE, GREY
from defect_mf_flows.schemas.levels import ChemicalLimit, LevelReport


def envelope(
    energies: Mapping[int, float], low: float, high: float
) -> tuple[list[float], list[float], list[int]]:
    """Corners of the lowest formation energy between two Fermi levels.

    Parameters
    ----------
    energies
        Formation energy per charge with the Fermi level at the valence-band maximum, eV.
    low, high
        Ends, eV above the valence-band maximum.

    Returns
    -------
    x, y, charges
        Corners, the ends included, and the stable charge of each stretch between them.
    """
    hull = stable_charges(energies)
    levels = [crossing(energies, a, b) for a, b in pairwise(hull)]
    inside = [x for x in levels if low < x < high]
    x = [low, *inside, high]
    y = [min(e + q * f for q, e in energies.items()) for f in x]
    middles = [(a + b) / 2 for a, b in pairwise(x)]
    charges = [min(energies, key=lambda q: energies[q] + q * f) for f in middles]
    return x, y, charges


def write_diagrams(report: LevelReport, path: Path) -> list[Path]:
    """Draw the formation energies, at every limit of the chemical potentials if there are some.

    Parameters
    ----------
    report
        The levels.
    path
        File to write; its ending says as what. With limits the name of each is put before it.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    ResultsError
        If the ending is unknown.
    """
    if not report.limits:
        return [write_diagram(report, path)]
    return [
        write_diagram(report, path.with_stem(f"{path.stem}-{_file_name(limit.name)}"), limit=limit)
        for limit in report.limits
    ]


def _file_name(limit: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", limit)


def write_diagram(report: LevelReport, path: Path, *, limit: ChemicalLimit | None = None) -> Path:
    """Draw one panel per defect: stable charges in full, the others dashed.

    Parameters
    ----------
    report
        The levels.
    path
        File to write; its ending says as what.
    limit
        Of the chemical potentials; None: those of the report.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ResultsError
        If the ending is unknown.
    """
    defects = list(dict.fromkeys(s.defect for s in report.states))
    columns = min(3, len(defects)) if len(defects) != 4 else 2
    rows = -(-len(defects) // columns)
    figure = new_picture(path, 0.6 + 3.6 * columns, 0.6 + 3.1 * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(defects) :]:
        axis.set_axis_off()
    for axis, defect in zip(axes.flat, defects, strict=False):
        _panel(axis, report, defect, _energies(report, defect, limit))
    plain = limit is None and not report.mu
    label = "formation energy, $\\mu$ = 0 (eV)" if plain else "formation energy (eV)"
    figure.supylabel(label, fontsize=10)
    figure.supxlabel("Fermi level above the VBM (eV)", fontsize=10)
    if limit is not None:
        figure.suptitle(limit.name, fontsize=11)
    save_picture(figure, path)
    return path


def _energies(report: LevelReport, defect: str, limit: ChemicalLimit | None) -> dict[int, float]:
    """Formation energy per charge of the lowest minima."""
    if limit is not None:
        return {f.charge: f.energy for f in limit.formation if f.defect == defect and f.ground}
    return {s.charge: s.formation for s in report.states if s.defect == defect and s.ground}


def _panel(axis: Any, report: LevelReport, defect: str, energies: Mapping[int, float]) -> None:
    gap = report.band_edges.gap
    low, high = -0.25, gap + 0.25
    shallow = {
        s.charge for s in report.states if s.defect == defect and s.ground and s.perturbed_host
    }
    x, y, charges = envelope(energies, low, high)
    ends = np.array([low, high])
    colours = {q: CYCLE[n % (len(CYCLE) - 1)] for n, q in enumerate(sorted(energies, reverse=True))}
    for charge, energy in energies.items():
        axis.plot(ends, energy + charge * ends, "--", lw=1, color=colours[charge], alpha=0.6)
    for n, charge in enumerate(charges):
        axis.plot(x[n : n + 2], y[n : n + 2], "-", lw=2.4, color=colours[charge])
    _name_charges(axis, energies, colours, shallow, y)
    for f, e in list(zip(x, y, strict=True))[1:-1]:
        axis.plot([f], [e], "o", ms=6, color="black", zorder=5)
    _level_marks(axis, report, defect)
    axis.axvspan(low, 0, color=GREY, alpha=0.18, lw=0)
    axis.axvspan(gap, high, color=GREY, alpha=0.18, lw=0)
    axis.set_xlim(low, high)
    axis.set_title(_name(defect), fontsize=11)
    axis.tick_params(labelsize=9)


def _name(defect: str) -> str:
    first, _, rest = defect.partition("_")
    return f"{'V' if first == 'v' else first}$_{{\\mathrm{{{rest.replace('_', ' ')}}}}}$"


def _name_charges(
    axis: Any,
    energies: Mapping[int, float],
    colours: Mapping[int, str],
    shallow: set[int],
    y: list[float],
) -> None:
    """Set the limits and write the charges beside their lines."""
    span = max(y) - min(y)
    bottom, top = min(y) - 0.3 * span - 0.25, max(y) + 0.35 * span + 0.35
    axis.set_ylim(bottom, top)
    handles = []
    for charge in sorted(energies, reverse=True):
        text = charge_text(charge)
        if charge in shallow:
            text += " (host-like)"
        line = axis.plot([], [], "-", lw=2.4, color=colours[charge], label=text)[0]
        handles.append(line)
    axis.legend(
        handles=handles, fontsize=8, framealpha=0.85, edgecolor="none", ncols=min(len(handles), 3),
        handlelength=1.2, columnspacing=1.0, loc="upper left",
    )  # fmt: skip


def _level_marks(axis: Any, report: LevelReport, defect: str) -> None:
    """Write the stable levels at the bottom, where nothing is in the way."""
    mine = [lv for lv in report.levels if lv.defect == defect and lv.stable]
    bottom = axis.get_ylim()[0]
    for level in mine:
        left, right = -0.25, report.band_edges.gap + 0.25
        if left < level.energy < right:
            axis.axvline(level.energy, ls=":", lw=0.8, color=GREY, zorder=0)
            axis.annotate(
                f"{level.energy:.2f}", (level.energy, bottom), xytext=(2, 3),
                textcoords="offset points", fontsize=8, rotation=90, va="bottom", ha="left",
            )  # fmt: skip
