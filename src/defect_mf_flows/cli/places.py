"""Where commands that read a campaign read it from: a local folder or a site."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import click

if TYPE_CHECKING:
    from jobflow import JobStore

    from defect_mf_flows.schemas.results import Results
    from defect_mf_flows.site.campaigns import CampaignEntry
    from defect_mf_flows.site.connection import Site
    from defect_mf_flows.site.launchpad import SiteLaunchPad


class Place(Protocol):
    """A campaign, wherever it was computed."""

    def results(self) -> Results:
        """Its newest results."""

    def store(self) -> Any:
        """Context with its connected job store."""

    def status(self) -> tuple[Any, Any]:
        """Its status, to print and as plain types."""

    def report_path(self) -> Path:
        """Where its report is written by default."""

    def fireworks(self) -> bool:
        """Whether its jobs ran through FireWorks."""


@dataclass(frozen=True)
class LocalPlace:
    """A campaign that ``defect-mf run`` computes in a folder."""

    campaign: Path
    folder: Path | None

    def results(self) -> Results:
        """Its newest results."""
        from defect_mf_flows.local.campaign import read_results

        return read_results(self.campaign, folder=self.folder)

    @contextmanager
    def store(self) -> Iterator[JobStore]:
        """Context with its connected job store."""
        from defect_mf_flows.local.campaign import campaign_folder, open_store

        with open_store(campaign_folder(self.campaign, self.folder)) as store:
            yield store

    def status(self) -> tuple[Any, Any]:
        """Its status, to print and as plain types."""
        from dataclasses import asdict

        from defect_mf_flows.local.campaign import campaign_status
        from defect_mf_flows.local.printer import render_status

        progress, spent = campaign_status(self.campaign, folder=self.folder)
        plain = {**asdict(progress), "total": progress.total, "done": progress.done}
        return render_status(progress, spent), {**plain, "spent": [asdict(one) for one in spent]}

    def report_path(self) -> Path:
        """Where its report is written by default: its folder."""
        from defect_mf_flows.local.campaign import campaign_folder

        return campaign_folder(self.campaign, self.folder) / "report.html"

    def fireworks(self) -> bool:
        """Whether its jobs ran through FireWorks: not those of ``run --serial``."""
        from defect_mf_flows.local.campaign import campaign_folder, ran_serially

        return not ran_serially(campaign_folder(self.campaign, self.folder))


@dataclass(frozen=True)
class SitePlace:
    """A campaign that was submitted to a site; a file, a name or a hash says which."""

    site: Site
    campaign: str

    def find(self) -> tuple[SiteLaunchPad, CampaignEntry]:
        """The LaunchPad, and the campaign in it."""
        from defect_mf_flows.site.campaigns import find_campaign

        with reachable(self.site):
            launchpad = self.site.launchpad()
            return launchpad, find_campaign(launchpad, self.campaign)

    def results(self) -> Results:
        """Its newest results."""
        from defect_mf_flows.results import CampaignResults

        _, entry = self.find()
        with self.store() as store:
            return CampaignResults(store, campaign_hash=entry.key).results()

    @contextmanager
    def store(self) -> Iterator[JobStore]:
        """Context with its connected job store."""
        store = self.site.store()
        with reachable(self.site):
            store.connect()
            try:
                yield store
            finally:
                store.close()

    def status(self) -> tuple[Any, Any]:
        """Its status, to print and as plain types."""
        from defect_mf_flows.site.printing import render_status
        from defect_mf_flows.site.status import site_status

        launchpad, entry = self.find()
        with self.store() as store:
            found = site_status(launchpad, store, entry)
        return render_status(found), found.as_json()

    def report_path(self) -> Path:
        """Where its report is written by default: here, named after the hash."""
        _, entry = self.find()
        return Path(f"report-{entry.key[:16]}.html").resolve()

    def fireworks(self) -> bool:
        """Whether its jobs ran through FireWorks: on a site all do."""
        return True


@contextmanager
def reachable(site: Site) -> Iterator[None]:
    """Turn errors of the database into a message that says what to do.

    Parameters
    ----------
    site
        The site whose server is asked.
    """
    from pymongo.errors import PyMongoError

    from defect_mf_flows.site.trouble import explain

    try:
        yield
    except PyMongoError as error:
        raise explain(error, site.folder) from None


def place(campaign: Path, folder: Path | None, site: Path | None) -> Place:
    """Return where a campaign is read from.

    Parameters
    ----------
    campaign
        Campaign file; for a site also a name or the first digits of a hash.
    folder
        Folder of a local campaign, or None.
    site
        Folder of a site's files, or None.
    """
    if site is None:
        return LocalPlace(campaign, folder)
    if folder is not None:
        source = click.get_current_context().get_parameter_source("site")
        if source is not None and source.name == "ENVIRONMENT":
            return LocalPlace(campaign, folder)
        raise click.UsageError("give --folder or --site, not both.")
    from defect_mf_flows.site.connection import Site

    return SitePlace(Site.of(site), str(campaign))
