"""How far a campaign has come, read from the LaunchPad."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fireworks import LaunchPad

from defect_mf_flows.errors import ResultsError

ACTIVE = ("READY", "RESERVED", "RUNNING")
FINISHED = ("COMPLETED", "DEFUSED")  # DEFUSED: a job stopped the flow, or its children, on purpose


@dataclass(frozen=True)
class StageProgress:
    """Counts of one stage; ``mean_seconds`` is the mean duration of its completed jobs."""

    total: int = 0
    done: int = 0
    running: int = 0
    failed: int = 0
    mean_seconds: float | None = None

    @property
    def waiting(self) -> int:
        """Jobs that have not begun."""
        return self.total - self.done - self.running - self.failed


@dataclass(frozen=True)
class Progress:
    """A snapshot of a campaign.

    Parameters
    ----------
    states
        Number of jobs per FireWorks state.
    stages
        Counts per stage, in the order in which the stages appeared.
    running, failed
        Names of jobs.
    elapsed
        Seconds since this run began.
    remaining
        Estimate of the seconds to go, None while a stage that has jobs to do has none completed.
        Jobs that do not exist yet are not in it.
    failed_ids
        Firework ids of the failed jobs.
    """

    states: dict[str, int]
    stages: dict[str, StageProgress]
    running: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    elapsed: float = 0.0
    remaining: float | None = None
    failed_ids: tuple[int, ...] = field(default=(), repr=False)

    @property
    def total(self) -> int:
        """Jobs known so far; dynamic flows add more."""
        return sum(self.states.values())

    @property
    def done(self) -> int:
        """Jobs that need not run any more."""
        return sum(self.states.get(state, 0) for state in FINISHED)

    @property
    def active(self) -> bool:
        """Whether a job runs or could run."""
        return any(self.states.get(state) for state in ACTIVE)

    @property
    def complete(self) -> bool:
        """Whether the campaign has ended well.

        Jobs below a DEFUSED one wait for ever: stopping a job's children is meant to do that.
        """
        if self.active or self.states.get("FIZZLED") or self.states.get("PAUSED"):
            return False
        return self.done == self.total or bool(self.states.get("DEFUSED"))


@dataclass
class _Job:
    name: str
    stage: str
    seconds: float | None = None


class ProgressTracker:
    """Reads the progress of one campaign again and again, each time only what is new.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    campaign_hash
        The ``campaign_hash`` in the workflow's metadata.
    n_workers
        How many jobs run at the same time, for the estimate; by default as many as run just then.
    """

    def __init__(
        self, launchpad: LaunchPad, campaign_hash: str, n_workers: int | None = None
    ) -> None:
        self.launchpad = launchpad
        self.campaign_hash = campaign_hash
        self.n_workers = n_workers
        self._begun = time.monotonic()
        self._jobs: dict[int, _Job] = {}
        self._timed: set[int] = set()

    def read(self) -> Progress:
        """Return the present progress.

        Raises
        ------
        ResultsError
            When there is no such workflow.
        """
        # One document, so the states belong to one moment. The Fireworks are big: they are
        # fetched once, for their names.
        workflow = find_workflow(self.launchpad, self.campaign_hash, {"fw_states": 1})
        if workflow is None:
            raise ResultsError(
                f"The folder holds no workflow of campaign {self.campaign_hash}. "
                "Remedy: start it with `defect-mf run`, or name the folder that it was run in."
            )
        states = {int(fw_id): state for fw_id, state in workflow["fw_states"].items()}
        self._learn_names(sorted(set(states) - set(self._jobs)))
        self._learn_times(
            [i for i, s in states.items() if s == "COMPLETED" and i not in self._timed]
        )
        return self._summarize(states)

    def _learn_names(self, new: list[int]) -> None:
        fields = {"fw_id": 1, "name": 1, "spec.stage": 1}
        for found in self.launchpad.fireworks.find({"fw_id": {"$in": new}}, fields):
            stage = found.get("spec", {}).get("stage") or found["name"]
            self._jobs[found["fw_id"]] = _Job(found["name"], str(stage))

    def _learn_times(self, new: list[int]) -> None:
        query = {"fw_id": {"$in": new}, "state": "COMPLETED"}
        for found in self.launchpad.launches.find(query, {"fw_id": 1, "runtime_secs": 1}):
            if (job := self._jobs.get(found["fw_id"])) is not None:
                job.seconds = found.get("runtime_secs")
        self._timed.update(new)

    def _summarize(self, states: dict[int, str]) -> Progress:
        stages = self._stages(states)
        failed_ids = tuple(i for i in sorted(states) if states[i] == "FIZZLED")
        return Progress(
            states=dict(Counter(states.values())),
            stages=stages,
            running=tuple(self._names(i for i in sorted(states) if states[i] == "RUNNING")),
            failed=tuple(self._names(failed_ids)),
            elapsed=time.monotonic() - self._begun,
            remaining=_remaining(stages.values(), self.n_workers),
            failed_ids=failed_ids,
        )

    def _names(self, fw_ids: Iterable[int]) -> list[str]:
        return [self._job(fw_id).name for fw_id in fw_ids]

    def _job(self, fw_id: int) -> _Job:
        return self._jobs.get(fw_id) or _Job(f"job {fw_id}", "unknown")

    def _stages(self, states: dict[int, str]) -> dict[str, StageProgress]:
        members: dict[str, list[int]] = {}
        for fw_id in sorted(states):
            members.setdefault(self._job(fw_id).stage, []).append(fw_id)
        return {stage: self._stage(states, fw_ids) for stage, fw_ids in members.items()}

    def _stage(self, states: dict[int, str], fw_ids: list[int]) -> StageProgress:
        counts = Counter(states[fw_id] for fw_id in fw_ids)
        seconds = [s for fw_id in fw_ids if (s := self._job(fw_id).seconds) is not None]
        return StageProgress(
            total=len(fw_ids),
            done=sum(counts[state] for state in FINISHED),
            running=counts["RUNNING"],
            failed=counts["FIZZLED"],
            mean_seconds=sum(seconds) / len(seconds) if seconds else None,
        )


def _remaining(stages: Iterable[StageProgress], n_workers: int | None) -> float | None:
    work, running = 0.0, 0
    for stage in stages:
        running += stage.running
        if stage.waiting + stage.running == 0:
            continue
        if stage.mean_seconds is None:
            return None
        work += (stage.waiting + 0.5 * stage.running) * stage.mean_seconds
    return work / (n_workers or max(1, running))


def find_workflow(
    launchpad: LaunchPad, campaign_hash: str, fields: dict[str, int] | None = None
) -> dict[str, Any] | None:
    """Return the workflow document of a campaign.

    Parameters
    ----------
    launchpad
        The LaunchPad.
    campaign_hash
        The ``campaign_hash`` in the workflow's metadata.
    fields
        Fields to fetch; all by default.
    """
    found: dict[str, Any] | None = launchpad.workflows.find_one(
        {"metadata.campaign_hash": campaign_hash}, fields
    )
    return found


def workflow_progress(launchpad: LaunchPad, campaign_hash: str) -> Progress:
    """Return the progress of a campaign once; ``elapsed`` is 0.

    Parameters
    ----------
    launchpad
        A LaunchPad from the local folder or a site.
    campaign_hash
        The ``campaign_hash`` in the workflow's metadata.

    Returns
    -------
    Progress
        The snapshot.

    Raises
    ------
    ResultsError
        When there is no such workflow.
    """
    return ProgressTracker(launchpad, campaign_hash).read()
