"""The report as one HTML page that opens from disk and loads nothing."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from defect_mf_flows.report import figures, figures_model, figures_search, numbers, tables, words
from defect_mf_flows.report.figures_formation import formation_figure
from defect_mf_flows.report.formatting import (
    charge_text,
    defect_html,
    milli,
    number,
    plural,
    state_html,
    tidy,
)
from defect_mf_flows.report.level_tables import inverted
from defect_mf_flows.report.theme import template
from defect_mf_flows.schemas.results import Results
from defect_mf_flows.schemas.search import Verdict

logger = logging.getLogger(__name__)

TAG_LENGTH = 110  # letters of the disclaimer that every figure repeats


@dataclass(frozen=True)
class Plot:
    """A figure of the page.

    Attributes
    ----------
    name
        Its id.
    title
        Short heading, or empty.
    label
        Plain words for screen readers.
    height
        Pixels, reserved before it is drawn.
    spec
        Its JSON, safe inside a script element.
    wide
        True to span all columns.
    """

    name: str
    title: Markup
    label: str
    height: int
    spec: Markup
    wide: bool = False


def make_plot(
    name: str, figure: go.Figure, label: str, *, title: Markup | str = "", wide: bool = False
) -> Plot:
    """Prepare a plotly figure for the page.

    Parameters
    ----------
    name
        Its id on the page.
    figure
        The figure; its template is left out, as the page has one for light and one for dark.
    label
        Plain words for screen readers.
    title
        Short heading.
    wide
        True to span all columns.

    Returns
    -------
    Plot
    """
    spec = json.loads(figure.to_json(validate=False, engine="json"))
    spec["layout"].pop("template", None)
    return Plot(
        name=name,
        title=Markup.escape(title),
        label=label,
        height=int(figure.layout.height),
        spec=script_json(spec),
        wide=wide,
    )


def script_json(value: Any) -> Markup:
    """JSON that may stand inside a script element: no ``<`` can end or nest it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def render_report(results: Results) -> str:
    """Render the report.

    Parameters
    ----------
    results
        What the campaign found.

    Returns
    -------
    str
        One HTML document with its styles, scripts and data inside.
    """
    page = _environment().get_template("report.html.j2")
    return page.render(
        results=results,
        inverted=inverted,
        plotlyjs=Markup(get_plotlyjs()),
        templates=script_json(
            {
                name: template(dark=dark).to_plotly_json()
                for name, dark in (("light", False), ("dark", True))
            }
        ),
        tag=disclaimer_tag(results.disclaimer),
        cards=cards(results),
        paragraphs=words.summary(results),
        stop=words.stop_sentence(results),
        no_levels=words.no_levels_because(results),
        plots=plots(results),
        tables=_tables(results),
        failure_counts=tables.failure_counts(results),
        most_failures=tables.MOST_FAILURES,
        engines={k: tables.settings_text(v) for k, v in results.engines.items()},
        other_counts={
            k.replace("_", " "): v
            for k, v in results.counts.items()
            if isinstance(v, int | float | str)
        },
        cell=_cell(results),
        drawn_points=_drawn_points(results),
    )


def write_report(results: Results, path: Path) -> Path:
    """Write the report; readers see the old page or the new one, never half of it.

    Parameters
    ----------
    results
        What the campaign found.
    path
        File to write; its folder is made if need be.

    Returns
    -------
    Path
        The file.
    """
    text = render_report(results)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("w", encoding="utf-8") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    logger.info("report of %s: %s (%.1f MB)", results.campaign, path, len(text) / 1e6)
    return path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("defect_mf_flows.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["defect"] = defect_html
    environment.filters["state"] = state_html
    environment.filters["number"] = number
    environment.filters["plural"] = plural
    environment.filters["tidy"] = tidy
    return environment


def disclaimer_tag(disclaimer: str | None) -> str:
    """The disclaimer, cut to fit beside a figure."""
    text = " ".join((disclaimer or "").split())
    if len(text) <= TAG_LENGTH:
        return text
    return text[:TAG_LENGTH].rsplit(" ", 1)[0] + " …"


def cards(results: Results) -> list[tuple[str, str, str]]:
    """Key figures: class of the card, value, words."""
    counts = numbers.verdict_counts(results)
    found = [(v.value, str(counts[v]), v.value) for v in Verdict]
    searched = numbers.searched_low(results)
    if searched:
        share = f"{len(numbers.refuted_low(results))} of {len(searched)}"
        found.append(("", share, "low-fidelity ground states refuted"))
    if (worst := numbers.worst_level(results, "model")) is not None:
        found.append(("", f"{milli(worst[0], 0)} meV", "largest level error of the model"))
    high = results.fidelities.get("high")
    for error in numbers.held_out(results):
        if error.head == high:
            value = f"{number(error.energy_cell, 1)} meV/cell"
            frames = plural(error.n_frames, "frame")
            found.append(("", value, f"held-out RMSE, {high}, {frames}"))
    calls = numbers.reference_calls(results)
    if high in calls:
        found.append(("", str(calls[high]), f"evaluations with {high}"))
    return found


def _drawn_points(results: Results) -> int | None:
    """Limit of points per parity plot, if one of them is thinned."""
    counts = Counter(p.head for p in results.parity)
    most = figures_model.POINTS
    return most if max(counts.values(), default=0) > most else None


def _cell(results: Results) -> str:
    """Lengths of the supercell's edges."""
    rows = results.host.get("cell") or []
    lengths = [number(sum(x * x for x in row) ** 0.5, 2) for row in rows]
    return " × ".join(lengths) + " Å" if lengths else ""


def _formation_plots(results: Results) -> list[Plot]:
    """One diagram per defect with the sources side by side."""
    return [
        make_plot(
            f"formation-{i}",
            formation_figure(results, defect),
            f"Formation energies of {defect} against the Fermi level",
            title=f"Formation energies, {defect}",
            wide=True,
        )
        for i, defect in enumerate(dict.fromkeys(f.defect for f in results.formation))
    ]


def plots(results: Results) -> dict[str, list[Plot]]:
    """Figures of the page by group; groups without data are empty."""
    groups: dict[str, list[Plot]] = {
        "ground": [],
        "levels": [],
        "pes": _pes_plots(results),
        "parity": [
            make_plot(
                f"parity-{i}",
                figures_model.parity_figure(results, head),
                f"Parity plot of head {head}",
            )
            for i, head in enumerate(numbers.heads(results))
            if any(p.head == head for p in results.parity)
        ],
        "learning": [],
        "cost": [],
        "structures": _structure_plots(results),
    }
    if results.ground_states:
        groups["ground"] = [
            make_plot(
                "excess",
                figures.low_excess_figure(results),
                "High-fidelity energy of the low-fidelity ground state above the verified one",
                title="Energy of the low-fidelity ground state",
            ),
            make_plot(
                "bonds",
                figures.shortest_bond_figure(results),
                "Shortest distance between the defect's neighbours",
                title="Shortest contact at the defect",
            ),
        ]
    if results.transition_levels:
        groups["levels"] = [
            make_plot("levels", figures.levels_figure(results), "Transition levels", wide=True),
            *_formation_plots(results),
        ]
    if results.history:
        groups["learning"] = [
            make_plot(
                f"learning-{quantity}",
                figures_model.learning_figure(results, quantity),
                f"Learning curve, {quantity}",
            )
            for quantity in ("energy_rmse", "force_rmse")
        ]
    if results.cost:
        groups["cost"] = [
            make_plot("calls", figures.calls_figure(results), "Evaluations per stage"),
            make_plot("seconds", figures.seconds_figure(results), "Wall time per stage"),
        ]
    return groups


def _pes_plots(results: Results) -> list[Plot]:
    states = dict.fromkeys((p.defect, p.charge) for p in results.pes)
    found = []
    for n, (defect, charge) in enumerate(states):
        figure = figures_search.pes_figure(results, defect, charge)
        starts = len(figure.layout.xaxis.tickvals or ())
        found.append(
            make_plot(
                f"pes-{n}",
                figure,
                f"End points of the relaxations of {defect}, charge {charge:+d}",
                title=defect_html(defect, charge),
                wide=starts > 24,
            )
        )
    return found


def _structure_plots(results: Results) -> list[Plot]:
    found = []
    colours = figures_search.element_colours(results)
    for n, ground in enumerate(results.ground_states):
        try:
            figure = figures_search.structure_figure(ground, colours)
        except (KeyError, ValueError, TypeError) as error:
            # A geometry that cannot be drawn must not cost the reader the whole page.
            logger.warning(
                "no view of %s %+d: %s: %s",
                ground.defect,
                ground.charge,
                type(error).__name__,
                error,
            )
            continue
        label = f"Verified ground state of {ground.defect}, charge {ground.charge:+d}"
        title = f"{ground.defect} {charge_text(ground.charge)}"
        found.append(make_plot(f"structure-{n}", figure, label, title=title))
    return found


def _tables(results: Results) -> dict[str, tables.Table]:
    return {
        "ground": tables.ground_state_table(results),
        "levels": tables.level_table(results),
        "held_out": tables.metrics_table(results, held_out=True),
        "fitted": tables.metrics_table(results, held_out=False),
        "training": tables.training_table(results),
        "rounds": tables.rounds_table(results),
        "round_states": tables.round_states_table(results),
        "cost": tables.cost_table(results),
        "counts": tables.counts_table(results),
        "label_groups": tables.label_groups_table(results),
        "failures": tables.failure_table(results),
        "seeds": tables.pairs_table(results.seeds, "Seed of", "#Value"),
        "versions": tables.pairs_table(results.versions, "Program", "Version"),
    }
