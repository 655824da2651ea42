"""The campaigns of a LaunchPad: which there are, and in which state people have put them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fireworks import LaunchPad

from defect_mf_flows.campaign import campaign_hash, load_campaign
from defect_mf_flows.errors import SiteError
from defect_mf_flows.launchpad.progress import find_workflow
from defect_mf_flows.site.launchpad import ACTIVE, CAMPAIGNS

MIN_HASH = 6  # so many digits name a campaign


@dataclass(frozen=True)
class CampaignEntry:
    """A campaign in a LaunchPad.

    Attributes
    ----------
    key
        Its hash.
    name
        Its name, for people; not unique.
    state
        ``active``, ``submitting``, ``paused`` or ``cancelled``: what people want of it.
    since
        When that was said, or when it was submitted.
    by_hand
        Jobs that somebody had paused with FireWorks' own commands before the campaign was held.
    resuming
        Whether somebody resumes it, or was killed while doing so.
    """

    key: str
    name: str
    state: str = ACTIVE
    since: datetime | None = None
    by_hand: tuple[int, ...] = field(default=(), repr=False)
    resuming: bool = False


def list_campaigns(launchpad: LaunchPad) -> list[CampaignEntry]:
    """Return all campaigns, oldest first.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    """
    found = launchpad.db[CAMPAIGNS].find({}, sort=[("submitted_on", 1)])
    return [_entry(document) for document in found]


def get_campaign(launchpad: LaunchPad, key: str) -> CampaignEntry:
    """Return one campaign.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    key
        Its hash.

    Raises
    ------
    SiteError
        If it was never submitted here.
    """
    document = launchpad.db[CAMPAIGNS].find_one({"_id": key})
    if document is None:
        raise SiteError(
            f"campaign {key[:16]} was not submitted to this site; `defect-mf submit` does that, "
            "and `defect-mf status --site DIR` lists those that were. A campaign file that was "
            "changed is another campaign."
        )
    return _entry(document)


def find_campaign(launchpad: LaunchPad, text: str) -> CampaignEntry:
    """Find a campaign by what people call it.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    text
        A campaign file, a campaign's name, or the first digits of its hash.

    Raises
    ------
    SiteError
        If there is no such campaign, or more than one of that name.
    """
    if Path(text).is_file():
        return get_campaign(launchpad, campaign_hash(*load_campaign(Path(text))))
    query: dict[str, Any] = {"campaign": text}
    if re.fullmatch(rf"[0-9a-f]{{{MIN_HASH},}}", text):
        query = {"$or": [query, {"_id": {"$regex": f"^{text}"}}]}
    found = [_entry(document) for document in launchpad.db[CAMPAIGNS].find(query)]
    if not found:
        raise SiteError(
            f"{text!r} is no file, and no name or hash of a campaign of this site; "
            "`defect-mf status --site DIR` lists them."
        )
    if len(found) > 1:
        keys = ", ".join(entry.key[:16] for entry in found)
        raise SiteError(f"{len(found)} campaigns are called {text!r}; give a hash: {keys}.")
    return found[0]


def campaign_workflow(
    launchpad: LaunchPad, entry: CampaignEntry, fields: dict[str, int] | None = None
) -> dict[str, Any]:
    """Return a campaign's workflow document.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    entry
        The campaign.
    fields
        Fields to fetch; all by default.

    Raises
    ------
    SiteError
        If its submission was interrupted.
    """
    found = find_workflow(launchpad, entry.key, fields)
    if found is None:
        raise SiteError(
            f"the submission of campaign {entry.name!r} did not finish; wait a minute, then "
            "submit it again."
        )
    return found


def set_state(launchpad: LaunchPad, key: str, state: str, **more: Any) -> None:
    """Note what people want of a campaign.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    key
        The campaign's hash.
    state
        See :class:`CampaignEntry`.
    **more
        Further fields to set.
    """
    change = {"state": state, "since": datetime.now(UTC), **more}
    launchpad.db[CAMPAIGNS].update_one({"_id": key}, {"$set": change})


def _entry(document: dict[str, Any]) -> CampaignEntry:
    since = document.get("since") or document.get("submitted_on")
    return CampaignEntry(
        key=document["_id"],
        name=document.get("campaign", ""),
        state=document.get("state", ACTIVE),
        since=since.replace(tzinfo=UTC) if since else None,
        by_hand=tuple(document.get("by_hand", ())),
        resuming=bool(document.get("resuming")),
    )
