"""The benchmark of searches on a campaign that somebody wrote: other hosts, defects, settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from defect_mf_flows.benchmark.search import CELL, FULL
from defect_mf_flows.benchmark.search_ways import SearchSize
from defect_mf_flows.campaign import Campaign, load_campaign
from defect_mf_flows.core.defects import generate_defects
from defect_mf_flows.errors import CampaignError

#: Sections of which the benchmark takes what differs from the defaults.
SETTINGS = (
    "frames",
    "picks",
    "split",
    "training",
    "search",
    "matching",
    "verification",
    "loop",
)

#: Folders and pages of the benchmark itself end in these.
OWN_NAMES = ("full", "quick")


def given_search(file: Path) -> SearchSize:
    """Read what to search, and how this package does it, from a campaign file.

    Parameters
    ----------
    file
        Campaign. Tight binding takes the place of its fidelities; threshold and steps of
        relaxations, random starts and the minima of the staged search are those of the full
        benchmark.

    Returns
    -------
    SearchSize
        With every defect and charge state that the campaign would compute.

    Raises
    ------
    CampaignError
        If the file is wrong, or asks for what the searches without a model cannot do.
    """
    campaign, cell = load_campaign(file)
    _check(file, campaign)
    found = generate_defects(cell, host=campaign.host, defects=campaign.defects)
    charges = {defect.name: list(defect.charges) for defect in found.defects}
    return replace(
        FULL,
        subject=campaign.name,
        host=campaign.host.model_copy(update={"structure": CELL}),
        wanted=campaign.defects.model_copy(update={"include": list(charges), "charges": charges}),
        campaign=_settings(campaign),
        starts=campaign.starts,
        cell=cell,
        seed=campaign.seed,
    )


def _settings(campaign: Campaign) -> dict[str, dict[str, Any]]:
    every = campaign.model_dump(mode="json", exclude_defaults=True, include=set(SETTINGS))
    return {name: every[name] for name in SETTINGS if every.get(name)}


def _check(file: Path, campaign: Campaign) -> None:
    refused = {
        "starts.given": (campaign.starts.given, "the searches make their own starts"),
        "defects.spin": (campaign.defects.spin, "tight binding runs closed shell here"),
        "roles.extra": (campaign.roles.extra, "two methods stand in for two fidelities"),
        "frames.imported": (campaign.frames.imported, "the searches pay for all that they know"),
    }
    if campaign.name in OWN_NAMES:
        raise CampaignError(
            f"{file}: name: {campaign.name!r} names a form of the benchmark itself, with its "
            "page and folder; choose another."
        )
    for field, (value, why) in refused.items():
        if value:
            raise CampaignError(f"{file}: {field}: {why}; leave it out for this benchmark.")
