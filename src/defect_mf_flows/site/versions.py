"""Workers and jobs of different package versions do not meet."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fireworks import FWorker, LaunchPad

from defect_mf_flows.errors import VersionError
from defect_mf_flows.powerups import VERSION_KEY, package_version
from defect_mf_flows.site.launchpad import held_campaigns

_FIELD = f"spec.{VERSION_KEY}"
_UNFINISHED = ("WAITING", "READY", "RESERVED", "FIZZLED", "PAUSED")


class ChoosyFWorker(FWorker):
    """A worker that takes jobs of its own version, of campaigns that nobody holds.

    FireWorks asks for ``query`` whenever it looks for a job, so a campaign that was paused a
    moment ago is left alone at the next look.

    Parameters
    ----------
    fworker
        As its file describes it; jobs without a version are taken, too.
    launchpad
        Where the campaigns are noted.
    """

    def __init__(self, fworker: FWorker, launchpad: LaunchPad) -> None:
        super().__init__(fworker.name, fworker.category, fworker._query, fworker.env)
        self._launchpad = launchpad

    @property
    def query(self) -> dict[str, Any]:
        """Which jobs it takes."""
        query = self.any_version()
        query["$and"].append({_FIELD: {"$in": [package_version(), None]}})
        return query

    def any_version(self) -> dict[str, Any]:
        """Which jobs it would take if the version did not matter."""
        query: dict[str, Any] = super().query
        held = {"spec.campaign_hash": {"$nin": held_campaigns(self._launchpad)}}
        return {**query, "$and": [*query.get("$and", []), held]}

    def waiting_for_others(self) -> dict[str, int]:
        """Count the ready jobs that only another version of this package takes.

        Returns
        -------
        dict
            Number of jobs per version.
        """
        query = self.any_version()
        query["$and"].append({_FIELD: {"$nin": [package_version(), None]}})
        found = self._launchpad.fireworks.find({**query, "state": "READY"}, {_FIELD: 1})
        return dict(Counter(job["spec"][VERSION_KEY] for job in found))


def version_message(waiting: dict[str, int]) -> str:
    """Say which jobs wait for which version.

    Parameters
    ----------
    waiting
        Number of jobs per version.
    """
    parts = [f"{count} jobs wait for version {name}" for name, count in sorted(waiting.items())]
    return (
        f"{', '.join(parts)} of defect-mf-flows; this worker has {package_version()} and leaves "
        "them alone. Install that version for a worker, or move unfinished jobs to this one with "
        "`defect-mf retry --this-version`."
    )


def refuse_other_version(launchpad: LaunchPad, fw_id: int) -> None:
    """Refuse a job of another version.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    fw_id
        The job that the queue reserved.

    Raises
    ------
    VersionError
        If the job's version is not this package's.
    """
    found = launchpad.fireworks.find_one({"fw_id": fw_id}, {_FIELD: 1}) or {}
    version = found.get("spec", {}).get(VERSION_KEY)
    if version not in (None, package_version()):
        raise VersionError(
            f"job {fw_id} was submitted with defect-mf-flows {version}, this worker has "
            f"{package_version()}; the reservation is given back. Install the same version for "
            "both, or move the campaign's unfinished jobs with `defect-mf retry --this-version`."
        )


def other_versions(launchpad: LaunchPad, campaign_hash: str) -> dict[str, int]:
    """Count a campaign's unfinished jobs of other versions.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    campaign_hash
        The campaign.

    Returns
    -------
    dict
        Number of jobs per version.
    """
    found = launchpad.fireworks.find(_others(campaign_hash), {_FIELD: 1})
    return dict(Counter(job["spec"][VERSION_KEY] for job in found))


def stamp_anew(launchpad: LaunchPad, campaign_hash: str) -> int:
    """Give a campaign's unfinished jobs, and those that they will spawn, the present version.

    Parameters
    ----------
    launchpad
        The LaunchPad; the caller holds the workflow's lock.
    campaign_hash
        The campaign.

    Returns
    -------
    int
        Number of jobs.
    """
    jobs = list(launchpad.fireworks.find(_others(campaign_hash), {"fw_id": 1, "spec._tasks": 1}))
    for job in jobs:
        change: dict[str, Any] = {_FIELD: package_version()}
        for number, task in enumerate(job["spec"].get("_tasks", [])):
            place = f"spec._tasks.{number}.job"
            content = task.get("job") or {}
            if VERSION_KEY in (content.get("metadata") or {}):
                change[f"{place}.metadata.{VERSION_KEY}"] = package_version()
            for index, update in enumerate(content.get("metadata_updates") or []):
                if VERSION_KEY in update.get("update", {}):
                    key = f"{place}.metadata_updates.{index}.update.{VERSION_KEY}"
                    change[key] = package_version()
        launchpad.fireworks.update_one({"fw_id": job["fw_id"]}, {"$set": change})
    launchpad.workflows.update_one(
        {"metadata.campaign_hash": campaign_hash},
        {"$set": {f"metadata.{VERSION_KEY}": package_version()}},
    )
    return len(jobs)


def _others(campaign_hash: str) -> dict[str, Any]:
    return {
        "spec.campaign_hash": campaign_hash,
        "state": {"$in": list(_UNFINISHED)},
        _FIELD: {"$nin": [package_version(), None]},
    }
