"""Commands that read a job store: export, query."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from defect_mf_flows.cli.app import CAMPAIGN, FOLDER, SITE, main, refusing

if TYPE_CHECKING:
    from jobflow import JobStore

_FILTERS = (
    click.option("--defect", multiple=True, help="Defect, for example v_Zn; 'host' for the host."),
    click.option("--charge", multiple=True, type=int, help="Charge state."),
    click.option("--fidelity", multiple=True, help="Name of the fidelity."),
    click.option("--stage", multiple=True, help="Stage, for example 'low fidelity'."),
    click.option("--state", type=click.Choice(["converged", "failed"]), help="Of calculations."),
    click.option("--since", help="Completed on or after this date or time (ISO)."),
    click.option("--until", help="Completed before this time, or on or before this date (ISO)."),
)


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    return reduce(lambda inner, option: option(inner), reversed(_FILTERS), command)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """Leave out what was not given; ``host`` stands for the pristine host."""
    given = {name: value for name, value in options.items() if value not in (None, ())}
    if "defect" in given:
        given["defect"] = [None if name == "host" else name for name in given["defect"]]
    return {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}


@contextmanager
def open_results(folder: Path | None, site: Path | None) -> Iterator[JobStore]:
    """Open the job store of a local campaign's folder or of a site.

    Parameters
    ----------
    folder
        Folder of a campaign that was run on this machine.
    site
        Folder of a site's files; it counts where no folder is given.

    Yields
    ------
    JobStore
        Connected.
    """
    if folder is not None or site is None:
        from defect_mf_flows.local.campaign import open_store

        with open_store(folder or Path()) as store:
            yield store
        return
    from defect_mf_flows.site.connection import Site

    store = Site.of(site).store()
    store.connect()
    try:
        yield store
    finally:
        store.close()


@main.command()
@CAMPAIGN
@FOLDER
@SITE
@click.option(
    "--to", "kind", type=click.Choice(["extxyz", "doped"]), required=True, help="What to write."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True,
    help="File to write.",
)  # fmt: skip
@_filters
@click.option("--force", is_flag=True, help="Replace an existing file.")
@refusing
def export(
    campaign: Path,
    folder: Path | None,
    site: Path | None,
    kind: str,
    output: Path,
    force: bool,
    **filters: Any,
) -> None:
    """Write frames (extxyz) or verified ground states (doped's JSON) for other programs.

    Options that select may be given repeatedly. Frames carry charge, spin, fidelity, energy,
    forces and where they come from.
    """
    from defect_mf_flows.campaign import campaign_hash, load_campaign
    from defect_mf_flows.local.campaign import campaign_folder
    from defect_mf_flows.results import CampaignResults, export_doped, export_extxyz

    key = campaign_hash(*load_campaign(campaign))
    if folder is None and site is None:
        folder = campaign_folder(campaign, None)
    with open_results(folder, site) as store:
        found = CampaignResults(store, campaign_hash=key)
        write: Callable[..., int] = export_extxyz if kind == "extxyz" else export_doped
        count = write(found, output, force=force, **_given(filters))
    what = {"extxyz": "frames", "doped": "charge states"}[kind]
    click.echo(f"{output}: {count} {what}")


_TABLES = {
    "calculations": "calculations",
    "ground-states": "ground_states",
    "levels": "transition_levels",
    "metrics": "metrics",
}


@main.command()
@click.argument("table", type=click.Choice(list(_TABLES)))
@FOLDER
@SITE
@click.option("--campaign", multiple=True, help="Name or hash of a campaign.")
@click.option("--host", multiple=True, help="Formula, or hash of the host's cell.")
@_filters
@refusing
def query(table: str, folder: Path | None, site: Path | None, **filters: Any) -> None:
    """Print a table of one or many campaigns of a database as CSV.

    Options that select may be given repeatedly.
    """
    from defect_mf_flows.results import Records

    with open_results(folder, site) as store:
        records = Records(store)
        found = getattr(records, _TABLES[table])(**_given(filters))
    click.echo(found.to_csv(index=False), nl=False)
