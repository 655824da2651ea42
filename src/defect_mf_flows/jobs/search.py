"""The surrogate search on the high-fidelity head."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobflow import Maker, Response, job
from pymatgen.core import Structure

from defect_mf_flows.campaign import (
    DefectSettings,
    MatchSettings,
    SearchSettings,
    StartSettings,
)
from defect_mf_flows.campaign.sections import CPU_BATCH
from defect_mf_flows.core.charge import charge_of, with_charge, with_spin
from defect_mf_flows.core.filters import extrapolation, implausible
from defect_mf_flows.core.known_minima import verified_minima
from defect_mf_flows.core.minima import Matcher
from defect_mf_flows.core.references import composition_key
from defect_mf_flows.core.starts import StartMaker
from defect_mf_flows.core.uncertainty import with_spread
from defect_mf_flows.jobs.common import (
    WITH_STORE,
    Stage,
    calculations,
    earlier_candidates,
    job_store,
    own_uuid,
    read_output,
    replaced_by,
    staged,
)
from defect_mf_flows.jobs.search_reuse import batch_hash, find_batch
from defect_mf_flows.schemas.calculation import Failure, FailureReason
from defect_mf_flows.schemas.defect import Defect, DefectSet, StartStructure
from defect_mf_flows.schemas.loop import LoopState
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.search import (
    Exploration,
    RelaxationBatch,
    RelaxationPath,
    Search,
    SearchPoint,
    SearchSet,
)
from defect_mf_flows.settings import get_settings

if TYPE_CHECKING:
    from defect_mf_flows.learning.relaxed import Relaxed


#: Why an end is worthless: the counted reason and what was seen, or twice None.
Judgement = tuple[FailureReason | None, str | None]


@dataclass
class SearchMaker(Maker):
    """Relaxes many starts of every charge state on the model's high head.

    Parameters
    ----------
    name
        Job name.
    search, starts, defects, matching
        Settings.
    device
        torch device.
    seed
        Campaign seed.
    reuse
        Whether batches that the same model has relaxed from the same starts are taken over.
    """

    name: str = "surrogate search"
    search: SearchSettings = field(default_factory=SearchSettings)
    starts: StartSettings = field(default_factory=StartSettings)
    defects: DefectSettings = field(default_factory=DefectSettings)
    matching: MatchSettings = field(default_factory=MatchSettings)
    device: str = "cpu"
    seed: int = 1
    reuse: bool = False

    @job(config=WITH_STORE)
    def make(
        self, defects_uuid: str, exploration_uuid: str, model_uuid: str, state: LoopState
    ) -> Response:
        """Spawn batches of relaxations and gather their minima.

        Parameters
        ----------
        defects_uuid, exploration_uuid, model_uuid
            uuids of the jobs that made host and defects, the low-fidelity search (whose
            minima, and last geometries of relaxations out of steps, are starts too) and the model.
        state
            The loop's state: what earlier rounds verified is a start as well.

        Returns
        -------
        SearchSet
            Through the gathering job that replaces this one.
        """
        store = job_store()
        defects = read_output(store, defects_uuid, DefectSet, load=True)
        exploration = read_output(store, exploration_uuid, Exploration, load=True)
        head = read_output(store, model_uuid, Model, load=False).heads[-1]
        jobs, failures = [], []
        for defect in defects.defects:
            for charge in defect.charges:
                starts, failed = self._starts(defect, charge, exploration)
                starts += self._verified(defect, charge, state)
                failures += failed
                batch = self._batch(len(starts))
                for first in range(0, len(starts), batch):
                    chunk = starts[first : first + batch]
                    item = relax_batch(
                        chunk, model_uuid, self.search, self.device, reuse=self.reuse
                    )
                    name = f"{defect.name} {charge:+d} | search {first + 1}-{first + len(chunk)}"
                    staged(
                        item,
                        Stage.SEARCH,
                        name,
                        defect=defect.name,
                        charge=charge,
                        fidelity=head,
                    )
                    jobs.append(item)
        gather = gather_search(
            defects_uuid, [item.output for item in jobs], failures, head, self.matching
        )
        staged(gather, Stage.SEARCH, "gather minima")
        return replaced_by([*jobs, gather], gather.output)

    def _batch(self, n_starts: int) -> int:
        """Starts per job: a GPU relaxes all of them together, as memory allows."""
        if self.search.batch is not None:
            return self.search.batch
        return CPU_BATCH if self.device.startswith("cpu") else max(1, n_starts)

    def _starts(
        self, defect: Defect, charge: int, exploration: Exploration
    ) -> tuple[list[StartStructure], list[Failure]]:
        spin = self.defects.spin_of(defect.name, charge)
        maker = StartMaker(defect, charge=charge, spin=spin, settings=self.starts, seed=self.seed)
        starts = maker.surrogate(self.search)
        if self.search.from_low:
            ends = [
                (f"Low_{found.charge:+d}_{number}", minimum.structure)
                for found in exploration.searches
                if found.defect == defect.name
                for number, minimum in enumerate(found.minima)
            ]
            starts += [
                StartStructure(
                    defect=defect.name,
                    charge=charge,
                    spin=spin,
                    label=label,
                    structure=with_charge(structure, charge),
                )
                for label, structure in [*ends, *_unfinished(defect, exploration)]
            ]
        return starts, maker.failures

    def _verified(self, defect: Defect, charge: int, state: LoopState) -> list[StartStructure]:
        """High-fidelity minima of earlier rounds, of this charge state and of the others.

        The model must at least know its own, and another's may be what it has not found.
        """
        return [
            StartStructure(
                defect=defect.name,
                charge=charge,
                spin=self.defects.spin_of(defect.name, charge),
                label=label,
                structure=with_charge(candidate.relaxed, charge),
            )
            for other in defect.charges
            for label, candidate in verified_minima(
                earlier_candidates(state, defect.name, other), other
            ).items()
            if candidate.relaxed is not None
        ]


def _unfinished(defect: Defect, exploration: Exploration) -> list[tuple[str, Structure]]:
    """Label and last geometry of low-fidelity relaxations that ran out of steps.

    They are no minima, but often much nearer to one than any distorted start.
    """
    return [
        (f"Unfinished_{c.charge:+d}_{c.start}", c.final_structure)
        for c in calculations(exploration.calculations, frames=False)
        if c.defect == defect.name and c.out_of_steps and c.final_structure is not None
    ]


@job(
    data=["structures", "trajectories", "doubts", "wrecks"],
    config=WITH_STORE,
    output_schema=RelaxationBatch,
)
def relax_batch(
    starts: list[StartStructure],
    model_uuid: str,
    search: SearchSettings,
    device: str,
    reuse: bool = False,
) -> RelaxationBatch:
    """Relax a batch of starts on the model's high head.

    Parameters
    ----------
    starts
        Start structures.
    model_uuid
        uuid of the training job.
    search
        Force threshold and step limit.
    device
        torch device.
    reuse
        Whether to take over what another campaign of the same database has relaxed.

    Returns
    -------
    RelaxationBatch
        In the order of the starts.
    """
    from defect_mf_flows.learning.committee import member_energies
    from defect_mf_flows.learning.doubts import find_doubts
    from defect_mf_flows.learning.relaxation import relax

    began = time.monotonic()
    model = read_output(job_store(), model_uuid, Model, load=True)
    key = batch_hash(starts, model, search, device=device)
    known = find_batch(job_store(), key, but=own_uuid()) if reuse else None
    if known is not None:
        return known
    ends = relax(
        [with_spin(s.structure, s.spin) for s in starts],
        [s.charge for s in starts],
        model,
        model.heads[-1],
        search.fmax,
        search.steps,
        device=device,
        dtype=search.dtype,
        processes=get_settings().relax_processes,
        compiled=search.compile,
        trajectories=search.trajectories or search.doubt is not None or search.trust is not None,
    )
    found, wrecks = _judged(ends, model, search, device)
    problems = [message for _, message in found]
    return RelaxationBatch(
        defect=str(starts[0].defect),
        charge=starts[0].charge,
        starts=[s.label for s in starts],
        energies=[None if p else e.energy for e, p in zip(ends, problems, strict=True)],
        converged=[e.converged for e in ends],
        steps=[e.steps for e in ends],
        problems=problems,
        reasons=[reason for reason, _ in found],
        structures=[e.structure for e in ends],
        committee=member_energies(model, [e.structure for e in ends], problems, device=device),
        scale=1.0 if model.calibration is None else model.calibration.scale,
        trajectories=[_path(e) for e in ends] if search.trajectories else [],
        doubts=find_doubts(
            model, [s.label for s in starts], ends, limit=search.doubt, device=device
        ),
        wrecks=wrecks,
        seconds=time.monotonic() - began,
        input_hash=key,
    )


def _judged(
    ends: list[Relaxed], model: Model, search: SearchSettings, device: str
) -> tuple[list[Judgement], list[Structure]]:
    """What is wrong with each end, and where relaxations left what the model knows."""
    found = [_problem(end, model, search) for end in ends]
    if search.trust is None:
        known = None
    else:
        from defect_mf_flows.learning.familiarity import Trust

        known = Trust(model, error=search.trust, device=device)
        found = [
            judged if judged[1] or not doubt else (FailureReason.EXTRAPOLATED, doubt)
            for judged, doubt in zip(found, known.doubts(ends), strict=True)
        ]
    strayed = [
        end
        for end, (reason, _) in zip(ends, found, strict=True)
        if reason is FailureReason.EXTRAPOLATED
    ]
    if known is None:
        return found, [end.structure for end in strayed]
    left = [known.left_at(end) for end in strayed]
    return found, [structure for structure in left if structure is not None]


def _problem(end: Relaxed, model: Model, search: SearchSettings) -> Judgement:
    """Why an end is worthless: the counted reason and what was seen, or twice None."""
    if end.problem is not None:
        reason = FailureReason.EXPLODED if end.exploded else FailureReason.LOST
        return reason, f"{end.problem}: {end.message}"
    contact = extrapolation(end.structure, model.shortest, tolerance=search.extrapolation)
    if contact is None:
        cell = composition_key(end.structure)
        lowest = model.lowest.get(f"{model.heads[-1]}|{charge_of(end.structure):+d}|{cell}")
        contact = implausible(end.energy, lowest, max_gain=search.max_gain)
    return (None if contact is None else FailureReason.EXTRAPOLATED), contact


def _path(end: Relaxed) -> RelaxationPath | None:
    if end.trajectory is None:
        return None
    return RelaxationPath(
        positions=end.trajectory.positions.tolist(), energies=end.trajectory.energies.tolist()
    )


@job(data=["minima", "doubts", "wrecks"], config=WITH_STORE, output_schema=SearchSet)
def gather_search(
    defects_uuid: str,
    batches: list[RelaxationBatch],
    failures: list[Failure],
    head: str,
    matching: MatchSettings,
) -> SearchSet:
    """Merge the ends of all relaxations into unique minima.

    Parameters
    ----------
    defects_uuid
        uuid of the job that made host and defects.
    batches
        All batches.
    failures
        Starts that could not be made.
    head
        Head that was searched.
    matching
        When two minima are the same.

    Returns
    -------
    SearchSet
        One search per defect and charge.
    """
    defects = read_output(job_store(), defects_uuid, DefectSet, load=False)
    searches = []
    for defect in defects.defects:
        matcher = Matcher(defect, defects.host.supercell, matching)
        for charge in defect.charges:
            mine = [b for b in batches if (b.defect, b.charge) == (defect.name, charge)]
            own = [f for f in failures if (f.defect, f.charge) == (defect.name, charge)]
            searches.append(merge_batches(defect, charge, mine, own, head, matcher))
    return SearchSet(job_uuid=own_uuid(), searches=searches)


def merge_batches(
    defect: Defect,
    charge: int,
    batches: list[RelaxationBatch],
    failures: list[Failure],
    head: str,
    matcher: Matcher,
) -> Search:
    """Unique minima of one charge state; worthless ends are counted as failures.

    Unconverged ends stay: FIRE on a flat surface can run out of steps within a basin.
    """
    ends = [
        (label, energy, done, steps, structure, problem, reason)
        for b in batches
        for label, energy, done, steps, structure, problem, reason in zip(
            b.starts,
            b.energies,
            b.converged,
            b.steps,
            b.structures,
            b.problems,
            b.reasons or [None] * len(b.starts),
            strict=True,
        )
    ]
    good = [end for end in ends if end[1] is not None]
    failed = [
        Failure(
            stage=Stage.SEARCH.value,
            reason=end[6] or FailureReason.OTHER,
            message=f"relaxation on the model: {end[5]}",
            fidelity=head,
            defect=defect.name,
            charge=charge,
            start=end[0],
        )
        for end in ends
        if end[1] is None
    ]
    found = matcher.collect(
        [end[4] for end in good],
        [float(end[1]) for end in good if end[1] is not None],
        [end[0] for end in good],
    )
    members = {
        label: energies
        for b in batches
        for label, energies in zip(b.starts, b.committee, strict=bool(b.committee))
    }
    return Search(
        defect=defect.name,
        charge=charge,
        source=head,
        minima=with_spread(found.minima, members, batches[0].scale if batches else 1.0),
        points=[
            SearchPoint(
                start=end[0],
                energy=float(end[1] or 0.0),
                converged=end[2],
                steps=end[3],
                minimum=found.labels[i],
            )
            for i, end in enumerate(good)
        ],
        failures=[*failures, *failed],
        threshold=found.threshold,
        doubts=[doubt for b in batches for doubt in b.doubts],
        wrecks=[wreck for b in batches for wreck in b.wrecks],
        n_calls=sum(end[3] for end in ends),
        seconds=sum(b.seconds for b in batches),
    )
