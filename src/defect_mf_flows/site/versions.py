"""Workers and jobs of different package versions do not meet."""

from __future__ import annotations

from fireworks import FWorker, LaunchPad

from defect_mf_flows.errors import VersionError
from defect_mf_flows.powerups import VERSION_KEY, package_version


def own_version_only(fworker: FWorker) -> FWorker:
    """Return the worker, narrowed to jobs of its own version, and to jobs without one.

    Parameters
    ----------
    fworker
        As its file describes it.
    """
    query = {**fworker._query, f"spec.{VERSION_KEY}": {"$in": [package_version(), None]}}
    return FWorker(fworker.name, fworker.category, query, fworker.env)


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
    found = launchpad.fireworks.find_one({"fw_id": fw_id}, {f"spec.{VERSION_KEY}": 1}) or {}
    version = found.get("spec", {}).get(VERSION_KEY)
    if version not in (None, package_version()):
        raise VersionError(
            f"job {fw_id} was submitted with defect-mf-flows {version}, this worker has "
            f"{package_version()}; install the same version for both."
        )
