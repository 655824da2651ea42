"""Several campaigns on one page: ground states, levels, cost and errors side by side."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from markupsafe import Markup
from pydantic import ValidationError

from defect_mf_flows.errors import ResultsError
from defect_mf_flows.report import compare_figures, numbers, page
from defect_mf_flows.report.formatting import (
    MISSING,
    defect_html,
    duration,
    level_html,
    milli,
    number,
    percent,
)
from defect_mf_flows.report.savings import break_even_text, known_savings, savings
from defect_mf_flows.report.tables import Cell, Table, badge
from defect_mf_flows.schemas.base import check_version
from defect_mf_flows.schemas.results import GroundState, Results
from defect_mf_flows.schemas.search import Verdict

Named = dict[str, Results]


def load_results(path: Path) -> Results:
    """Read ``results.json``.

    Parameters
    ----------
    path
        The file, or the folder of a campaign.

    Returns
    -------
    Results

    Raises
    ------
    ResultsError
        If it is missing or holds something else.
    """
    file = path / "results.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultsError(
            f"{file} does not exist; `defect-mf run` and `defect-mf results --json` write it."
        ) from None
    except (ValueError, OSError) as error:
        raise ResultsError(f"{file}: cannot be read as JSON: {error}") from None
    if isinstance(content, dict):
        check_version(content, f"Results in {file}")
    try:
        return Results.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "top level"
        raise ResultsError(f"{file}: no results: {where}: {first['msg']}.") from None


def named(results: list[Results]) -> Named:
    """Results by a name that is different for each: the campaign's, with its hash if need be."""
    counts = Counter(r.campaign for r in results)
    found: Named = {}
    for r in results:
        name = r.campaign if counts[r.campaign] == 1 else f"{r.campaign} {r.campaign_hash[:8]}"
        same = sum(other.split(" #")[0] == name for other in found)
        found[f"{name} #{same + 1}" if same else name] = r
    return found


def overview_table(campaigns: Named) -> Table:
    """What each campaign is, one per row."""
    table = Table(
        ["Campaign", "Host", "Low fidelity", "High fidelity", "#Charge states",
         *(f"#{v.value.capitalize()}" for v in Verdict), "Loop", "Finite-size correction"]
    )  # fmt: skip
    for name, r in campaigns.items():
        counts = numbers.verdict_counts(r)
        table.rows.append(
            [
                name,
                f"{r.host.get('formula', MISSING)}, {r.host.get('n_atoms', MISSING)} atoms",
                r.fidelities.get("low", MISSING),
                r.fidelities.get("high", MISSING),
                str(len(r.ground_states)),
                *(str(counts[v]) for v in Verdict),
                r.stop.value,
                r.correction,
            ]
        )
    return table


def scale_key(results: Results) -> str:
    """What two campaigns must share for their verified energies to be comparable."""
    high = results.fidelities.get("high", "")
    engine = {
        k: v for k, v in (results.engines.get(high) or {}).items() if k in ("engine", "settings")
    }
    cell = [[round(x, 3) for x in row] for row in results.host.get("cell") or []]
    return json.dumps([engine, results.host.get("formula"), cell], sort_keys=True, default=str)


def ground_state_table(campaigns: Named) -> Table:
    """Verdict, verified energy and shortest contact of each charge state in each campaign."""
    table = Table(["State", *campaigns])
    grounds = {
        name: {(g.defect, g.charge): g for g in r.ground_states} for name, r in campaigns.items()
    }
    scales = {name: scale_key(r) for name, r in campaigns.items()}
    states = dict.fromkeys(key for found in grounds.values() for key in found)
    for key in states:
        lowest: dict[str, float] = {}
        for name, found in grounds.items():
            if key in found:
                scale, energy = scales[name], found[key].energy_hf
                lowest[scale] = min(lowest.get(scale, energy), energy)
        row: list[Cell] = [defect_html(*key)]
        for name, found in grounds.items():
            alone = sum(key in grounds[n] and scales[n] == scales[name] for n in campaigns) < 2
            zero = None if alone else lowest.get(scales[name])
            row.append(_ground_cell(found[key], zero) if key in found else MISSING)
        table.rows.append(row)
    return table


def _ground_cell(ground: GroundState, zero: float | None) -> Cell:
    bond = ground.shortest_bonds.get("verified")
    parts = [badge(ground.verdict)]
    if zero is not None:
        parts.append(Markup("{}&nbsp;meV").format(milli(ground.energy_hf - zero, 1, signed=True)))
    if bond is not None:
        parts.append(Markup("{}&nbsp;Å").format(number(bond, 2)))
    return Markup(" · ").join(parts)


def level_table(campaigns: Named) -> Table:
    """Verified and model levels of every campaign."""
    titles: list[Cell] = ["Level"]
    for name in campaigns:
        titles += [f"#{name}: verified (eV)", f"#{name}: model (eV)"]
    table = Table(titles)
    found = {
        name: {(lv.defect, lv.from_charge, lv.to_charge): lv for lv in r.transition_levels}
        for name, r in campaigns.items()
    }
    for key in dict.fromkeys(k for levels in found.values() for k in levels):
        row: list[Cell] = [level_html(*key)]
        for levels in found.values():
            level = levels.get(key)
            row += [number(level.hf), number(level.model)] if level else [MISSING, MISSING]
        table.rows.append(row)
    return table


def error_table(campaigns: Named) -> Table:
    """Errors on held-out frames."""
    table = Table(
        ["Campaign", "Head", "#Frames", "#Energy RMSE (meV/cell)", "#Energy RMSE (meV/atom)",
         "#Force RMSE (meV/Å)"]
    )  # fmt: skip
    for name, r in campaigns.items():
        for e in numbers.held_out(r):
            table.rows.append(
                [name, e.head, str(e.n_frames), number(e.energy_cell, 1),
                 number(e.energy_atom, 2), number(e.force, 1)]
            )  # fmt: skip
    return table


def cost_table(campaigns: Named) -> Table:
    """Evaluations and time of every campaign, with marginal and total saving."""
    table = Table(
        ["Campaign", "#Low-fidelity evaluations", "#High-fidelity evaluations",
         "#Wall time, summed", "#of that training", "#Total saving (time)",
         "#Marginal saving (time)", "#Break-even (defects)"]
    )  # fmt: skip
    for name, r in campaigns.items():
        calls = numbers.reference_calls(r)
        time = savings(r, "s")
        table.rows.append(
            [
                name,
                str(calls.get(r.fidelities.get("low", ""), 0)),
                str(calls.get(r.fidelities.get("high", ""), 0)),
                duration(sum(c.seconds for c in r.cost)),
                duration(sum(c.seconds for c in r.cost if c.stage == "training")),
                percent(time.total_saving) if time else MISSING,
                percent(time.marginal_saving) if time else MISSING,
                break_even_text(time) if time else MISSING,
            ]
        )
    return table


def comparison_plots(campaigns: Named) -> list[page.Plot]:
    """Figures of the page that have data."""
    made: list[tuple[str, str, str, Callable[[Named], Any]]] = [
        ("levels", "Transition levels", "Verified and model levels", compare_figures.levels),
        ("errors", "Held-out errors", "Errors of the high head", compare_figures.errors),
        ("cost", "Wall time per stage", "Wall time of every campaign", compare_figures.cost),
    ]
    plots = []
    for key, title, label, draw in made:
        figure = draw(campaigns)
        if figure is not None:
            plots.append(page.make_plot(key, figure, label, title=title, wide=key == "levels"))
    return plots


def render_comparison(results: list[Results]) -> str:
    """Render the page that compares campaigns.

    Parameters
    ----------
    results
        Two or more.

    Returns
    -------
    str
        One HTML document with its styles, scripts and data inside.

    Raises
    ------
    ResultsError
        If there are fewer than two.
    """
    if len(results) < 2:
        raise ResultsError("a comparison needs two campaigns or more.")
    campaigns = named(results)
    plots = {plot.name: plot for plot in comparison_plots(campaigns)}
    disclaimers: dict[str, list[str]] = {}
    for name, r in campaigns.items():
        if r.disclaimer:
            disclaimers.setdefault(r.disclaimer, []).append(name)
    return page.render_template(
        "compare.html.j2",
        campaigns=campaigns,
        disclaimers=disclaimers,
        tag=page.disclaimer_tag(next(iter(disclaimers), None)),
        plots=plots,
        tables={
            "overview": overview_table(campaigns),
            "ground": ground_state_table(campaigns),
            "levels": level_table(campaigns),
            "errors": error_table(campaigns),
            "cost": cost_table(campaigns),
        },
        compared=any(known_savings(r) for r in results),
    )
