"""Commands of a site: submit, worker."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from defect_mf_flows.cli.app import CAMPAIGN, main, refusing, use_fireworks_config

HERE = click.option(
    "--site",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="DEFECT_MF_SITE",
    show_envvar=True,
    default=Path(),
    callback=use_fireworks_config,
    help="Folder of the site's files. [default: this folder]",
)


@main.command()
@CAMPAIGN
@HERE
@refusing
def submit(campaign: Path, folder: Path) -> None:
    """Add a campaign to a site's LaunchPad; its workers compute it."""
    from defect_mf_flows.settings import read_settings
    from defect_mf_flows.site.connection import Site
    from defect_mf_flows.site.submit import submit_campaign

    site = Site.of(folder)
    site.check()
    settings = read_settings(site.settings)
    key, count = submit_campaign(campaign, site.launchpad(), settings)
    click.echo(f"submitted {key[:16]} with its first {count} jobs; they spawn the others.")


@main.command()
@HERE
@click.option(
    "--fworker", default="my_fworker.yaml", show_default=True, help="Worker file of the site."
)
@click.option("--idle", default=5.0, show_default=True, help="Seconds between looks for work.")
@click.option(
    "--linger", default=0.0, show_default=True, help="Seconds without work after which to end."
)
@click.argument("mode", type=click.Choice(["singleshot", "rapidfire"]))
@click.option("--fw_id", "--fw-id", type=int, help="The job that the queue reserved.")
@refusing
def worker(
    folder: Path, fworker: str, idle: float, linger: float, mode: str, fw_id: int | None
) -> None:
    """Run jobs of a site: one reserved job (singleshot), or whatever comes (rapidfire).

    A job that the queue ends at its walltime, or the kernel for its memory, is given back and
    continues elsewhere. qlaunch calls this from my_qadapter.yaml.
    """
    from defect_mf_flows.site.connection import Site
    from defect_mf_flows.site.worker import Worker

    if mode == "singleshot" and fw_id is None:
        linger = 0.0
    site = Site.of(folder)
    site.check(patient=fw_id is not None)  # a job that a queue started waits for its server
    sys.exit(Worker(site, fworker, idle, linger).run(fw_id))
