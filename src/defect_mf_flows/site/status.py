"""What a campaign's jobs do, what went wrong, what was spent, and how long it will take."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

from fireworks import LaunchPad
from jobflow import JobStore

from defect_mf_flows.launchpad.failures import reason, stacktrace
from defect_mf_flows.launchpad.progress import ProgressTracker
from defect_mf_flows.results.spent import Spent, spent
from defect_mf_flows.site.campaigns import CampaignEntry, campaign_workflow, list_campaigns
from defect_mf_flows.site.launchpad import ACTIVE, SiteLaunchPad
from defect_mf_flows.site.losses import losses
from defect_mf_flows.site.queue import known_queue_jobs
from defect_mf_flows.site.recovery import Findings, Queue, inspect
from defect_mf_flows.site.versions import other_versions

#: FireWorks' states and what they are called here, in the order of a job's life.
COLUMNS = {
    "WAITING": "waiting",
    "READY": "ready",
    "RESERVED": "reserved",
    "RUNNING": "running",
    "COMPLETED": "done",
    "FIZZLED": "fizzled",
    "PAUSED": "paused",
    "DEFUSED": "stopped",
    "ARCHIVED": "stopped",
}


@dataclass(frozen=True)
class StageLine:
    """Counts of the jobs of one stage that one category of workers takes.

    Attributes
    ----------
    stage, category
        Which jobs.
    counts
        Number per state, named as in :data:`COLUMNS`; states without jobs are left out.
    """

    stage: str
    category: str
    counts: dict[str, int]


@dataclass(frozen=True)
class Failed:
    """Jobs that failed for the same reason.

    Attributes
    ----------
    reason
        Last line of the stack trace.
    jobs
        Their names by Firework id.
    workers
        Where they failed.
    """

    reason: str
    jobs: dict[int, str]
    workers: tuple[str, ...]


@dataclass(frozen=True)
class SiteStatus:
    """A campaign of a site at one moment.

    Attributes
    ----------
    name, key
        The campaign and its hash.
    state
        ``finished``, ``failed`` (nothing can run before `retry`), what people want of it
        (``paused``, ``cancelled``), ``running``, or ``queued`` while nothing runs.
    stages
        Counts, in the order in which stages appeared.
    running
        Names of the jobs that run, and their workers.
    failed
        What failed, the commonest reason first.
    findings
        What killed processes left behind.
    lost
        How often jobs were lost, by cause.
    other_versions
        Unfinished jobs of other versions of this package.
    remaining
        Estimate of the seconds to go at the present number of running jobs, None if unknown;
        jobs that do not exist yet are not in it.
    spent
        Per fidelity.
    """

    name: str
    key: str
    state: str
    stages: tuple[StageLine, ...] = ()
    running: dict[str, str] = field(default_factory=dict)
    failed: tuple[Failed, ...] = ()
    findings: Findings = field(default_factory=Findings)
    lost: dict[str, int] = field(default_factory=dict)
    other_versions: dict[str, int] = field(default_factory=dict)
    remaining: float | None = None
    spent: tuple[Spent, ...] = ()

    def count(self, column: str) -> int:
        """Number of jobs in a state, named as in :data:`COLUMNS`."""
        return sum(line.counts.get(column, 0) for line in self.stages)

    @property
    def total(self) -> int:
        """Jobs known so far; dynamic flows add more."""
        return sum(sum(line.counts.values()) for line in self.stages)

    def as_json(self) -> dict[str, Any]:
        """Return it with plain types."""
        return {**asdict(self), "total": self.total, "done": self.count("done")}


@dataclass(frozen=True)
class CampaignLine:
    """One campaign in the list of all: how many jobs there are, and what became of them."""

    name: str
    key: str
    state: str
    total: int
    done: int
    running: int
    fizzled: int


def site_status(
    launchpad: SiteLaunchPad,
    store: JobStore,
    entry: CampaignEntry,
    queue: Queue = known_queue_jobs,
) -> SiteStatus:
    """Read the status of a campaign; nothing is changed.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    store
        The site's job store, connected.
    entry
        The campaign.
    queue
        Tells which queue jobs there are.

    Returns
    -------
    SiteStatus
        As of now.
    """
    states = _states(campaign_workflow(launchpad, entry, {"fw_states": 1}))
    jobs = _jobs(launchpad, list(states))
    progress = ProgressTracker(launchpad, entry.key).read()
    return SiteStatus(
        name=entry.name,
        key=entry.key,
        state=overall_state(entry, states, progress.complete),
        stages=_stages(states, jobs),
        running=_running(launchpad, states, jobs),
        failed=_failed(launchpad, states, jobs),
        findings=inspect(launchpad, entry, queue),
        lost=losses(launchpad, states),
        other_versions=other_versions(launchpad, entry.key),
        remaining=None if progress.complete else progress.remaining,
        spent=spent(store, entry.key, cores=lambda fw_id: _cores(jobs.get(fw_id, {}))),
    )


def all_campaigns(launchpad: LaunchPad) -> list[CampaignLine]:
    """Return a line for every campaign of a LaunchPad.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    """
    workflows = {
        workflow["metadata"]["campaign_hash"]: _states(workflow)
        for workflow in launchpad.workflows.find(
            {"metadata.campaign_hash": {"$exists": True}},
            {"fw_states": 1, "metadata.campaign_hash": 1},
        )
    }
    lines = []
    for entry in list_campaigns(launchpad):
        states = workflows.get(entry.key, {})
        counts = Counter(states.values())
        complete = bool(states) and all(s in ("COMPLETED", "DEFUSED") for s in states.values())
        lines.append(
            CampaignLine(
                name=entry.name,
                key=entry.key,
                state=overall_state(entry, states, complete),
                total=len(states),
                done=counts["COMPLETED"],
                running=counts["RUNNING"],
                fizzled=counts["FIZZLED"],
            )
        )
    return lines


def overall_state(entry: CampaignEntry, states: dict[int, str], complete: bool) -> str:
    """Say in one word how a campaign is.

    Parameters
    ----------
    entry
        What people want of it.
    states
        FireWorks' state of every job.
    complete
        Whether nothing is left to do.
    """
    if complete:
        return "finished"
    if entry.state != ACTIVE:
        return entry.state
    present = set(states.values())
    if "RUNNING" in present:
        return "running"
    if present & {"READY", "RESERVED"}:
        return "queued"
    return "failed" if "FIZZLED" in present else "paused"


def _cores(job: dict[str, Any]) -> int:
    asked = job.get("_queueadapter") or {}
    return int(asked.get("ntasks", 1)) * int(asked.get("cpus_per_task", 1))


def _states(workflow: dict[str, Any]) -> dict[int, str]:
    return {int(fw_id): state for fw_id, state in workflow["fw_states"].items()}


def _jobs(launchpad: LaunchPad, fw_ids: list[int]) -> dict[int, dict[str, Any]]:
    names = ("stage", "_category", "_queueadapter")
    fields = {"fw_id": 1, "name": 1, "launches": 1, **{f"spec.{name}": 1 for name in names}}
    return {
        found["fw_id"]: {**found.get("spec", {}), "name": found["name"]}
        for found in launchpad.fireworks.find({"fw_id": {"$in": fw_ids}}, fields)
    }


def _stages(states: dict[int, str], jobs: dict[int, dict[str, Any]]) -> tuple[StageLine, ...]:
    groups: dict[tuple[str, str], Counter[str]] = {}
    for fw_id in sorted(states):
        job = jobs.get(fw_id, {})
        category = job.get("_category", "")
        where = (str(job.get("stage", "other")), category if isinstance(category, str) else "")
        groups.setdefault(where, Counter())[COLUMNS[states[fw_id]]] += 1
    order = list(dict.fromkeys(stage for stage, _ in groups))
    lines = sorted(groups.items(), key=lambda item: order.index(item[0][0]))
    return tuple(StageLine(stage, category, dict(c)) for (stage, category), c in lines)


def _running(
    launchpad: LaunchPad, states: dict[int, str], jobs: dict[int, dict[str, Any]]
) -> dict[str, str]:
    ids = [fw_id for fw_id, state in states.items() if state == "RUNNING"]
    query = {"fw_id": {"$in": ids}, "state": "RUNNING"}
    return {
        f"{jobs.get(launch['fw_id'], {}).get('name', 'job')} ({launch['fw_id']})": launch[
            "fworker"
        ]["name"]
        for launch in launchpad.launches.find(query, {"fw_id": 1, "fworker.name": 1})
    }


def _failed(
    launchpad: LaunchPad, states: dict[int, str], jobs: dict[int, dict[str, Any]]
) -> tuple[Failed, ...]:
    groups: dict[str, list[tuple[int, str | None]]] = defaultdict(list)
    for fw_id, state in sorted(states.items()):
        if state == "FIZZLED":
            trace, worker = stacktrace(launchpad, fw_id)
            groups[reason(trace)].append((fw_id, worker))
    found = [
        Failed(
            reason=text,
            jobs={fw_id: jobs.get(fw_id, {}).get("name", f"job {fw_id}") for fw_id, _ in group},
            workers=tuple(dict.fromkeys(worker for _, worker in group if worker)),
        )
        for text, group in groups.items()
    ]
    return tuple(sorted(found, key=lambda failed: -len(failed.jobs)))
