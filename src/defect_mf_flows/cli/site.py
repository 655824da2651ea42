"""Commands of a site: submit, pause, resume, cancel, retry, worker."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from defect_mf_flows.cli.app import CAMPAIGN, main, refusing, use_fireworks_config
from defect_mf_flows.cli.places import SitePlace, reachable

if TYPE_CHECKING:
    from defect_mf_flows.site.control import Held

WHICH = click.argument("campaign")

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
    with reachable(site):
        done = submit_campaign(campaign, site.launchpad(), read_settings(site.settings))
    if done.resumed:
        click.echo(
            f"{done.key[:16]} had been cancelled and goes on; {done.jobs} jobs wait for their turn."
        )
        return
    click.echo(f"submitted {done.key[:16]} with its first {done.jobs} jobs; they spawn the others.")


@main.command()
@WHICH
@HERE
@refusing
def pause(campaign: str, folder: Path) -> None:
    """Let no further job of a campaign begin; running ones finish.

    CAMPAIGN is a file, a name or the first digits of a hash.
    """
    from defect_mf_flows.site.connection import Site
    from defect_mf_flows.site.control import pause as act

    place = SitePlace(Site.of(folder), campaign)
    launchpad, entry = place.find()
    with reachable(place.site):
        held = act(launchpad, entry)
    click.echo(f"{entry.name}: {held.jobs} jobs are paused; `defect-mf resume` goes on.")
    _still_running(held)


@main.command()
@WHICH
@HERE
@refusing
def resume(campaign: str, folder: Path) -> None:
    """Go on with a paused or cancelled campaign.

    CAMPAIGN is a file, a name or the first digits of a hash.
    """
    from defect_mf_flows.site.connection import Site
    from defect_mf_flows.site.control import resume as act

    place = SitePlace(Site.of(folder), campaign)
    launchpad, entry = place.find()
    with reachable(place.site):
        held = act(launchpad, entry)
    click.echo(f"{entry.name}: {held.jobs} jobs wait for their turn again.")


@main.command()
@WHICH
@HERE
@click.option("--yes", is_flag=True, help="Do not ask.")
@refusing
def cancel(campaign: str, folder: Path, yes: bool) -> None:
    """Give a campaign up; what it has computed is kept, and running jobs finish.

    CAMPAIGN is a file, a name or the first digits of a hash. `resume`, or another `submit`,
    takes it up again.
    """
    from defect_mf_flows.site.connection import Site
    from defect_mf_flows.site.control import cancel as act

    place = SitePlace(Site.of(folder), campaign)
    launchpad, entry = place.find()
    if not yes:
        click.confirm(f"Cancel {entry.name} ({entry.key[:16]})?", abort=True)
    with reachable(place.site):
        held = act(launchpad, entry)
    click.echo(f"{entry.name}: cancelled; {held.jobs} jobs will not run.")
    _still_running(held)


@main.command()
@WHICH
@HERE
@click.option(
    "--this-version",
    is_flag=True,
    help="Also move unfinished jobs of another version of this package to this one.",
)
@refusing
def retry(campaign: str, folder: Path, this_version: bool) -> None:
    """Run again what failed or was lost, and nothing that finished.

    CAMPAIGN is a file, a name or the first digits of a hash.
    """
    from defect_mf_flows.site.connection import Site
    from defect_mf_flows.site.launchpad import ACTIVE
    from defect_mf_flows.site.printing import finding_lines
    from defect_mf_flows.site.retry import retry as act

    place = SitePlace(Site.of(folder), campaign)
    launchpad, entry = place.find()
    with reachable(place.site):
        done = act(launchpad, entry, this_version=this_version)
    if done.stamped:
        click.echo(f"{done.stamped} unfinished jobs were moved to this version.")
    for line in finding_lines(done.findings, mended=True):
        click.echo(line)
    for fw_id, name, reason in done.jobs:
        click.echo(f"runs again: {name} ({fw_id}), which had failed with: {reason}")
    if not (done.jobs or done.findings.any):
        click.echo(f"{entry.name}: nothing had failed.")
    if entry.state != ACTIVE:
        click.echo(f"{entry.name} is {entry.state}: nothing runs before `defect-mf resume`.")


def _still_running(held: Held) -> None:
    if held.running:
        click.echo(f"{len(held.running)} running jobs finish: {', '.join(held.running)}")
    if held.queue_jobs:
        click.echo(
            "queue jobs that would start only to end: "
            f"scancel {' '.join(held.queue_jobs)} takes them out of the queue."
        )


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
