"""Command that looks whether the host is a minimum of each fidelity."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import click

from defect_mf_flows.cli.app import CAMPAIGN, main, refusing


@main.command()
@CAMPAIGN
@click.option(
    "--rattle",
    type=click.FloatRange(0, 0.5, min_open=True),
    default=0.1,
    show_default=True,
    help="Standard deviation of the displacements, Angstrom.",
)
@click.option("--fidelity", "only", multiple=True, help="Only this one; repeatable. [default: all]")
@refusing
def host(campaign: Path, rattle: float, only: tuple[str, ...]) -> None:
    """Relax the pristine host from displaced atoms, and tell whether they come back.

    Computes here, some ten to thirty calls with each fidelity; stopped, the same command goes on.
    Where atoms do not come back, the host is no minimum of that method, and relaxed defects would
    show that and not the defect; the exit status is then 1.
    """
    from defect_mf_flows.local.host_check import check_host

    if not math.isfinite(rattle):  # which no range refuses
        raise click.BadParameter(f"{rattle} is no distance.", param_hint="--rattle")
    held = True
    for check in check_host(campaign, rattle=rattle, only=only):
        held = held and check.held
        mark = "held    " if check.held else "NOT HELD"
        found = "no end"
        if check.energy is not None and check.moved is not None:
            found = f"{check.energy:+.3f} eV per cell, atoms up to {check.moved:.2f} A away"
        why = f"; {check.trouble}" if check.trouble else ""
        click.echo(f"{mark} {check.fidelity}: {found}, {check.calls} calls{why}")
    if held:
        return
    click.echo(
        "Relax the host's structure file with the method that does not hold it, or choose "
        "another phase, cell or method."
    )
    sys.exit(1)
