"""Commands of one machine: validate, run, status, results, report, doctor."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from defect_mf_flows.cli.app import CAMPAIGN, FOLDER, SITE, main, refusing
from defect_mf_flows.cli.places import place, reachable


@main.command()
@click.argument("campaign", type=click.Path(path_type=Path), required=False)
@click.option("--schema", is_flag=True, help="Print every field of a campaign file and stop.")
@refusing
def validate(campaign: Path | None, schema: bool) -> None:
    """Check a campaign file, and what it names, without computing anything."""
    from defect_mf_flows.campaign import load_campaign

    if schema:
        click.echo(_schema_text())
        return
    if campaign is None:
        raise click.UsageError("give a CAMPAIGN file, or --schema.")
    loaded, structure = load_campaign(campaign)
    from defect_mf_flows.campaign import campaign_hash, summary

    for line in summary(loaded, structure):
        click.echo(line)
    click.echo(f"hash        {campaign_hash(loaded, structure)[:16]}")
    if any(fidelity.engine == "vasp" for fidelity in loaded.fidelities.values()):
        from defect_mf_flows.engines.vasp.preview import describe_vasp

        for line in describe_vasp(loaded, structure):
            click.echo(line)


@main.command()
@CAMPAIGN
@FOLDER
@click.option("--workers", type=click.IntRange(min=1), help="Worker processes. [default: cores]")
@click.option(
    "--serial",
    is_flag=True,
    help="Without mongod: one process, an on-disk store. An interrupted run starts again from "
    "the beginning; only trainings continue.",
)
@refusing
def run(campaign: Path, folder: Path | None, workers: int | None, serial: bool) -> None:
    """Compute a campaign on this machine; the same command continues an interrupted one.

    Starts a private mongod in the campaign's folder and one single-threaded worker per core,
    and stops them in the end. Writes results.json and report.html into the folder.
    """
    from defect_mf_flows.local.campaign import run_campaign

    results, where = run_campaign(campaign, folder=folder, workers=workers, serial=serial)
    _print_summary(results)
    click.echo(f"\nresults  {where / 'results.json'}\nreport   {where / 'report.html'}")


@main.command()
@click.argument("campaign", type=click.Path(path_type=Path), required=False)
@FOLDER
@SITE
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@refusing
def status(campaign: Path | None, folder: Path | None, site: Path | None, as_json: bool) -> None:
    """Show how far a campaign is: jobs per stage, running, failed, time to go.

    On a site also per worker category, with reasons of failures, what killed processes left
    behind, and what each fidelity has cost. There CAMPAIGN may be a file, a name or the first
    digits of a hash; without it, all campaigns are listed.
    """
    if campaign is not None:
        shown, plain = place(campaign, folder, site).status()
    elif site is None or folder is not None:
        raise click.UsageError("give a CAMPAIGN file, or --site to list all of a site.")
    else:
        shown, plain = _all_campaigns(site)
    if as_json:
        click.echo(json.dumps(plain, indent=2))
    else:
        Console().print(shown)


@main.command()
@CAMPAIGN
@FOLDER
@SITE
@click.option("--json", "as_json", is_flag=True, help="Print results.json instead of tables.")
@refusing
def results(campaign: Path, folder: Path | None, site: Path | None, as_json: bool) -> None:
    """Print ground states, transition levels, errors and costs of a finished campaign."""
    from defect_mf_flows.results import results_json

    found = place(campaign, folder, site).results()
    if as_json:
        click.echo(results_json(found), nl=False)
    else:
        _print_summary(found)


@main.command()
@refusing
def doctor() -> None:
    """Check what this machine can do: engines, learning, mongod, cores, disk."""
    from defect_mf_flows.local.doctor import examine

    broken = False
    for check in examine():
        mark = {"ok": "ok     ", "missing": "missing", "broken": "broken "}[check.state]
        click.echo(f"{mark} {check.name}: {check.message}")
        broken = broken or check.state == "broken"
    if broken:
        sys.exit(1)


def _schema_text() -> str:
    """Every field with type, default and meaning, as commented YAML."""
    from defect_mf_flows.campaign import describe_fields

    return "\n".join(describe_fields())


def _all_campaigns(folder: Path) -> tuple[Any, Any]:
    from dataclasses import asdict

    from defect_mf_flows.site.connection import Site
    from defect_mf_flows.site.printing import render_campaigns
    from defect_mf_flows.site.status import all_campaigns

    site = Site.of(folder)
    with reachable(site):
        lines = all_campaigns(site.launchpad())
    return render_campaigns(lines), [asdict(line) for line in lines]


def _print_summary(found: Any) -> None:
    from defect_mf_flows.report.terminal import print_summary

    print_summary(found, Console())
