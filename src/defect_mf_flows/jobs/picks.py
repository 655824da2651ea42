"""Frames, picks, and their high-fidelity single points."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from jobflow import Job, Maker, Response, job

from defect_mf_flows.campaign import (
    DefectSettings,
    FidelitySettings,
    FrameSettings,
    PickSettings,
    StartSettings,
    VerifySettings,
)
from defect_mf_flows.core.filters import filter_frames
from defect_mf_flows.core.groups import charged_geometry_key, geometry_key
from defect_mf_flows.core.samplers import pick
from defect_mf_flows.core.starts import derived_seed, start_makers
from defect_mf_flows.core.stratified import Candidate, evenly_spaced
from defect_mf_flows.engines.base import ReferenceMaker
from defect_mf_flows.jobs.common import (
    WITH_STORE,
    Stage,
    calculations,
    job_store,
    read_output,
    reference_job,
    replaced_by,
    staged,
    stream_calculations,
)
from defect_mf_flows.jobs.first_relaxations import low_starts, rattled_starts, relaxed_candidates
from defect_mf_flows.jobs.imports import usable_imports
from defect_mf_flows.schemas.calculation import Calculation, Failure
from defect_mf_flows.schemas.dataset import FrameReference, Picks
from defect_mf_flows.schemas.defect import DefectSet, StartStructure
from defect_mf_flows.schemas.frame import Frame
from defect_mf_flows.schemas.loop import FirstRelaxations, Imports, LoopState
from defect_mf_flows.schemas.search import Exploration


def relaxation_key(calculation: Calculation) -> str:
    """Key of a relaxation: no two sides of a split may share it."""
    return f"{calculation.defect}|{calculation.charge:+d}|{calculation.start}"


def frame_reference(frame: Frame) -> FrameReference:
    """Reference to a frame by calculation, step and hash."""
    return FrameReference(
        calculation=frame.lineage.calculation,
        step=frame.lineage.step,
        content_hash=frame.content_hash,
    )


def dataset_frames(
    calculation: Calculation, defects: DefectSet, settings: FrameSettings, floor: float | None
) -> tuple[list[Frame], list[Failure]]:
    """Evenly spaced physical frames of one relaxation.

    Parameters
    ----------
    calculation
        With its frames.
    defects
        For the host's lattice.
    settings
        Limits and number of frames.
    floor
        Lowest energy of the same defect, charge and fidelity, eV; None: of this relaxation.

    Returns
    -------
    frames, dropped
        What is kept, and one failure per frame that is not.
    """
    kept, dropped = filter_frames(
        calculation.frames, settings=settings, lattice_of=defects.host.supercell, floor=floor
    )
    return [kept[i] for i in evenly_spaced(len(kept), settings.per_relaxation)], dropped


@dataclass
class LabelMaker(Maker):
    """Chooses frames and labels them at higher fidelity.

    Parameters
    ----------
    name
        Job name.
    statics
        Single points, one Maker per higher fidelity, the highest last.
    relax
        High-fidelity relaxation, of rattled starts and low-fidelity minima.
    frames, picks, starts, defects, verification
        Settings.
    imports
        Fidelities whose imported frames train too, with their settings.
    seed
        Campaign seed.
    """

    name: str = "choose frames"
    statics: list[ReferenceMaker] = field(default_factory=list)
    relax: ReferenceMaker = field(default_factory=ReferenceMaker)
    frames: FrameSettings = field(default_factory=FrameSettings)
    picks: PickSettings = field(default_factory=PickSettings)
    starts: StartSettings = field(default_factory=StartSettings)
    defects: DefectSettings = field(default_factory=DefectSettings)
    verification: VerifySettings = field(default_factory=VerifySettings)
    imports: dict[str, FidelitySettings] = field(default_factory=dict)
    seed: int = 1

    @job(config=WITH_STORE)
    def make(self, defects_uuid: str, exploration_uuid: str) -> Response:
        """Choose frames, and spawn their single points and the first relaxations.

        Parameters
        ----------
        defects_uuid, exploration_uuid
            uuids of the jobs that made host and defects, and the low-fidelity search.

        Returns
        -------
        LoopState
            Through the gathering job that replaces this one.
        """
        defects = read_output(job_store(), defects_uuid, DefectSet, load=False)
        exploration = read_output(job_store(), exploration_uuid, Exploration, load=True)
        candidates = self._candidates(defects, exploration)
        chosen, strata = pick(
            candidates, settings=self.picks, seed=derived_seed(self.seed, "picks")
        )
        frames = [candidates[i].frame for i in chosen]
        picks = Picks(
            frames=[frame_reference(frame) for frame in frames],
            n_candidates=len(candidates),
            strata=strata,
        )
        minima = low_starts(exploration, self.defects, self.picks)
        relaxations, relaxed, unmade = self._relaxations(defects_uuid, exploration_uuid, minima)
        begun = {charged_geometry_key(s.structure, s.charge) for s in minima}
        jobs, origins = [], []
        for maker in self.statics:
            for frame in frames:
                if maker is self.statics[-1] and geometry_key(frame) in begun:
                    continue  # the first step of a relaxation
                jobs.append(_single_point(maker, frame))
                lineage = frame.lineage
                origins.append(f"{lineage.defect}|{lineage.charge:+d}|{lineage.start}")
        imported, refused = usable_imports(job_store(), defects, self.imports)
        gather = gather_labels(
            exploration.calculations,
            [item.output.job_uuid for item in jobs],
            origins,
            picks,
            self.statics[-1].fidelity,
            exploration.hosts,
            Imports(imported=imported, refused=refused),
            [item.output.job_uuid for item in relaxations],
            next((item.output.job_uuid for item in relaxed), None),
            unmade,
        )
        staged(gather, Stage.HIGH, "gather labels")
        return replaced_by([*jobs, *relaxations, *relaxed, gather], gather.output)

    def _relaxations(
        self, defects_uuid: str, exploration_uuid: str, minima: list[StartStructure]
    ) -> tuple[list[Job], list[Job], list[Failure]]:
        """First relaxations, the job that makes candidates of them, and what failed."""
        starts = minima
        unmade: list[Failure] = []
        if self.picks.relaxations:
            defects = read_output(job_store(), defects_uuid, DefectSet, load=True)
            makers = start_makers(defects, spins=self.defects, settings=self.starts, seed=self.seed)
            rattled, unmade = rattled_starts(makers, self.picks)
            starts = [*rattled, *minima]
        if not starts:
            return [], [], unmade
        jobs = [reference_job(self.relax, start, Stage.HIGH) for start in starts]
        uuids = [item.output.job_uuid for item in jobs]
        found = relaxed_candidates(defects_uuid, exploration_uuid, uuids, self.verification)
        return jobs, [staged(found, Stage.HIGH, "gather the first relaxations")], unmade

    def _candidates(self, defects: DefectSet, exploration: Exploration) -> list[Candidate]:
        floors = lowest_energies(stream_calculations(exploration.calculations, frames=False))
        candidates: list[Candidate] = []
        for calculation in stream_calculations(exploration.calculations):
            search = exploration.get(str(calculation.defect), calculation.charge)
            minimum = next((p.minimum for p in search.points if p.start == calculation.start), -1)
            best = minimum >= 0 and search.minima[minimum].starts[0] == calculation.start
            floor = floors[calculation.defect, calculation.charge, calculation.fidelity]
            frames, _ = dataset_frames(calculation, defects, self.frames, floor)
            last = max(calculation.n_frames - 1, 1)
            for frame in frames:
                candidates.append(
                    Candidate(
                        frame=frame,
                        basin=minimum,
                        progress=frame.lineage.step / last,
                        is_end=best and frame is frames[-1],
                    )
                )
        return candidates


def lowest_energies(done: Iterable[Calculation]) -> dict[tuple[str | None, int, str], float]:
    """Lowest frame energy per (defect, charge, fidelity), eV per cell; needs no frames."""
    floors: dict[tuple[str | None, int, str], float] = {}
    for calculation in done:
        key = (calculation.defect, calculation.charge, calculation.fidelity)
        floors[key] = min(floors.get(key, float("inf")), lowest_energy(calculation))
    return floors


def lowest_energy(calculation: Calculation) -> float:
    """Lowest energy among its frames, eV per cell; infinite without any."""
    if calculation.lowest_energy is not None:
        return calculation.lowest_energy
    if calculation.n_frames and not calculation.frames:  # written before it was recorded
        calculation = read_output(job_store(), calculation.job_uuid, Calculation, load=True)
    return min((frame.energy for frame in calculation.frames), default=float("inf"))


def _single_point(maker: ReferenceMaker, frame: Frame) -> Job:
    lineage = frame.lineage
    start = StartStructure(
        defect=lineage.defect,
        charge=frame.charge,
        spin=frame.spin,
        label=f"{lineage.start}@{lineage.step}",
        structure=frame.structure,
    )
    return reference_job(maker, start, Stage.HIGH)


@job(config=WITH_STORE, output_schema=LoopState)
def gather_labels(
    low: list[str],
    labels: list[str],
    origins: list[str],
    picks: Picks,
    high: str,
    hosts: dict[str, str],
    imports: Imports,
    relaxations: list[str],
    candidates: str | None,
    unmade: list[Failure],
) -> LoopState:
    """Start the loop's state with every label computed so far.

    Parameters
    ----------
    low, labels
        uuids of the low-fidelity relaxations and of the single points.
    origins
        Key of the relaxation behind each single point.
    picks
        What was chosen, kept for the record.
    high
        The high fidelity; only its calls count against the budget.
    hosts
        uuids of the pristine host's single points, per fidelity.
    imports
        Imported calculations that train, and those that do not.
    relaxations
        uuids of the high-fidelity relaxations of rattled starts and low-fidelity minima.
    candidates
        uuid of the job that made candidates of them, or None.
    unmade
        Rattled starts that could not be made.

    Returns
    -------
    LoopState
        Failed single points stay listed; the dataset counts and excludes them.
    """
    labelled = calculations(labels, frames=False)
    done = [*labelled, *calculations(relaxations, frames=False)]
    counted = Counter(c.fidelity for c in labelled)
    return LoopState(
        low=low,
        labels=[*labels, *relaxations],
        origins=dict(zip(labels, origins, strict=True)),
        imports=imports,
        first_relaxations=FirstRelaxations(
            calculations=relaxations, candidates=candidates, unmade=unmade
        ),
        picks=picks,
        label_counts=dict(counted),
        hosts=hosts,
        high_calls=sum(c.n_calls for c in done if c.fidelity == high),
    )
