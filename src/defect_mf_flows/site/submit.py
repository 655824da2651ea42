"""Add a campaign to a site's LaunchPad, once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from fireworks import LaunchPad
from jobflow.managers.fireworks import flow_to_workflow
from pymongo.errors import DuplicateKeyError

from defect_mf_flows.campaign import campaign_hash, load_campaign
from defect_mf_flows.errors import SiteError
from defect_mf_flows.flows.campaign import CampaignMaker
from defect_mf_flows.launchpad.progress import find_workflow
from defect_mf_flows.powerups import VERSION_KEY, package_version, route, stamp
from defect_mf_flows.settings import Settings

CAMPAIGNS = "campaigns"


def submit_campaign(path: Path, launchpad: LaunchPad, settings: Settings) -> tuple[str, int]:
    """Add a campaign to the LaunchPad.

    Parameters
    ----------
    path
        Campaign file.
    launchpad
        Connected.
    settings
        Of the site: its routing.

    Returns
    -------
    campaign_hash, n_jobs
        Key of the campaign, and the number of its first jobs; they spawn the others.

    Raises
    ------
    SiteError
        If the same campaign is there already.
    """
    campaign, structure = load_campaign(path)
    key = campaign_hash(campaign, structure)
    flow = CampaignMaker.from_campaign(campaign).make(structure)
    stamp(route(flow, settings.routing, campaign.heads))
    metadata = {"campaign": campaign.name, "campaign_hash": key, VERSION_KEY: package_version()}
    _claim(launchpad, key, campaign.name)
    workflow = flow_to_workflow(flow, metadata=metadata)
    launchpad.add_wf(workflow)
    return key, len(workflow.fws)


def _claim(launchpad: LaunchPad, key: str, name: str) -> None:
    """Take the campaign's place; of two submissions at the same time one gets it."""
    place = launchpad.db[CAMPAIGNS]
    now = datetime.now(UTC)
    try:
        place.insert_one({"_id": key, "campaign": name, "submitted_on": now})
    except DuplicateKeyError:
        found = find_workflow(launchpad, key, {"nodes": 1})
        claimed = place.find_one({"_id": key}) or {}
        since = claimed.get("submitted_on", now).replace(tzinfo=UTC)
        if found is None and (now - since).total_seconds() > 60:
            place.update_one({"_id": key}, {"$set": {"submitted_on": now}})  # a killed submission
            return
        raise SiteError(
            f"campaign {name!r} ({key[:16]}) was submitted already; see `defect-mf status`, or "
            "change the campaign (its seed, say) for another one."
        ) from None
