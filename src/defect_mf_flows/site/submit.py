"""Add a campaign to a site's LaunchPad, once."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jobflow import Flow
from jobflow.managers.fireworks import flow_to_workflow
from pymongo.errors import DuplicateKeyError

from defect_mf_flows.campaign import campaign_hash, load_campaign
from defect_mf_flows.errors import SiteError
from defect_mf_flows.flows.campaign import CampaignMaker
from defect_mf_flows.launchpad.progress import find_workflow
from defect_mf_flows.launchpad.recovery import remove_orphans
from defect_mf_flows.powerups import VERSION_KEY, package_version, route, stamp
from defect_mf_flows.settings import Settings
from defect_mf_flows.site.campaigns import get_campaign
from defect_mf_flows.site.control import resume
from defect_mf_flows.site.launchpad import (
    ACTIVE,
    CAMPAIGNS,
    CANCELLED,
    SUBMITTING,
    SiteLaunchPad,
)

SUBMISSION_SECONDS = 120.0  # a submission that takes longer was killed


@dataclass(frozen=True)
class Submission:
    """A campaign that was submitted.

    Attributes
    ----------
    key
        Its hash.
    jobs
        Number of its first jobs, which spawn the others; or of the jobs that wait again.
    resumed
        Whether it had been cancelled and now goes on.
    """

    key: str
    jobs: int
    resumed: bool = False


def submit_campaign(path: Path, launchpad: SiteLaunchPad, settings: Settings) -> Submission:
    """Add a campaign to the LaunchPad, or take a cancelled one up again.

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
    Submission
        What was added.

    Raises
    ------
    SiteError
        If the same campaign is there already.
    """
    campaign, structure = load_campaign(path)
    key = campaign_hash(campaign, structure)
    flow = CampaignMaker.from_campaign(campaign).make(structure)
    stamp(route(flow, settings.routing, campaign.heads))
    return submit_flow(flow, launchpad, key, campaign.name)


def submit_flow(flow: Flow, launchpad: SiteLaunchPad, key: str, name: str) -> Submission:
    """Add a flow to the LaunchPad under a campaign's hash, or take it up again if cancelled.

    Parameters
    ----------
    flow
        Routed and stamped; ``campaign_hash`` is in the metadata of its jobs.
    launchpad
        Connected.
    key, name
        The campaign's hash and name.

    Returns
    -------
    Submission
        What was added.

    Raises
    ------
    SiteError
        If a campaign of this hash is there already.
    """
    metadata = {"campaign": name, "campaign_hash": key, VERSION_KEY: package_version()}
    token = _claim(launchpad, key, name)
    if token is None:
        return Submission(key, resume(launchpad, get_campaign(launchpad, key)).jobs, resumed=True)
    workflow = flow_to_workflow(flow, metadata=metadata)
    added = launchpad.add_wf(workflow)
    # Only now may workers take its jobs: before, the jobs were there, but not their workflow.
    mine = {"_id": key, "token": token}
    activated = launchpad.db[CAMPAIGNS].update_one(mine, {"$set": {"state": ACTIVE}})
    if not activated.matched_count:
        launchpad.workflows.delete_one({"nodes": {"$in": list(added.values())}})
        launchpad.fireworks.delete_many({"fw_id": {"$in": list(added.values())}})
        raise _refusal(name, key)
    return Submission(key, len(workflow.fws))


def _claim(launchpad: SiteLaunchPad, key: str, name: str) -> str | None:
    """Take the campaign's place; of two submissions at the same time one gets it.

    Returns
    -------
    str or None
        The claim's token, None if the campaign was cancelled and is to go on.
    """
    place = launchpad.db[CAMPAIGNS]
    now, token = datetime.now(UTC), uuid.uuid4().hex
    claim = {"campaign": name, "submitted_on": now, "state": SUBMITTING, "token": token}
    try:
        place.insert_one({"_id": key, **claim})
        return token
    except DuplicateKeyError:
        found = place.find_one({"_id": key}) or {}
    if found.get("state") == CANCELLED:
        return None
    since = found.get("submitted_on", now).replace(tzinfo=UTC)
    dead = found.get("state") == SUBMITTING and (now - since).total_seconds() > SUBMISSION_SECONDS
    if not dead:
        raise _refusal(name, key)
    same = {"_id": key, "token": found.get("token"), "state": SUBMITTING}
    if not place.update_one(same, {"$set": claim}).matched_count:
        raise _refusal(name, key)  # somebody else took the dead submission's place
    if find_workflow(launchpad, key, {"nodes": 1}) is not None:
        launchpad.workflows.delete_many({"metadata.campaign_hash": key})
    remove_orphans(launchpad, {"spec.campaign_hash": key}, {"metadata.campaign_hash": key})
    return token


def _refusal(name: str, key: str) -> SiteError:
    return SiteError(
        f"campaign {name!r} ({key[:16]}) was submitted already; see `defect-mf status`, or "
        "change the campaign (its seed, say) for another one."
    )
