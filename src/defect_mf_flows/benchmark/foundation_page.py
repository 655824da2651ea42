"""Tables and figure of the benchmark of foundation models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from defect_mf_flows.benchmark.known import Known
from defect_mf_flows.benchmark.writing import Page

#: Below this RMSD (Angstrom) arXiv:2603.05238 counts a structure as found.
FOUND = 0.1

_DISTORTION = re.compile(r"Bond_Distortion_(-?[0-9.]+)%")

_ABOUT = """\
Every model relaxes the same ShakeNBreak starts (one list per charge) at fixed cell; its lowest end
of a charge is compared with the known ground state, symmetry copies included. {limits}

{sources}

Foundation models learned DFT, mostly PBE: where the known ground states come from another method,
the difference between the methods is part of the RMSD. "Blind" models give one energy for every
charge, found out by asking for two: whatever the charge, they walk the same potential-energy
surface, and only the starts and the known ground state differ between columns."""


def write_page(
    rows: list[dict[str, Any]],
    models: dict[str, dict[str, Any]],
    missing: dict[str, str],
    known: list[Known],
    limits: str,
    *,
    out: Path,
    command: str,
    variant: str,
) -> Path:
    """Write page, figure and numbers.

    Parameters
    ----------
    rows
        One per model and relaxation.
    models
        What each model is.
    missing
        Why a model was not run.
    known
        What was compared with.
    limits
        How starts were relaxed, a sentence.
    out, command, variant
        Of the page.
    """
    page = Page("foundation", variant, out, command)
    sources = "\n".join(f"- {item.source}." for item in known).replace("..", ".")
    disclaimer = " ".join(dict.fromkeys(item.disclaimer for item in known if item.disclaimer))
    page.text("Foundation models", _ABOUT.format(limits=limits, sources=sources), disclaimer)
    for item in known:
        _tables(page, item, rows, models)
    page.table(
        "Models",
        ["model", "package", "weights", "charge"],
        [[n, m["version"], m["weights"], _charge(m)] for n, m in models.items()],
    )
    if missing:
        page.table(
            "Not run here",
            ["model", "why"],
            [[name, why.replace("|", "/")] for name, why in missing.items()],
        )
    if rows:
        page.figure(pes_figure(rows, known))
    return page.write(rows)


def _signed(charge: int) -> str:
    return f"{charge:+d}" if charge else "0"


def _charge(model: dict[str, Any]) -> str:
    return "blind: one PES for all charges" if model["blind"] else "read"


def _tables(
    page: Page, known: Known, rows: list[dict[str, Any]], models: dict[str, dict[str, Any]]
) -> None:
    charges = sorted(known.ground, reverse=True)
    header = ["model", "charge is", *(f"q = {_signed(charge)}" for charge in charges)]
    best, hits = [], []
    for name, model in models.items():
        cells, counts = [], []
        for charge in charges:
            own = _of(rows, name, known, charge)
            good = [row for row in own if "rmsd" in row]
            lowest = min(good, key=lambda row: row["energy"], default=None)
            cells.append("exploded" if lowest is None else _pair(lowest))
            counts.append(f"{sum(row['rmsd'] <= FOUND for row in good)} of {len(own)}")
        best.append([name, "blind" if model["blind"] else "read", *cells])
        hits.append([name, "blind" if model["blind"] else "read", *counts])
    if known.own:
        cells = [
            _pair(dict(zip(("rmsd", "local_rmsd"), known.own[q], strict=True)))
            if q in known.own
            else "-"
            for q in charges
        ]
        best.append(["the campaign's own model", "read", *cells])
    name = known.defect.name
    page.table(
        f"{name}: RMSD of the model's ground state from the known one, A (within 5 A of the site)",
        header,
        best,
    )
    page.table(f"{name}: starts that end within {FOUND} A of the known ground state", header, hits)


def _pair(row: dict[str, Any]) -> str:
    mark = "**" if row["rmsd"] <= FOUND else ""
    return f"{mark}{row['rmsd']:.3f}{mark} ({row['local_rmsd']:.3f})"


def _of(rows: list[dict[str, Any]], model: str, known: Known, charge: int) -> list[dict[str, Any]]:
    wanted = (model, known.defect.name, charge)
    return [row for row in rows if (row["model"], row["defect"], row["charge"]) == wanted]


def distortion(label: str) -> float | None:
    """Bond distortion of a start in percent; None for starts that have none."""
    if label == "Unperturbed":
        return 0.0
    match = _DISTORTION.fullmatch(label)
    return None if match is None else float(match[1])


def pes_figure(rows: list[dict[str, Any]], known: list[Known]) -> Any:
    """Draw energies of ends against the distortion of their starts, coloured by RMSD.

    Parameters
    ----------
    rows
        One per model and relaxation.
    known
        Defects; one row of panels per model and defect, one column per charge.

    Returns
    -------
    matplotlib.figure.Figure
        Circles: within 0.1 A of the known ground state; crosses: not.
    """
    import matplotlib as mpl
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "defect-mf"
    lines = [(m, k) for m in dict.fromkeys(row["model"] for row in rows) for k in known]
    columns = max(len(item.ground) for item in known)
    size = (2.6 * columns + 1.2, 2.4 * len(lines) + 0.4)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(lines), columns, squeeze=False, sharex=True, sharey="row")
    norm = Normalize(0.0, max(0.5, max((r["rmsd"] for r in rows if "rmsd" in r), default=0.5)))
    points: Any = None
    for line, (model, item) in zip(panels, lines, strict=True):
        for axes, charge in zip(line, sorted(item.ground, reverse=True), strict=False):
            own = _of(rows, model, item, charge)
            for marker, near in (("o", True), ("x", False)):
                chosen = [
                    (x, row["energy"], row["rmsd"])
                    for row in own
                    if "rmsd" in row
                    and (x := distortion(row["start"])) is not None
                    and (row["rmsd"] <= FOUND) is near
                ]
                if chosen:
                    places, energies, colours = zip(*chosen, strict=True)
                    points = axes.scatter(
                        places, energies, c=colours, norm=norm, marker=marker, cmap="viridis_r"
                    )
            axes.set_title(f"{model}, {item.defect.name}, q = {_signed(charge)}", fontsize="small")
        line[0].set_ylabel("energy above lowest, eV")
    for axes in panels[-1]:
        axes.set_xlabel("bond distortion of start, %")
    if points is not None:
        figure.colorbar(points, ax=panels, label="RMSD from known ground state, A")
    return figure
