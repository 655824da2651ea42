"""Commands that print the benchmarks of the learning."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from defect_mf_flows.cli.app import main, refusing


@main.group()
def benchmark() -> None:
    """Measure the learning on V_Zn in ZnS with tight binding; tables go to docs/benchmarks.

    The labelled pool and every training are cached: an interrupted benchmark continues.
    """


def _options(function: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.option("--quick", is_flag=True, help="A small form, too small for conclusions."),
        click.option(
            "--out",
            type=click.Path(path_type=Path, file_okay=False),
            default=Path("docs/benchmarks"),
            show_default=True,
            help="Folder of the tables.",
        ),
        click.option(
            "--pool",
            type=click.Path(path_type=Path, file_okay=False),
            help="Cache of labels and trainings. [default: benchmark in this machine's scratch]",
        ),
        click.option("--workers", type=click.IntRange(min=1), help="Processes. [default: cores]"),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def _given(function: Callable[..., Any]) -> Callable[..., Any]:
    frames = click.option(
        "--frames",
        multiple=True,
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="Extended XYZ with your own labels of two fidelities, instead of ZnS; repeatable.",
    )
    settings = click.option(
        "--settings",
        "settings_file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="With --frames: YAML file with heads and training, as for `defect-mf train`.",
    )
    return frames(settings(function))


def _closer(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--disagreement",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="What if the fidelities agreed better: keep this share of the difference of the "
        "high labels from the low ones. [default: labels as they are]",
    )(function)


@benchmark.command()
@_options
@refusing
def charge(**options: Any) -> None:
    """Compare the charge terms: errors per charge, and in a cell of another size."""
    _run("charge", **options)


@benchmark.command()
@_options
@_given
@_closer
@refusing
def agreement(**options: Any) -> None:
    """Show how far two fidelities agree, before any model: what a strategy can gain at all.

    With --frames on labels of your own, of one defect at two fidelities; trains nothing.
    """
    _run("agreement", **options)


@benchmark.command()
@_options
@_given
@_closer
@refusing
def fidelity(**options: Any) -> None:
    """Compare the fidelity strategies against the share of high-fidelity labels.

    With --frames on labels of your own, of one defect at two fidelities.
    """
    _run("fidelity", **options)


@benchmark.command()
@_options
@_given
@refusing
def sampling(**options: Any) -> None:
    """Compare the samplers that choose frames for high fidelity, at equal numbers of labels.

    With --frames on labels of your own, of one defect at two fidelities.
    """
    _run("sampling", **options)


@benchmark.command()
@_options
@refusing
def active(**options: Any) -> None:
    """Count high-fidelity calls until all ground states are verified, per way to buy labels."""
    _run("active", **options)


@benchmark.command()
@_options
@click.option(
    "--campaign",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Search the defects of this campaign with its settings, instead of those in ZnS; tight "
    "binding takes the place of its fidelities.",
)
@refusing
def search(
    quick: bool, out: Path, pool: Path | None, workers: int | None, campaign: Path | None
) -> None:
    """Count expensive calls until the ground state, against ShakeNBreak and random starts.

    V_Zn, V_S and S_Zn in ZnS, five charges each; runs a campaign of this package, too.
    """
    from defect_mf_flows.benchmark.running import run_search

    if quick and campaign is not None:
        raise click.UsageError(
            "--quick has defects of its own, and so has --campaign; give one of them."
        )
    page = run_search(quick=quick, campaign=campaign, out=out, folder=pool, workers=workers)
    _show(page)


@benchmark.command()
@_options
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME[=PATH]",
    help="Foundation model, with a local file where it takes one; repeatable. [default: all]",
)
@click.option(
    "--campaign",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Compare with the verified ground states of this campaign, finished in --folder.",
)
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="Of the campaign.")
@refusing
def foundation(
    quick: bool,
    out: Path,
    pool: Path | None,
    workers: int | None,
    models: tuple[str, ...],
    campaign: Path | None,
    folder: Path | None,
) -> None:
    """Compare ground states of foundation models with known ones, charge by charge.

    Runs what is installed and says why the others are not run. Finished relaxations are kept:
    run it again in another environment for models that cannot be installed beside each other.
    """
    from defect_mf_flows.benchmark.running import run_foundation

    logging.getLogger("defect_mf_flows.benchmark").setLevel(logging.INFO)
    page = run_foundation(
        list(models),
        quick=quick,
        out=out,
        folder=pool,
        workers=workers,
        campaign=campaign,
        finished=folder,
    )
    _show(page)


def _run(
    name: str,
    *,
    quick: bool,
    out: Path,
    pool: Path | None,
    workers: int | None,
    frames: tuple[Path, ...] = (),
    settings_file: Path | None = None,
    disagreement: float | None = None,
) -> None:
    from defect_mf_flows.benchmark.running import run_benchmark, run_on_frames

    # Hours pass: say how far it is, without -v.
    logging.getLogger("defect_mf_flows.benchmark").setLevel(logging.INFO)
    if bool(frames) != (settings_file is not None):
        raise click.UsageError(
            "--frames and --settings belong together: labels, and a file that names their two "
            "fidelities (heads) and the training."
        )
    options: dict[str, Any] = {
        "quick": quick,
        "disagreement": disagreement,
        "out": out,
        "folder": pool,
        "workers": workers,
    }
    if settings_file is None:
        page = run_benchmark(name, **options)
    else:
        page = run_on_frames(name, list(frames), settings_file, **options)
    _show(page)


def _show(page: Path) -> None:
    click.echo(page.read_text())
    click.echo(f"page  {page}")
