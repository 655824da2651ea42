"""What a campaign counted and what it cost, and with which programs."""

from __future__ import annotations

import importlib.metadata
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from defect_mf_flows.jobs.common import Stage
from defect_mf_flows.jobs.first_relaxations import LOW_MINIMUM
from defect_mf_flows.schemas.calculation import Calculation, Failure
from defect_mf_flows.schemas.dataset import Dataset
from defect_mf_flows.schemas.loop import LoopState
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.results import StageCost
from defect_mf_flows.schemas.search import SearchSet

PACKAGES = ("defect-mf-flows", "jobflow", "mace-torch", "torch", "doped", "shakenbreak", "ase")


@dataclass(frozen=True)
class Accounts:
    """The documents of a campaign that cost something.

    Parameters
    ----------
    state
        The finished loop.
    hosts
        Calculation of the pristine cell per fidelity.
    low, labels
        Calculations of the low-fidelity search, and those of the high fidelity: the picks first,
        then what the rounds added.
    models, searches
        Of every round.
    checks
        Low-fidelity single points on what the searches predicted.
    """

    state: LoopState
    hosts: Mapping[str, Calculation]
    low: list[Calculation]
    labels: list[Calculation]
    models: list[Model]
    searches: list[SearchSet]
    checks: list[Calculation] = field(default_factory=list)

    def counts(self, dataset: Dataset, failures: list[Failure]) -> dict[str, object]:
        """Frames, labels, picks, and failures by reason."""
        reasons = Counter(f.reason.value for f in failures)
        frames = Counter[str]()
        for c in [*self.low, *self.labels, *self.checks]:
            frames[c.fidelity] += c.n_frames
        labels = Counter[str]()
        for key, number in dataset.counts.items():
            labels[key.split("|")[0]] += number
        return {
            "frames": dict(frames),
            "labels": dict(labels),
            "labels_by_split": dataset.counts,
            "labels_imported": dataset.imported,
            "picked": len(self.state.picks.frames),
            "pick_candidates": self.state.picks.n_candidates,
            "failures": dict(reasons),
            "reused": sum(
                c.reused_from is not None for c in [*self.hosts.values(), *self.low, *self.labels]
            ),
        }

    def costs(self) -> list[StageCost]:
        """What every stage cost."""
        first = len(self.state.origins)
        costs = [
            _stage_cost(Stage.LOW, self.low),
            *(_stage_cost(Stage.LOW, [c], name="host") for c in self.hosts.values()),
        ]
        asked = {item.calculation for item in self.state.acquired}
        first_relaxed = set(self.state.first_relaxations.calculations)
        later = [c for c in self.labels[first:] if c.job_uuid in asked]
        labels = [*self.labels[:first], *later]
        for fidelity in sorted({c.fidelity for c in labels}):
            done = [c for c in labels if c.fidelity == fidelity]
            costs.append(_stage_cost(Stage.HIGH, done))
        relaxed = [c for c in self.labels[first:] if c.job_uuid in first_relaxed]
        for name, is_low in (("rattled starts", False), ("low-fidelity minima", True)):
            if found := [c for c in relaxed if bool(LOW_MINIMUM.fullmatch(c.start)) is is_low]:
                costs.append(_stage_cost(Stage.HIGH, found, name=name))
        costs.append(
            StageCost(
                stage=Stage.TRAINING.value,
                fidelity=None,
                jobs=len(self.models),
                calls=0,
                seconds=sum(x.seconds for m in self.models for x in (m, *m.members)),
            )
        )
        every = [s for found in self.searches for s in found.searches]
        costs.append(
            StageCost(
                stage=Stage.SEARCH.value,
                fidelity=None,
                jobs=sum(len(s.points) for s in every),
                calls=sum(s.n_calls for s in every),
                seconds=sum(s.seconds for s in every),
            )
        )
        if self.checks:
            costs.append(_stage_cost(Stage.SEARCH, self.checks, name="low-fidelity checks"))
        verified = [c for c in self.labels[first:] if c.job_uuid not in asked | first_relaxed]
        costs.append(_stage_cost(Stage.VERIFICATION, verified))
        if guided := [c for c in self.labels if c.guide is not None]:
            costs.append(_guide_cost(guided))
        return costs


def _stage_cost(stage: Stage, done: list[Calculation], name: str | None = None) -> StageCost:
    return StageCost(
        stage=stage.value if name is None else f"{stage.value} ({name})",
        fidelity=done[0].fidelity if done else None,
        jobs=len(done),
        calls=sum(c.n_calls for c in done),
        seconds=sum(c.seconds for c in done),
        reused=sum(c.reused_from is not None for c in done),
        calls_saved=sum(c.calls_saved for c in done),
    )


def _guide_cost(guided: list[Calculation]) -> StageCost:
    """Cheap calls that guided relaxations; their time is in that of the relaxations."""
    guides = [c.guide for c in guided if c.guide is not None]
    return StageCost(
        stage=f"{Stage.LOW.value} (guiding)",
        fidelity=guides[0].fidelity,
        jobs=len(guides),
        calls=sum(guide.calls for guide in guides),
        seconds=0.0,
        reused=sum(c.reused_from is not None for c in guided),
        calls_saved=sum(guide.calls_saved for guide in guides),
    )


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide results."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def engine_versions(done: list[Calculation]) -> dict[str, str]:
    """Versions of the reference engines, where they are known."""
    found = {c.engine.name: c.engine.version for c in done}
    return {name: version for name, version in found.items() if version}
