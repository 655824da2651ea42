"""The report as one HTML page that opens from disk and loads nothing."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from defect_mf_flows.report import (
    figures,
    figures_bonds,
    figures_descriptors,
    figures_model,
    figures_pes,
    figures_search,
    numbers,
    savings,
    tables,
    tables_levels,
    tables_search,
    words,
)
from defect_mf_flows.report.figures_formation import formation_figure
from defect_mf_flows.report.formatting import defect_html, milli, number, page_charge, plural
from defect_mf_flows.report.level_tables import inverted
from defect_mf_flows.report.level_verdicts import borrowed_corrections
from defect_mf_flows.report.methods import methods
from defect_mf_flows.report.page import (
    Plot,
    disclaimer_tag,
    make_plot,
    render_template,
    write_page,
)
from defect_mf_flows.schemas.results import Results
from defect_mf_flows.schemas.search import Verdict

logger = logging.getLogger(__name__)


def render_report(results: Results, *, fireworks: bool = False) -> str:
    """Render the report.

    Parameters
    ----------
    results
        What the campaign found.
    fireworks
        Whether its jobs ran through FireWorks, which the methods paragraph then cites.

    Returns
    -------
    str
        One HTML document with its styles, scripts and data inside.
    """
    return render_template(
        "report.html.j2",
        results=results,
        inverted=inverted,
        tag=disclaimer_tag(results.disclaimer),
        cards=cards(results),
        paragraphs=words.summary(results),
        stop=words.stop_sentence(results),
        borrowed=borrowed_corrections(results),
        no_levels=words.no_levels_because(results),
        minima_caption=tables_search.minima_caption(results),
        refinement=tables_search.refinement_sentence(results),
        threshold_caption=tables_search.threshold_sentence(results),
        uncertainty_caption=tables_levels.spread_caption(results),
        no_uncertainty=words.no_uncertainty_because(results),
        descriptor_caption=figures_descriptors.descriptor_caption(results),
        saving_caption=savings.saving_caption(results),
        methods=methods(results, fireworks=fireworks),
        plots=plots(results),
        tables=_tables(results),
        failure_counts=tables.failure_counts(results),
        most_failures=tables.MOST_FAILURES,
        engines={k: tables.settings_text(v) for k, v in results.engines.items()},
        settings=tables.settings_text(results.settings) if results.settings else "",
        other_counts={
            k.replace("_", " "): v
            for k, v in results.counts.items()
            if isinstance(v, int | float | str)
        },
        cell=_cell(results),
        drawn_points=_drawn_points(results),
    )


def write_report(results: Results, path: Path, *, fireworks: bool = False) -> Path:
    """Write the report; readers see the old page or the new one, never half of it.

    Parameters
    ----------
    results
        What the campaign found.
    path
        File to write; its folder is made if need be.
    fireworks
        As for :func:`render_report`.

    Returns
    -------
    Path
        The file.
    """
    return write_page(render_report(results, fireworks=fireworks), path)


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
            title="Formation energies, " + defect_html(defect),
            wide=True,
        )
        for i, defect in enumerate(dict.fromkeys(f.defect for f in results.formation))
    ]


def plots(results: Results) -> dict[str, list[Plot]]:
    """Figures of the page by group; groups without data are empty."""
    groups: dict[str, list[Plot]] = {
        "ground": [],
        "bonds": [],
        "levels": [],
        "pes": figures_pes.pes_plots(results),
        "parity": [
            make_plot(
                f"parity-{i}",
                figures_model.parity_figure(results, head),
                f"Parity plot of head {head}",
            )
            for i, head in enumerate(numbers.heads(results))
            if any(p.head == head for p in results.parity)
        ],
        "descriptors": figures_descriptors.descriptor_plots(results),
        "learning": [],
        "cost": [],
        "savings": [],
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
        ]
        groups["bonds"] = figures_bonds.bond_plots(results)
        if not groups["bonds"]:  # documents older than the distances
            groups["ground"].append(
                make_plot(
                    "bonds",
                    figures.shortest_bond_figure(results),
                    "Shortest distance between the defect's neighbours",
                    title="Shortest contact at the defect",
                )
            )
    if results.transition_levels:
        groups["levels"] = [
            make_plot(
                "level-lines", figures.levels_figure(results), "Transition levels", wide=True
            ),
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
        groups["savings"] = [
            make_plot(
                f"saving-{found.unit}",
                savings.saving_figure(results, found),
                "Cost against the number of defects, with and without the model",
            )
            for found in savings.known_savings(results)
        ]
    return groups


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
        title = f"{ground.defect} {page_charge(ground.charge)}"
        found.append(make_plot(f"structure-{n}", figure, label, title=title))
    return found


def _tables(results: Results) -> dict[str, tables.Table]:
    return {
        "ground": tables.ground_state_table(results),
        "bonds": figures_bonds.bond_table(results),
        "minima": tables_search.minima_table(results),
        "tried": tables_search.tried_table(results),
        "thresholds": tables_search.threshold_table(results),
        "acquired": tables_search.acquired_table(results),
        "levels": tables.level_table(results),
        "spreads": tables_levels.spread_table(results),
        "orders": tables_levels.order_table(results),
        "shares": tables_levels.share_table(results),
        "held_out": tables.metrics_table(results, held_out=True),
        "fitted": tables.metrics_table(results, held_out=False),
        "training": tables.training_table(results),
        "rounds": tables.rounds_table(results),
        "round_states": tables.round_states_table(results),
        "cost": tables.cost_table(results),
        "savings": savings.saving_table(results),
        "counts": tables.counts_table(results),
        "label_groups": tables.label_groups_table(results),
        "failures": tables.failure_table(results),
        "seeds": tables.pairs_table(results.seeds, "Seed of", "#Value"),
        "versions": tables.pairs_table(results.versions, "Program", "Version"),
    }
