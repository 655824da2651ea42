"""Tables of formation energies and transition levels, for terminals and spreadsheets."""

from __future__ import annotations

import csv
import io

from rich.console import Console
from rich.table import Table

from defect_mf_flows.core.notation import charge_text
from defect_mf_flows.schemas.levels import ChemicalLimit, Concentrations, LevelPair, LevelReport

FORMATION = "E(formation) / eV"


def pair_text(level: LevelPair) -> str:
    """Charges of a level, for example ``(0/-1)``."""
    return f"({charge_text(level.from_charge)}/{charge_text(level.to_charge)})"


def remark(level: LevelPair) -> str:
    """What to know about a level."""
    words = [] if level.stable else ["metastable"]
    if not level.in_gap:
        words.append("outside the gap")
    if level.perturbed_host:
        words.append("perturbed host")
    return ", ".join(words)


def level_table(report: LevelReport) -> Table:
    """Levels, one per row.

    Parameters
    ----------
    report
        The levels.
    """
    table = Table(box=None, pad_edge=False, title="Transition levels", title_justify="left")
    for heading, justify in (("defect", "left"), ("level", "left"), ("eV above VBM", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    table.add_column("")
    for level in report.levels:
        table.add_row(level.defect, pair_text(level), f"{level.energy:.3f}", remark(level))
    return table


def state_table(report: LevelReport) -> Table:
    """Minima, one per row.

    Parameters
    ----------
    report
        The levels.
    """
    table = Table(box=None, pad_edge=False, title="Charge states", title_justify="left")
    table.add_column("defect")
    headings = ["charge", "E(cell) / eV", "correction / eV"]
    # With limits there is no one formation energy; they have tables of their own.
    for heading in headings if report.limits else [*headings, FORMATION]:
        table.add_column(heading, justify="right")
    table.add_column("")
    table.add_column("from", overflow="fold")
    for state in report.states:
        correction = state.correction
        shown = "" if correction is None or not state.charge else f"{correction.energy:.3f}"
        if correction is not None and state.charge:
            shown += f" {correction.method}"
        rank = "lowest" if state.ground else f"+{1000 * state.above:.1f} meV"
        formation = [] if report.limits else [f"{state.formation:.3f}"]
        table.add_row(
            state.defect, charge_text(state.charge), f"{state.energy:.4f}", shown,
            *formation, rank, state.label,
        )  # fmt: skip
    return table


def limit_table(limit: ChemicalLimit) -> Table:
    """Formation energies of the lowest minima at a limit of the chemical potentials.

    Parameters
    ----------
    limit
        The limit.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("defect")
    table.add_column("charge", justify="right")
    table.add_column(FORMATION, justify="right")
    for item in (f for f in limit.formation if f.ground):
        table.add_row(item.defect, charge_text(item.charge), f"{item.energy:.3f}")
    return table


def inverted(charge: int, upper: float, lower: float) -> str:
    """Say in words that negative U passes a charge by.

    Parameters
    ----------
    charge
        The charge.
    upper, lower
        Levels (charge+1/charge) and (charge/charge-1), eV above the valence-band maximum.
    """
    above, own, below = (charge_text(q) for q in (charge + 1, charge, charge - 1))
    return (
        f"charge {own} is nowhere stable (negative U, {lower - upper:.3f} eV): ({own}/{below}) at "
        f"{lower:.3f} eV lies below ({above}/{own}) at {upper:.3f} eV"
    )


def remarks(report: LevelReport) -> list[str]:
    """What the reader must know, one line each."""
    found = [
        f"{item.defect}: {inverted(item.charge, item.upper, item.lower)}"
        for item in report.negative_u
    ]
    found += [
        f"{s.label} ({s.defect} {charge_text(s.charge)}): perturbed host state, "
        f"{s.perturbed_host}; do not read its levels as deep ones"
        for s in report.states
        if s.perturbed_host is not None
    ]
    solved = [*report.concentrations, *(c for limit in report.limits for c in limit.concentrations)]
    if solved:
        found.append(
            f"concentrations: host's density of states from {solved[0].dos}; dilute "
            "limit, the lowest minimum of every charge, no vibrations"
        )
    return [*found, *report.notes]


def concentration_table(found: Concentrations, limit: str = "") -> Table:
    """Concentrations at one temperature, one charge state per row.

    Parameters
    ----------
    found
        The concentrations.
    limit
        Name of the limit of the chemical potentials; empty if there is none.
    """
    where = f"{found.temperature:g} K{', ' if limit else ''}{limit}"
    if found.frozen_from is not None:
        where += f", defects frozen in at {found.frozen_from:g} K"
    table = Table(
        box=None, pad_edge=False, title_justify="left",
        title=f"Concentrations at {where}: Fermi level {found.fermi_level:.3f} eV above the VBM",
    )  # fmt: skip
    table.add_column("")
    table.add_column("charge", justify="right")
    table.add_column("cm^-3", justify="right")
    table.add_column(FORMATION, justify="right")
    for item in found.defects:
        table.add_row(
            item.defect, charge_text(item.charge), f"{item.concentration:.2e}",
            f"{item.formation:.3f}",
        )  # fmt: skip
    table.add_row("electrons", "-1", f"{found.electrons:.2e}", "")
    table.add_row("holes", "+1", f"{found.holes:.2e}", "")
    if found.dopant:
        table.add_row("dopant (fixed)", "", f"{found.dopant:+.2e}", "")
    return table


def print_levels(report: LevelReport) -> None:
    """Print tables and remarks to the terminal."""
    console = Console()
    # A pipe has no width; a table that is cut loses numbers.
    wide = console if console.is_terminal else Console(width=160)
    edges = report.band_edges
    wide.print(
        f"{report.host}, {report.fidelity}: VBM {edges.vbm:.4f} eV, gap {edges.gap:.4f} eV "
        f"({report.edges_from})",
        highlight=False,
    )
    wide.print(state_table(report))
    wide.print(level_table(report))
    for found in report.concentrations:
        wide.print(concentration_table(found))
    for limit in report.limits:
        told = ", ".join(f"{symbol} {value:.3f}" for symbol, value in limit.mu.items())
        wide.print(f"Formation energies, {limit.name} ({told} eV)", style="italic", markup=False)
        wide.print(limit_table(limit))
        for found in limit.concentrations:
            wide.print(concentration_table(found, limit.name))
    for line in remarks(report):
        wide.print(f"note  {line}", highlight=False, markup=False)


def levels_csv(report: LevelReport) -> str:
    """Levels as CSV.

    Parameters
    ----------
    report
        The levels.

    Returns
    -------
    str
        With a header; energies in eV above the valence-band maximum.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        [
            "fidelity", "defect", "from_charge", "to_charge", "energy_eV", "stable", "in_gap",
            "perturbed_host_charges",
        ]
    )  # fmt: skip
    for level in report.levels:
        writer.writerow(
            [
                report.fidelity, level.defect, level.from_charge, level.to_charge,
                f"{level.energy:.6f}", level.stable, level.in_gap,
                " ".join(f"{q:+d}" for q in level.perturbed_host),
            ]
        )  # fmt: skip
    return stream.getvalue()
