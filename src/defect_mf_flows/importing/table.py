"""The table that a dry run prints, and the messages after it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table
from rich.text import Text

from defect_mf_flows.importing.plan import Plan
from defect_mf_flows.importing.rows import Row, State

_STYLES = {
    State.NEW: "green",
    State.STORED: "dim",
    State.DUPLICATE: "yellow",
    State.REFUSED: "red",
}


def plan_table(plan: Plan) -> Table:
    """One line per calculation.

    Parameters
    ----------
    plan
        What an import would do.

    Returns
    -------
    rich.table.Table
        To print.
    """
    table = Table(box=None, pad_edge=False)
    for heading in ("calculation", "defect"):
        table.add_column(heading, overflow="fold")
    for heading in ("charge", "frames", "last energy / eV"):
        table.add_column(heading, justify="right")
    for heading in ("k-points", "method", ""):
        table.add_column(heading)
    for row in plan.rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Row) -> list[Text]:
    known = bool(row.frames)
    charge = "" if row.charge is None else f"{row.charge:+d}" if row.charge else "0"
    shown = [
        row.label,
        (row.defect or ("host" if row.state is not State.REFUSED else "")) if known else "",
        charge,
        str(row.n_frames) if known else "",
        f"{row.energy:.4f}" if row.energy is not None else "",
        row.kpoints,
        method_text(row),
    ]
    return [*map(Text, shown), Text(str(row.state), style=_STYLES[row.state])]


def method_text(row: Row) -> str:
    """Method in a few words, for example ``GGA PE AEXX 0.25 ENCUT 500``."""
    method = row.method
    names = ["METAGGA"] if method.get("METAGGA", "--") != "--" else ["GGA"]
    names += ["AEXX", "HFSCREEN", "ENCUT"] if method.get("LHFCALC") else ["ENCUT"]
    found = [f"{n} {_short(method[n])}" for n in names if method.get(n) is not None]
    return " ".join(found) or " ".join(f"{k} {_short(v)}" for k, v in sorted(method.items())[:3])


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def messages(plan: Plan) -> Iterator[str]:
    """Every note about every calculation, one line each.

    Parameters
    ----------
    plan
        What an import would do.

    Yields
    ------
    str
        ``"refused  PLACE: why"``; nothing is left out in silence.
    """
    yield from plan.messages
    for row in plan.rows:
        word = {State.REFUSED: "refused", State.DUPLICATE: "duplicate"}.get(row.state, "note")
        for number, note in enumerate(row.notes):
            kind = word if number == 0 else "note"
            yield f"{kind:9s} {row.label}: {note}"


def summary(plan: Plan) -> str:
    """Numbers of calculations and frames, and where the charges and the host came from."""
    new = plan.of(State.NEW)
    hosts = sum(row.defect is None for row in new)
    charged = sum(row.charge != 0 for row in new)
    parts = [
        f"{len(new)} new calculations with {plan.n_frames} frames",
        f"{hosts} of the host, {len(new) - hosts} of defects ({charged} charged, "
        f"{len(new) - hosts - charged} neutral)",
    ]
    for state in (State.STORED, State.DUPLICATE, State.REFUSED):
        if found := plan.of(state):
            what = "already stored" if state is State.STORED else str(state)
            parts.append(f"{len(found)} {what}")
    return "; ".join(parts)
