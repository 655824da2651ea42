"""`defect-mf levels`: formation energies and transition levels of stored calculations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from defect_mf_flows.cli.app import SITE, main, refusing

_METHODS = ["eFNV", "FNV", "point-charge", "none"]
_OUT = click.Path(path_type=Path, dir_okay=False)


@main.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder that was imported into, or a campaign's. [default: imported]",
)
@SITE
@click.option("--campaign", help="Name or hash of a campaign, if the store holds several.")
@click.option("--fidelity", help="Name of the method, if the store holds several.")
@click.option("--defect", multiple=True, help="Defect, for example v_Zn. [default: all]")
@click.option(
    "--dielectric",
    help="Static dielectric constant of the host, ionic part included: one number, three "
    "(diagonal) or nine (rows), in quotes.",
)
@click.option("--vbm", type=float, help="Valence-band maximum, eV. [default: the host's run]")
@click.option("--gap", type=float, help="Band gap, eV. [default: the host's run]")
@click.option(
    "--correction",
    type=click.Choice(_METHODS, case_sensitive=False),
    help="Finite-size correction. [default: eFNV if --dielectric is given]",
)
@click.option("--mu", multiple=True, metavar="EL=EV", help="Chemical potential, eV per atom.")
@click.option(
    "--limits",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Named sets of chemical potentials: YAML, or the JSON of doped's "
    "CompetingPhasesAnalyzer.chempots. One table and figure each.",
)
@click.option(
    "--options",
    "options_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="YAML file with dielectric, vbm, gap, correction, mu, limits; options given here count "
    "more.",
)
@click.option(
    "--concentrations",
    is_flag=True,
    help="Also the equilibrium Fermi level and concentrations; needs --mu or --limits, and "
    "--dos or --masses.",
)
@click.option(
    "--dos",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="vasprun.xml of a static run of the host, dense k-points.",
)
@click.option(
    "--masses",
    type=float,
    nargs=2,
    metavar="ME MH",
    help="Instead of --dos: effective masses of electrons and holes, for parabolic bands.",
)
@click.option(
    "--temperature",
    multiple=True,
    type=click.FloatRange(min=1, max=5000),
    metavar="K",
    help="Temperature; may be given repeatedly. [default: 300]",
)
@click.option(
    "--frozen-from",
    type=click.FloatRange(min=1, max=5000),
    metavar="K",
    help="Defects equilibrate at this temperature, only their charges at --temperature.",
)
@click.option(
    "--dopant",
    type=float,
    default=0.0,
    metavar="CM-3",
    help="Fixed charge of a dopant; donors positive.",
)
@click.option("--json", "json_file", type=_OUT, help="Write everything, '-' for the terminal.")
@click.option("--csv", "csv_file", type=_OUT, help="Write the levels.")
@click.option(
    "--figure", type=_OUT, help="Formation-energy diagram (.png, .svg, .pdf)."
)  # fmt: skip
@refusing
def levels(
    folder: Path | None,
    site: Path | None,
    campaign: str | None,
    options_file: Path | None,
    json_file: Path | None,
    csv_file: Path | None,
    figure: Path | None,
    concentrations: bool,
    dos: Path | None,
    masses: tuple[float, float] | None,
    temperature: tuple[float, ...],
    frozen_from: float | None,
    dopant: float,
    **given: Any,
) -> None:
    """Transition levels with finite-size corrections from stored calculations.

    They are imported ones, or the host and finished relaxations of a campaign; the lowest
    minimum of every charge counts. eFNV takes the core potentials of host and defects from the
    store or from their OUTCARs; what it finds is kept and not computed again.

    With --concentrations doped solves for charge neutrality between defects and bands.
    """
    from defect_mf_flows.cli.query import open_results
    from defect_mf_flows.report.level_tables import levels_csv, print_levels
    from defect_mf_flows.report.picture import check_ending
    from defect_mf_flows.results import Records
    from defect_mf_flows.results.concentrations import ConcentrationOptions
    from defect_mf_flows.results.level_options import read_options
    from defect_mf_flows.results.levels import stored_levels

    check_ending(figure)
    options = read_options(options_file, given)
    if concentrations:
        asked = ConcentrationOptions(temperature or (300.0,), frozen_from, dopant, dos, masses)
        options = replace(options, concentrations=asked)
    elif dos or masses or temperature or frozen_from or dopant:
        raise click.UsageError(
            "--dos, --masses, --temperature, --frozen-from and --dopant go with --concentrations."
        )
    if folder is None and site is None:
        folder = Path("imported")
    with open_results(folder.resolve() if folder else None, site) as store:
        records = Records(store) if campaign is None else Records(store, campaign=campaign)
        found = stored_levels(records, options)
    text = found.model_dump_json(indent=1)
    if str(json_file) == "-":
        click.echo(text)
    else:
        print_levels(found)
        if json_file is not None:
            json_file.write_text(text + "\n", encoding="utf-8")
    if csv_file is not None:
        csv_file.write_text(levels_csv(found), encoding="utf-8")
    written = [path for path in (json_file, csv_file) if path is not None]
    if figure is not None:
        from defect_mf_flows.report.diagram import write_diagrams

        written += write_diagrams(found, figure)
    for path in written:
        if str(path) != "-":
            click.echo(f"wrote {path}", err=True)
