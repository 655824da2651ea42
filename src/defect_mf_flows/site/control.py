"""Pause, resume and cancel a campaign while its workers are at work.

What people want of a campaign stands in the collection ``campaigns``. Workers look there before
they take a job, and a running job that spawns others finds it when its step is written
(:mod:`defect_mf_flows.site.launchpad`). FireWorks' own state PAUSED is set as well: it stops those
who run FireWorks' own commands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import fireworks.core.launchpad as fw_launchpad
from fireworks import LaunchPad

from defect_mf_flows.errors import SiteError
from defect_mf_flows.site.campaigns import (
    CampaignEntry,
    campaign_workflow,
    set_state,
)
from defect_mf_flows.site.launchpad import ACTIVE, CANCELLED, PAUSED, SiteLaunchPad
from defect_mf_flows.site.recovery import release_reservation


@dataclass(frozen=True)
class Held:
    """What holding or resuming a campaign came to.

    Attributes
    ----------
    jobs
        Jobs that wait now, or that may run again.
    running
        Names of jobs that run and will finish.
    queue_jobs
        Ids of queue jobs whose reservation was taken back: they would start only to end.
    """

    jobs: int
    running: tuple[str, ...] = ()
    queue_jobs: tuple[str, ...] = ()


def pause(launchpad: SiteLaunchPad, entry: CampaignEntry) -> Held:
    """Let no further job of a campaign begin; running ones finish.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    entry
        The campaign.

    Returns
    -------
    Held
        What waits, and what still runs.

    Raises
    ------
    SiteError
        If it was cancelled.
    """
    if entry.state == CANCELLED:
        raise SiteError(
            f"campaign {entry.name!r} was cancelled, so none of its jobs begins; "
            "`defect-mf resume` takes it up again."
        )
    return _hold(launchpad, entry, PAUSED)


def cancel(launchpad: SiteLaunchPad, entry: CampaignEntry) -> Held:
    """Give a campaign up; what it has computed is kept, and running jobs finish.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    entry
        The campaign.

    Returns
    -------
    Held
        What will not run, and what still runs.
    """
    return _hold(launchpad, entry, CANCELLED)


def resume(launchpad: SiteLaunchPad, entry: CampaignEntry) -> Held:
    """Let the jobs of a paused or cancelled campaign begin again.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    entry
        The campaign.

    Returns
    -------
    Held
        How many jobs wait for their turn again: those that were paused with the campaign, and
        those that running jobs have added since. What somebody paused by hand before stays so.

    Raises
    ------
    SiteError
        If it is neither paused nor cancelled.
    """
    if entry.state not in (PAUSED, CANCELLED) and not entry.resuming:
        raise SiteError(
            f"campaign {entry.name!r} is {entry.state}; only a paused or cancelled campaign "
            "can be resumed."
        )
    nodes = campaign_workflow(launchpad, entry, {"nodes": 1})["nodes"]
    # First, so that the step below does not pause again what it resumes.
    set_state(launchpad, entry.key, ACTIVE, resuming=True)
    with fw_launchpad.WFLock(launchpad, nodes[0]):
        workflow = launchpad.get_wf_by_fw_id_lzyfw(nodes[0])
        chosen = _ids(launchpad, list(workflow.id_fw), ["PAUSED"], exclude=entry.by_hand)
        updated = set(chosen)
        for fw_id in chosen:
            workflow.id_fw[fw_id].state = "WAITING"
            workflow.fw_states[fw_id] = "WAITING"
        for fw_id in chosen:
            updated |= set(workflow.refresh(fw_id, updated))
        launchpad._update_wf(workflow, updated)
    set_state(launchpad, entry.key, ACTIVE, resuming=False, by_hand=[])
    return Held(len(chosen), _running(launchpad, nodes))


def _hold(launchpad: SiteLaunchPad, entry: CampaignEntry, state: str) -> Held:
    nodes = campaign_workflow(launchpad, entry, {"nodes": 1})["nodes"]
    by_hand = list(entry.by_hand)
    if entry.state not in (PAUSED, CANCELLED) and not entry.resuming:
        by_hand = _ids(launchpad, nodes, ["PAUSED"])
    # First, so that from now on no worker takes a job and no running job adds one that is ready.
    set_state(launchpad, entry.key, state, by_hand=by_hand, resuming=False)
    with fw_launchpad.WFLock(launchpad, nodes[0]):
        workflow = launchpad.get_wf_by_fw_id_lzyfw(nodes[0])
        nodes = list(workflow.id_fw)
        queued = _take_back_reservations(launchpad, nodes)
        # One conditional write each: a worker may be taking one of them at this moment.
        launchpad.fireworks.update_many(
            {"fw_id": {"$in": nodes}, "state": {"$in": ["WAITING", "READY"]}},
            {"$set": {"state": "PAUSED"}},
        )
        paused = _ids(launchpad, nodes, ["PAUSED"])
        workflow.fw_states.update(dict.fromkeys(paused, "PAUSED"))
        launchpad._update_wf(workflow, [])
    count = len(set(paused) - set(by_hand))
    return Held(count, _running(launchpad, nodes), queued)


def _take_back_reservations(launchpad: SiteLaunchPad, nodes: list[int]) -> tuple[str, ...]:
    """Pause reserved jobs; they are reserved anew when the campaign is resumed."""
    queue_jobs: list[str] = []
    for fw_id in _ids(launchpad, nodes, ["RESERVED"]):
        queue_jobs += release_reservation(launchpad, fw_id, "PAUSED") or []
    return tuple(dict.fromkeys(queue_jobs))


def _ids(
    launchpad: LaunchPad, nodes: list[int], states: list[str], exclude: tuple[int, ...] = ()
) -> list[int]:
    query = {"fw_id": {"$in": nodes, "$nin": list(exclude)}, "state": {"$in": states}}
    return sorted(found["fw_id"] for found in launchpad.fireworks.find(query, {"fw_id": 1}))


def _running(launchpad: LaunchPad, nodes: list[int]) -> tuple[str, ...]:
    query: dict[str, Any] = {"fw_id": {"$in": nodes}, "state": "RUNNING"}
    found = launchpad.fireworks.find(query, {"name": 1}, sort=[("fw_id", 1)])
    return tuple(firework["name"] for firework in found)
