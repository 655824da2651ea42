"""`defect-mf vibrations` and `defect-mf md`: charged cells at a temperature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from defect_mf_flows.cli.app import main, refusing
from defect_mf_flows.cli.cells import CellChoice, cell_options

_OUT = click.Path(path_type=Path, dir_okay=False)
_JSON = click.option("--json", "json_file", type=_OUT, help="Write everything, '-' to print it.")


@main.command()
@cell_options
@click.option(
    "--temperature",
    "temperatures",
    multiple=True,
    type=click.FloatRange(0, 5000),
    metavar="K",
    help="Temperature, repeatedly for several. [default: 0 300 600 900]",
)
@click.option(
    "--fmax",
    type=click.FloatRange(min=0, min_open=True),
    default=0.002,
    show_default=True,
    help="Largest force of a minimum, eV/A; more is refused.",
)
@click.option(
    "--steps",
    type=click.IntRange(0),
    default=2000,
    show_default=True,
    help="FIRE steps to the model's own minimum; 0 takes the geometry as it is.",
)
@click.option(
    "--follow",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Times that a relaxation which ended in a saddle point goes on downhill.",
)
@click.option(
    "--step", type=click.FloatRange(0.0005, 0.1), default=0.01, show_default=True,
    help="Finite displacement, A.",
)  # fmt: skip
@click.option(
    "--strain",
    "strains",
    multiple=True,
    type=click.FloatRange(-0.2, 0.2),
    help="Quasi-harmonic: linear strain of the cell; give five or more.",
)
@_JSON
@click.option("--figure", type=_OUT, help="Free energies and levels (.png, .svg, .pdf).")
@refusing
def vibrations(
    temperatures: tuple[float, ...],
    fmax: float,
    steps: int,
    follow: int,
    step: float,
    strains: tuple[float, ...],
    device: str,
    json_file: Path | None,
    figure: Path | None,
    **given: Any,
) -> None:
    """Vibrational free energies of charged cells, and the shifts of their levels.

    Takes the verified ground states of a finished CAMPAIGN, or one structure and a model. Each
    charge is relaxed to the model's own minimum first; a saddle point is refused.
    """
    from defect_mf_flows.cli.bars import progress_bars, results_alone
    from defect_mf_flows.learning.vibrations import VibrationOptions
    from defect_mf_flows.report.picture import check_ending
    from defect_mf_flows.report.vibrations_figure import vibration_lines

    if strains and len(strains) < 5:
        raise click.UsageError("--strain: an equation of state needs at least five.")
    check_ending(figure)
    kelvins = tuple(sorted(set(temperatures))) or VibrationOptions.temperatures
    options = VibrationOptions(kelvins, fmax=fmax, steps=steps, step=step, follow=follow)
    with results_alone(), progress_bars() as bars:
        from defect_mf_flows.results.vibrations import vibration_report

        cells = CellChoice(**given).read()
        found = vibration_report(
            cells, options, strains=sorted(strains), device=device, progress=bars
        )
    _write(found.model_dump_json(indent=1), json_file, list(vibration_lines(found)))
    if figure is not None:
        from defect_mf_flows.report.vibrations_figure import write_vibrations

        write_vibrations(found, figure)
        click.echo(f"wrote {figure}", err=True)


@main.command()
@cell_options
@click.option(
    "--trajectory",
    type=_OUT,
    required=True,
    help="Extended XYZ to write; one of the same dynamics is continued, no other is touched.",
)
@click.option(
    "--steps", type=click.IntRange(1), default=1000, show_default=True,
    help="Steps in all; more than there are continue the trajectory.",
)  # fmt: skip
@click.option(
    "--temperature", type=click.FloatRange(min=1, max=20000), default=300.0, show_default=True,
    help="Of the thermostat, K.",
)  # fmt: skip
@click.option(
    "--timestep", type=click.FloatRange(0.01, 20), default=1.0, show_default=True, help="fs."
)
@click.option(
    "--friction", type=click.FloatRange(1e-6, 1), default=0.01, show_default=True,
    help="Of the Langevin thermostat, 1/fs.",
)  # fmt: skip
@click.option(
    "--every", type=click.IntRange(1), default=10, show_default=True, help="Steps per frame."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--around", type=float, nargs=3, metavar="X Y Z",
    help="With --structure: fractional coordinates of the defect, to follow its bonds.",
)  # fmt: skip
@_JSON
@click.option("--figure", type=_OUT, help="Temperature and bonds in time (.png, .svg, .pdf).")
@refusing
def md(
    trajectory: Path,
    steps: int,
    temperature: float,
    timestep: float,
    friction: float,
    every: int,
    seed: int,
    around: tuple[float, float, float] | None,
    device: str,
    json_file: Path | None,
    figure: Path | None,
    **given: Any,
) -> None:
    """Molecular dynamics of a charged cell on the model (NVT, Langevin).

    Takes the verified ground state of one charge of a finished CAMPAIGN, or a structure and a
    model. Each frame carries charge and fidelity. The same command continues after a kill; when
    atoms explode the trajectory ends before them, with exit status 1.
    """
    from defect_mf_flows.cli.bars import progress_bars, results_alone
    from defect_mf_flows.report.dynamics_figure import dynamics_lines, write_dynamics
    from defect_mf_flows.report.picture import check_ending
    from defect_mf_flows.schemas.dynamics import DynamicsEnd, DynamicsSettings

    check_ending(figure)
    settings = DynamicsSettings(
        temperature=temperature, timestep=timestep, friction=friction, every=every, seed=seed
    )
    with results_alone(), progress_bars() as bars:
        from defect_mf_flows.results.dynamics import cell_dynamics

        cells = CellChoice(**given).read(around)
        found = cell_dynamics(
            cells, settings, trajectory, steps=steps, device=device, progress=bars("steps")
        )
    _write(found.model_dump_json(indent=1), json_file, list(dynamics_lines(found)))
    if figure is not None:
        write_dynamics(found, figure)
        click.echo(f"wrote {figure}", err=True)
    if found.end is DynamicsEnd.EXPLODED:
        raise click.exceptions.Exit(1)


def _write(text: str, json_file: Path | None, lines: list[str]) -> None:
    if str(json_file) == "-":
        click.echo(text)
        return
    for line in lines:
        click.echo(line)
    if json_file is not None:
        json_file.write_text(text + "\n", encoding="utf-8")
        click.echo(f"wrote {json_file}", err=True)
