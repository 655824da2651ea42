"""Command of the web UI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from defect_mf_flows.cli.app import FOLDER, SITE, main, refusing
from defect_mf_flows.errors import SiteError


@main.command()
@click.argument("campaign", type=click.Path(path_type=Path), required=False)
@SITE
@FOLDER
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Port to listen on. [default: 5000, or a free one where that is taken]",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; any but a loopback one needs a user name and a password.",
)
@click.option("--user", envvar="DEFECT_MF_WEB_USER", show_envvar=True, help="User name to ask for.")
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of mode 600 with the password. [default: the variable DEFECT_MF_WEB_PASSWORD]",
)
@click.pass_context
@refusing
def web(
    context: click.Context,
    campaign: Path | None,
    site: Path | None,
    folder: Path | None,
    port: int | None,
    host: str,
    user: str | None,
    password_file: Path | None,
) -> None:
    """Show workflows and jobs in the browser, of a site or of a campaign's folder.

    With CAMPAIGN only its jobs. Nothing is changed, nothing is loaded from the internet; Ctrl-C
    ends it. From elsewhere: ssh -L 5000:127.0.0.1:5000 HOST, then open
    http://127.0.0.1:5000.
    """
    if site is not None and folder is not None:
        if context.get_parameter_source("site") is not ParameterSource.ENVIRONMENT:
            raise click.UsageError("give --site or --folder, not both.")
        site = None
    if site is None and folder is None and campaign is None:
        raise click.UsageError("give --site, --folder or a CAMPAIGN that was run here.")
    try:
        from defect_mf_flows.site.web import create_app, listen, read_access, serve, url_of
    except ImportError as error:
        raise SiteError(
            f"the web UI needs the package {error.name}: pip install 'defect-mf-flows[web]'."
        ) from None
    access = read_access(host, user, password_file)
    with _launchpad(campaign, site, folder) as (launchpad, place):
        key, name = _shown(launchpad, campaign, place)
        app = create_app(launchpad, access=access, campaign_hash=key, title=f"{name} in {place}")
        listener = listen(host, port)
        url = url_of(listener)
        serve(app, listener, lambda: click.echo(f"web UI at {url} (Ctrl-C ends it)"))
    click.echo("web UI ended")


@contextmanager
def _launchpad(
    campaign: Path | None, site: Path | None, folder: Path | None
) -> Iterator[tuple[Any, str]]:
    """Connect to the LaunchPad; the second value says where it is, in words."""
    if site is not None:
        from defect_mf_flows.site.connection import Site

        found = Site.of(site)
        yield found.launchpad(), f"site {found.folder.name}"
        return
    from defect_mf_flows.local.campaign import campaign_folder
    from defect_mf_flows.local.connection import connect
    from defect_mf_flows.settings import get_settings

    where = campaign_folder(campaign or Path(), folder)
    with connect(where, get_settings().mongod) as (launchpad, _):
        yield launchpad, f"folder {where.name}"


def _shown(launchpad: Any, campaign: Path | None, place: str) -> tuple[str | None, str]:
    """Key and name of the campaign to show; its absence, or the database's, is an error."""
    from pymongo.errors import PyMongoError

    from defect_mf_flows.campaign import campaign_hash, load_campaign
    from defect_mf_flows.errors import ResultsError, ServiceError
    from defect_mf_flows.launchpad.progress import find_workflow

    key, name = None, "all campaigns"
    if campaign is not None:
        loaded, structure = load_campaign(campaign)
        key = campaign_hash(loaded, structure)
        name = f"campaign {loaded.name} ({key[:16]})"
    try:
        if key is None:
            launchpad.workflows.find_one({}, {"_id": 1})
        elif find_workflow(launchpad, key, {"_id": 1}) is None:
            raise ResultsError(
                f"{place} has no {name}; submit or run it first, or leave CAMPAIGN out to see "
                "what is there."
            )
    except PyMongoError as error:
        raise ServiceError(
            f"the database of {place} does not answer or refuses: {str(error)[:300]}; start it, "
            "or correct address, user name and password."
        ) from None
    return key, name
