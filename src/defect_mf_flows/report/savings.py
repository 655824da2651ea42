"""What a campaign cost against the same search without the model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import plotly.graph_objects as go

from defect_mf_flows.report.formatting import duration, number, percent
from defect_mf_flows.report.tables import Cell, Table
from defect_mf_flows.report.theme import GREY, HIGH_COLOUR, MODEL_COLOUR, new_figure
from defect_mf_flows.schemas.results import Results

LOW, HIGH, TRAINING, SEARCH, VERIFICATION = (
    "low fidelity", "high fidelity", "training", "search", "verification",
)  # fmt: skip


@dataclass(frozen=True)
class Savings:
    """Cost with and without the model, in one unit.

    Attributes
    ----------
    unit
        ``"s"`` of wall time, or ``"calls"`` of the high fidelity.
    states, defects
        Charge states and defects of the campaign.
    without
        Estimate: every start of the low-fidelity search relaxed at high fidelity.
    fixed
        Spent once: host and labels, and in seconds also training and the low-fidelity search.
    marginal
        Spent on every further defect that the model knows: search on the model, verification.
    """

    unit: str
    states: int
    defects: int
    without: float
    fixed: float
    marginal: float

    @property
    def total(self) -> float:
        """Everything that the campaign spent, in this unit."""
        return self.fixed + self.marginal

    @property
    def total_saving(self) -> float:
        """Share saved, all counted; negative if the campaign cost more."""
        return 1.0 - self.total / self.without

    @property
    def marginal_saving(self) -> float:
        """Share saved on a further defect that needs no new labels."""
        return 1.0 - self.marginal / self.without

    @property
    def break_even(self) -> float:
        """Number of defects like these from which on the model pays; infinite if never."""
        gain = (self.without - self.marginal) / self.defects
        return self.fixed / gain if gain > 0 else math.inf


@dataclass(frozen=True)
class Estimate:
    """What the search without the model is estimated from.

    Attributes
    ----------
    relaxations
        Starts of the low-fidelity search.
    calls
        Evaluations per relaxation, as its relaxations took.
    seconds
        Per evaluation at high fidelity, as this campaign's took; None without any.
    """

    relaxations: int
    calls: float
    seconds: float | None


def estimate(results: Results) -> Estimate | None:
    """Basis of the comparison; None if the low-fidelity search cost nothing that is known."""
    low = [c for c in results.cost if c.stage == LOW]
    relaxations, calls = sum(c.jobs for c in low), sum(c.calls for c in low)
    if not relaxations or not calls:
        return None
    high = [c for c in results.cost if c.stage in (HIGH, VERIFICATION) and c.calls]
    made = sum(c.calls for c in high)
    spent = sum(c.seconds for c in high)
    seconds = spent / made if made and spent else None
    return Estimate(relaxations, calls / relaxations, seconds)


def savings(results: Results, unit: str) -> Savings | None:
    """Compare a campaign with the search without the model.

    Parameters
    ----------
    results
        The results.
    unit
        ``"s"`` or ``"calls"``.

    Returns
    -------
    Savings or None
        None where there is nothing to compare with.
    """
    basis = estimate(results)
    high = results.fidelities.get("high")
    states = {(g.defect, g.charge) for g in results.ground_states}
    if basis is None or not states or (unit == "s" and basis.seconds is None):
        return None
    without = basis.relaxations * basis.calls
    if unit == "s":
        each = {c.stage: 0.0 for c in results.cost}
        for c in results.cost:
            each[c.stage] += c.seconds
        marginal = each.get(SEARCH, 0.0) + each.get(VERIFICATION, 0.0)
        fixed = sum(each.values()) - marginal
        without *= basis.seconds or 0.0
    else:
        own = [c for c in results.cost if c.fidelity == high]
        marginal = float(sum(c.calls for c in own if c.stage == VERIFICATION))
        fixed = float(sum(c.calls for c in own)) - marginal
    return Savings(
        unit=unit,
        states=len(states),
        defects=len({defect for defect, _ in states}),
        without=without,
        fixed=fixed,
        marginal=marginal,
    )


def known_savings(results: Results) -> list[Savings]:
    """The comparison in evaluations and in time, as far as they can be made."""
    found = (savings(results, unit) for unit in ("calls", "s"))
    return [s for s in found if s is not None]


def amount(value: float, unit: str) -> str:
    """Write a cost."""
    return duration(value) if unit == "s" else f"{value:.0f}"


def break_even_text(found: Savings) -> str:
    """Write the number of defects from which on the model pays."""
    return "never" if math.isinf(found.break_even) else number(found.break_even, 1)


def saving_table(results: Results) -> Table:
    """Cost with and without the model; marginal and total saving stand side by side."""
    table = Table(
        [
            "Counted in",
            "#Without the model (estimate)",
            "#This campaign",
            "#of that once",
            "#of that per defect",
            "#Total saving",
            "#Marginal saving",
            "#Break-even (defects)",
        ]
    )
    names = {"calls": f"evaluations with {results.fidelities.get('high', 'high fidelity')}"}
    for s in known_savings(results):
        row: list[Cell] = [
            names.get(s.unit, "wall time, summed"),
            *(amount(v, s.unit) for v in (s.without, s.total, s.fixed, s.marginal / s.defects)),
            _share(s.total_saving),
            _share(s.marginal_saving),
            break_even_text(s),
        ]
        table.rows.append(row)
    return table


def _share(share: float) -> str:
    return percent(share) if share >= 0 else f"none: {number(1 - share, 1)} times as much"


def saving_caption(results: Results) -> str:
    """What the comparison assumes."""
    basis = estimate(results)
    if basis is None:
        return ""
    return (
        f"Without the model: the {basis.relaxations} starts of the low-fidelity search relaxed at "
        f"high fidelity, {number(basis.calls, 1)} evaluations each, as many as they took at low "
        "fidelity. Total saving in wall time counts everything: low-fidelity search, labels, "
        "training, search and verification. In evaluations it counts those at high fidelity alone: "
        "host, labels and verification; low-fidelity search, training and the model's search are "
        "not in it. Marginal saving leaves out what is spent once, and holds for further defects "
        "only if the model needs no new labels for them. Break-even: from that many defects with "
        "as many charge states on, total cost counted, the model is the cheaper way."
    )


def saving_figure(results: Results, found: Savings) -> go.Figure:
    """Cost against the number of defects, with and without the model.

    Parameters
    ----------
    results
        The results.
    found
        From :func:`savings`.

    Returns
    -------
    plotly.graph_objects.Figure
        Two lines, where they cross, and where this campaign stands.
    """
    even = found.break_even
    last = 2 * max(found.defects, 1 if math.isinf(even) else even)
    x = [0.0, last]
    per = {"without": found.without / found.defects, "with": found.marginal / found.defects}
    figure = new_figure(320)
    figure.add_scatter(
        x=x, y=[0.0, per["without"] * last], mode="lines", name="without the model (estimate)",
        line={"color": HIGH_COLOUR, "width": 2, "dash": "dash"},
        hovertemplate="%{x:.1f} defects: %{y:.4~g}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=x, y=[found.fixed, found.fixed + per["with"] * last], mode="lines", name="with the model",
        line={"color": MODEL_COLOUR, "width": 2},
        hovertemplate="%{x:.1f} defects: %{y:.4~g}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=[found.defects], y=[found.total], mode="markers", name="this campaign",
        marker={"color": MODEL_COLOUR, "size": 11, "symbol": "diamond"},
        hovertemplate="this campaign: %{y:.4~g}<extra></extra>",
    )  # fmt: skip
    if not math.isinf(even):
        figure.add_vline(x=even, line={"color": GREY, "width": 1.5, "dash": "dot"})
        figure.add_annotation(
            x=even, yref="paper", y=1.0, yanchor="top", xanchor="left", xshift=5,
            text=f"break-even: {number(even, 1)}",
        )  # fmt: skip
    unit = results.fidelities.get("high", "high fidelity")
    title = "wall time, summed (s)" if found.unit == "s" else f"evaluations with {unit}"
    figure.update_xaxes(title="defects, each with as many charge states", rangemode="tozero")
    figure.update_yaxes(title=title, rangemode="tozero")
    return figure
