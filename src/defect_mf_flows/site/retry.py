"""Run again what failed in a campaign, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field

import fireworks.core.launchpad as fw_launchpad

from defect_mf_flows.errors import VersionError
from defect_mf_flows.launchpad.failures import reason, stacktrace
from defect_mf_flows.powerups import package_version
from defect_mf_flows.site.campaigns import CampaignEntry, campaign_workflow
from defect_mf_flows.site.launchpad import SiteLaunchPad
from defect_mf_flows.site.losses import forgive
from defect_mf_flows.site.queue import known_queue_jobs
from defect_mf_flows.site.recovery import Findings, Queue, recover
from defect_mf_flows.site.versions import other_versions, stamp_anew


@dataclass(frozen=True)
class Retried:
    """What runs again.

    Attributes
    ----------
    jobs
        Id, name and reason of the failure of every job that had failed.
    findings
        What killed processes had left behind; lost runs among it run again, too.
    stamped
        Number of jobs that were given the present version.
    """

    jobs: tuple[tuple[int, str, str], ...] = ()
    findings: Findings = field(default_factory=Findings)
    stamped: int = 0


def retry(
    launchpad: SiteLaunchPad,
    entry: CampaignEntry,
    *,
    this_version: bool = False,
    queue: Queue = known_queue_jobs,
) -> Retried:
    """Make failed and lost jobs of a campaign ready again.

    Parameters
    ----------
    launchpad
        The LaunchPad; workers may be at work.
    entry
        The campaign.
    this_version
        Move the campaign's unfinished jobs to the present version of this package first.
    queue
        Tells which queue jobs there are.

    Returns
    -------
    Retried
        What was done.

    Raises
    ------
    VersionError
        If unfinished jobs belong to another version and ``this_version`` is not set.
    """
    others = other_versions(launchpad, entry.key)
    if others and not this_version:
        listed = ", ".join(f"{count} of version {name}" for name, count in sorted(others.items()))
        raise VersionError(
            f"campaign {entry.name!r} has unfinished jobs of another version ({listed}), this is "
            f"{package_version()}. Retry with that version, or move them to this one with "
            "--this-version if the change between the two does not matter to the results."
        )
    findings = recover(launchpad, entry, queue)
    node = campaign_workflow(launchpad, entry, {"nodes": 1})["nodes"][0]
    with fw_launchpad.WFLock(launchpad, node):
        stamped = stamp_anew(launchpad, entry.key) if others else 0
        workflow = launchpad.get_wf_by_fw_id_lzyfw(node)
        failed = sorted(i for i, state in workflow.fw_states.items() if state == "FIZZLED")
        jobs = [(i, *_why(launchpad, i)) for i in failed]
        forgive(launchpad, failed)
        updated: set[int] = set()
        for fw_id in failed:
            # A job below another failed one was made to wait with it.
            if workflow.id_fw[fw_id].state == "FIZZLED":
                updated |= set(workflow.rerun_fw(fw_id, updated))
        launchpad._update_wf(workflow, updated)
    return Retried(tuple(jobs), findings, stamped)


def _why(launchpad: SiteLaunchPad, fw_id: int) -> tuple[str, str]:
    found = launchpad.fireworks.find_one({"fw_id": fw_id}, {"name": 1}) or {}
    return str(found.get("name", f"job {fw_id}")), reason(stacktrace(launchpad, fw_id)[0])
