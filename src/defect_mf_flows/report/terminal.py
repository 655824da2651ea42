"""What the commands print at the end: the campaign's results for a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from defect_mf_flows.core.notation import MINUS, charge_text
from defect_mf_flows.report import numbers, tables, tables_search, words
from defect_mf_flows.report.formatting import (
    ascii_number,
    duration,
    plural,
    start_text,
)
from defect_mf_flows.schemas.results import GroundState, Results
from defect_mf_flows.schemas.search import Verdict

WIDE = 112  # columns from which the ground states fit one table
LEVEL_MARKS = {
    "*": "outside the gap at high fidelity",
    "#": "not thermodynamic: one of the two charge states is never the most stable",
    "!": "perturbed host: carriers in the host's bands, an artefact of the cell's size",
    "~": "an energy behind it is an upper bound: see the ground states",
}
VERDICT_STYLE = {
    Verdict.CONFIRMED: "bold green",
    Verdict.LOWER: "bold blue",
    Verdict.WRONG: "bold red",
}


def print_summary(results: Results, console: Console) -> None:
    """Print what the campaign found.

    Parameters
    ----------
    results
        The results.
    console
        Where to print. Narrow consoles get the ground states in two tables; numbers are
        never cut.
    """
    low, high = results.fidelities.get("low", "-"), results.fidelities.get("high", "-")
    host = results.host
    console.print(
        Text(f"{results.campaign}", style="bold")
        + Text(f"  {host.get('formula', '')}, {host.get('n_atoms', '?')}-atom cell")
        + Text(f"  low {low}, high {high}", style="dim")
    )
    if results.disclaimer:
        console.print(
            Panel(Text(results.disclaimer), title="disclaimer", border_style="yellow", expand=False)
        )
    _ground_states(results, console)
    _search(results, console)
    _levels(results, console)
    _metrics(results, console)
    _cost(results, console)
    _ending(results, console)


def _charge(charge: int) -> str:
    return charge_text(charge)


def _milli(value: float | None, digits: int = 1) -> str:
    return ascii_number(None if value is None else 1000 * value, digits, signed=True)


def _table(title: str, columns: list[tuple[str, str]]) -> Table:
    """Table whose numbers are never wrapped or cut: ``"n"`` number, ``"w"`` word, ``"t"`` text."""
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
    )
    for name, kind in columns:
        table.add_column(
            name,
            justify="right" if kind == "n" else "left",
            no_wrap=kind != "t",
            overflow="fold",
            min_width=None if kind == "t" else max(len(part) for part in name.split("\n")),
        )
    return table


def _show(table: Table, console: Console) -> None:
    console.print()
    console.print(table)


def _verdict(verdict: Verdict) -> Text:
    return Text(verdict.value, style=VERDICT_STYLE[verdict])


def _low(ground: GroundState) -> Text:
    if not ground.low_start:
        return Text("-")
    if ground.low_is_open:
        return Text("open", style="yellow")
    if ground.low_is_ground_state:
        return Text("true", style="green")
    return Text("refuted", style="bold red")


_NAME = {
    "defect": ("defect", "t"),
    "charge": ("q", "n"),
    "verdict": ("verdict", "w"),
    "energy": ("E(HF)\neV/cell", "n"),
    "error": ("model err\nmeV/cell", "n"),
    "rmsd": ("RMSD\nA", "n"),
    "local": ("local\nRMSD A", "n"),
    "max": ("max\nshift A", "n"),
    "start": ("start", "t"),
    "low": ("LF ground\nstate", "w"),
    "excess": ("LF above\nmeV/cell", "n"),
}
_ONE = list(_NAME)
_TWO = {
    "Ground states": ["defect", "charge", "verdict", "energy", "start", "low"],
    "Ground states: errors": ["defect", "charge", "error", "rmsd", "local", "max", "excess"],
}


def _ground_states(results: Results, console: Console) -> None:
    if not results.ground_states:
        console.print("No ground state was found.")
        return
    parts = {"Ground states": _ONE} if console.width >= WIDE else _TWO
    for title, names in parts.items():
        table = _table(title, [_NAME[name] for name in names])
        for ground in results.ground_states:
            cells = _ground_cells(ground)
            table.add_row(*(cells[name] for name in names))
        _show(table, console)
    for ground in results.ground_states:
        if ground.verdict is Verdict.WRONG:
            where = f"{ground.defect} {_charge(ground.charge)} wrong: "
            console.print(Text(where, style="red") + Text(ground.reason))
        if ground.is_upper_bound:
            where = f"{ground.defect} {_charge(ground.charge)} upper bound: "
            told = words.upper_bound(ground).replace(MINUS, "-").replace("Å", "A")
            console.print(Text(where, style="yellow") + Text(told))
    for ground in numbers.open_low(results):
        where = f"{ground.defect} {_charge(ground.charge)} open: "
        console.print(
            Text(where, style="yellow") + Text(words.open_low(ground).replace(MINUS, "-"))
        )


def _ground_cells(ground: GroundState) -> dict[str, Text | str]:
    return {
        "defect": Text(ground.defect),
        "charge": _charge(ground.charge),
        "verdict": _verdict(ground.verdict),
        "energy": ascii_number(ground.energy_hf),
        "error": _milli(ground.energy_error),
        "rmsd": ascii_number(ground.rmsd),
        "local": ascii_number(ground.local_rmsd),
        "max": ascii_number(ground.max_displacement),
        "start": Text(start_text(ground.start).replace(MINUS, "-")),
        "low": _low(ground),
        "excess": _milli(ground.low_excess),
    }


def _search(results: Results, console: Console) -> None:
    told = (tables_search.refinement_sentence(results), tables_search.threshold_sentence(results))
    if any(told):
        console.print()
    for sentence in filter(None, told):
        console.print(Text(sentence))


def _levels(results: Results, console: Console) -> None:
    if not results.transition_levels:
        console.print(f"\nNo transition levels: {words.no_levels_because(results)}.")
        return
    gap = f", gap {results.band_edges.gap:.3f} eV" if results.band_edges else ""
    table = _table(
        f"Transition levels above the VBM{gap}",
        [
            ("defect", "t"),
            ("level", "w"),
            ("HF\neV", "n"),
            ("model\neV", "n"),
            ("LF alone\neV", "n"),
            ("model-HF\nmeV", "n"),
            ("LF-HF\nmeV", "n"),
            ("", "w"),
        ],
    )
    seen: set[str] = set()
    for level in results.transition_levels:
        marks = "*" if numbers.outside_gap(level.hf, results) else ""
        marks += "" if level.thermodynamic else "#"
        marks += "!" if level.perturbed_host else ""
        marks += "~" if level.unfinished else ""
        seen |= set(marks)
        table.add_row(
            Text(level.defect),
            f"({_charge(level.from_charge)}/{_charge(level.to_charge)})",
            ascii_number(level.hf),
            ascii_number(level.model),
            ascii_number(level.low),
            _milli(numbers.difference(level.model, level.hf)),
            _milli(numbers.difference(level.low, level.hf)),
            marks,
        )
    _show(table, console)
    for mark, meaning in LEVEL_MARKS.items():
        if mark in seen:
            console.print(Text(f"{mark} {meaning}", style="dim"))
    console.print(Text(f"Finite-size correction: {results.correction}"))
    for item in (u for u in results.uncertainty if u.source == "model"):
        for order in item.orders:
            console.print(
                Text(
                    f"{item.defect}: {_pair(order.lower)} below {_pair(order.upper)} with "
                    f"{100 * order.probability:.0f} % (committee of {item.members})"
                )
            )


def _pair(charges: tuple[int, int]) -> str:
    return f"({_charge(charges[0])}/{_charge(charges[1])})"


def _metrics(results: Results, console: Console) -> None:
    rows = [m for m in tables.sorted_metrics(results) if m.split == numbers.HELD_OUT]
    if not rows:
        console.print("\nNo held-out frames: the model's error is not known.")
        return
    table = _table(
        "Errors (RMSE) on held-out frames",
        [
            ("head", "t"),
            ("q", "n"),
            ("frames", "n"),
            ("meV/cell", "n"),
            ("relative\nmeV/cell", "n"),
            ("meV/atom", "n"),
            ("meV/A", "n"),
        ],
    )
    for m in rows:
        table.add_row(
            Text(m.head),
            _charge(m.charge),
            str(m.n_frames),
            ascii_number(m.energy_rmse_cell, 1),
            ascii_number(m.relative_energy_rmse_cell, 1),
            ascii_number(m.energy_rmse_atom, 2),
            ascii_number(m.force_rmse, 1),
        )
    _show(table, console)


def _cost(results: Results, console: Console) -> None:
    if not results.cost:
        return
    table = _table(
        "Cost",
        [
            ("stage", "t"),
            ("with", "t"),
            ("calculations", "n"),
            ("reused", "n"),
            ("evaluations", "n"),
            ("seconds", "n"),
        ],
    )
    for c in results.cost:
        table.add_row(
            Text(c.stage),
            Text(c.fidelity or "model"),
            str(c.jobs),
            str(c.reused),
            str(c.calls),
            ascii_number(c.seconds, 1),
        )
    _show(table, console)
    total = duration(sum(c.seconds for c in results.cost))
    calls = [f"{n} evaluations with {f}" for f, n in numbers.reference_calls(results).items()]
    console.print(Text(f"{', '.join(calls)}; {total} in all"))


def _ending(results: Results, console: Console) -> None:
    counts = numbers.verdict_counts(results)
    verdicts = ", ".join(f"{counts[v]} {v.value}" for v in Verdict)
    searched = numbers.searched_low(results)
    refuted = len(numbers.refuted_low(results))
    console.print(
        Text("\nVerdicts: ", style="bold")
        + Text(f"{verdicts}; low-fidelity ground state refuted for {refuted} of {len(searched)}")
    )
    labels = results.counts.get("labels", {})
    frames = results.counts.get("frames", {})
    told = [f"{f} {frames.get(f, '-')}/{labels.get(f, '-')}" for f in {**frames, **labels}]
    if told:
        console.print(
            Text("Frames/labels: ", style="bold") + Text(", ".join(told), overflow="fold")
        )
    reasons = tables.failure_counts(results)
    listed = ", ".join(f"{n} {reason}" for reason, n in reasons.items()) or "none"
    console.print(Text("Failures: ", style="bold") + Text(listed))
    console.print(
        Text("Stopped: ", style="bold")
        + Text(results.stop.value, style="bold")
        + Text(f" after {plural(len(results.rounds), 'round')}: {_reason(results)}")
    )


def _reason(results: Results) -> str:
    """Why the loop ended, with charge states as the tables write them."""
    reason = results.stop_reason
    for key in numbers.judged_states(results):
        defect, charge = key.split("|")
        reason = reason.replace(key, f"{defect} {charge_text(int(charge))}")
    return reason
