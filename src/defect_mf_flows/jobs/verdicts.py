"""Verdicts on the candidates of a round, and what has to be relaxed before they can be given."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobflow import Job, Maker, OutputReference, Response, job

from defect_mf_flows.campaign import DefectSettings, MatchSettings, VerifySettings
from defect_mf_flows.engines.base import ReferenceMaker
from defect_mf_flows.jobs.candidates import CandidateJobs, with_energies
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
from defect_mf_flows.jobs.judging import finish, unasked, verify
from defect_mf_flows.jobs.lower_labels import lower_labels
from defect_mf_flows.jobs.second_look import worth_relaxing
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.schemas.defect import DefectSet
from defect_mf_flows.schemas.loop import LoopState
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.search import Candidate, CandidateSet, Owner, VerificationSet


@dataclass
class JudgeMaker(Maker):
    """Judges a round once its candidates are computed, and relaxes first what may lie lower.

    Parameters
    ----------
    name
        Job name.
    relax
        High-fidelity relaxation.
    low
        Low-fidelity single point.
    defects, verification, matching
        Settings.
    device
        torch device of the model.
    """

    name: str = "verdicts"
    relax: ReferenceMaker = field(default_factory=ReferenceMaker)
    low: ReferenceMaker = field(default_factory=ReferenceMaker)
    defects: DefectSettings = field(default_factory=DefectSettings)
    verification: VerifySettings = field(default_factory=VerifySettings)
    matching: MatchSettings = field(default_factory=MatchSettings)
    device: str = "cpu"

    @job(data=["candidates"], config=WITH_STORE)
    def judge(
        self,
        defects_uuid: str,
        model_uuid: str,
        state: LoopState,
        candidates_uuid: str,
        relaxations: list[str | None],
        single_points: list[str] | None = None,
        looked_again: bool = False,
        lower_relaxed: bool = False,
    ) -> Response:
        """Attach the relaxations to their candidates and judge every charge state.

        Where the settings limit relaxations, those left out that may end lower by their forces
        are relaxed now. A ground state cannot lie above a label of its charge state. Where one
        does, the model has missed a basin that is known: the lowest label is relaxed, too, before
        judging.

        Parameters
        ----------
        defects_uuid, model_uuid
            uuids of the jobs that made host and defects, and the model.
        state
            Holds the earlier rounds and all labels.
        candidates_uuid
            uuid of the job that chose the round's candidates.
        relaxations
            uuids of their calculations, in the same order; None where high fidelity was not asked.
        single_points
            uuids of calculations that came before: their frames are labels, their calls count.
        looked_again, lower_relaxed
            True once candidates left out, or labels, have been relaxed in this round.

        Returns
        -------
        VerificationSet
            One verification per defect and charge.
        """
        store, number = job_store(), len(state.rounds) + 1
        defects = read_output(store, defects_uuid, DefectSet, load=False)
        chosen = read_output(store, candidates_uuid, CandidateSet, load=True, first=True)
        first = number == 1 and state.first_relaxations.candidates is not None
        model = read_output(store, model_uuid, Model, load=True) if first else None
        done = calculations([uuid for uuid in relaxations if uuid is not None])
        found = {c.job_uuid: c for c in done}
        finished = self._finished(chosen, relaxations, found, defects)
        judged = self._by_owner(defects, chosen.owners, finished, state, model)
        context = (defects_uuid, model_uuid, state)
        within = self.verification.relax_within
        if not looked_again and within is not None and self.verification.relaxations is not None:
            asked = [None if uuid is None else found[uuid] for uuid in relaxations]
            left_out = worth_relaxing(finished, chosen.owners, asked, judged, within=within)
            if left_out:
                return self._relax_left_out(left_out, chosen, relaxations, single_points, context)
        if not lower_relaxed:
            labels = calculations(state.labels, frames=False)
            lower = lower_labels(
                judged,
                [c for c in labels if c.fidelity == self.relax.fidelity],
                number=number,
                tolerance=self.verification.energy_tolerance,
            )
            if lower:
                return self._relax_lower(lower, chosen, relaxations, single_points, context)
        before = [uuid for uuid in single_points or [] if uuid not in relaxations]
        done += calculations(before, frames=False)
        known_labels = set(state.labels)  # a label that a candidate took over was paid for before
        done = [c for c in done if c.job_uuid not in known_labels]
        return Response(
            output=VerificationSet(
                job_uuid=own_uuid(),
                verifications=[
                    verify(
                        defects.get(name),
                        charge,
                        judged[name, charge],
                        number,
                        self.verification,
                        self.matching,
                    )
                    for name, charge in judged
                ],
                calculations=[c.job_uuid for c in done],
                high_calls=sum(c.n_calls for c in done),
                checks=chosen.checks,
            )
        )

    def _finished(
        self,
        chosen: CandidateSet,
        relaxations: list[str | None],
        found: dict[str, Calculation],
        defects: DefectSet,
    ) -> list[Candidate]:
        """Candidates of the round with what high fidelity made of them, in their order."""
        return [
            unasked(candidate, self.verification)
            if uuid is None
            else finish(candidate, found[uuid], defects.get(defect), self.verification)
            for candidate, (defect, _), uuid in zip(
                chosen.candidates, chosen.owners, relaxations, strict=True
            )
        ]

    def _by_owner(
        self,
        defects: DefectSet,
        owners: list[Owner],
        finished: list[Candidate],
        state: LoopState,
        model: Model | None,
    ) -> dict[Owner, list[Candidate]]:
        """Candidates of every charge state, this round's first."""
        judged: dict[Owner, list[Candidate]] = {
            (defect.name, charge): [] for defect in defects.defects for charge in defect.charges
        }
        for candidate, owner in zip(finished, owners, strict=True):
            judged[owner].append(candidate)
        return {owner: [*own, *self._earlier(state, owner, model)] for owner, own in judged.items()}

    def _relax_left_out(
        self,
        left_out: list[int],
        chosen: CandidateSet,
        relaxations: list[str | None],
        single_points: list[str] | None,
        context: tuple[str, str, LoopState],
    ) -> Response:
        """Relax candidates that were left out, and judge again."""
        defects_uuid, model_uuid, state = context
        jobs: list[Job] = []
        done: list[str | OutputReference | None] = [*relaxations]
        candidates = list(chosen.candidates)
        for k in left_out:
            first = str(relaxations[k])
            update = {"spared": "", "calculations": [first]}
            candidates[k] = candidates[k].model_copy(update=update)
            jobs += self._jobs.relaxation(chosen.owners[k], candidates[k], model_uuid, first)
            done[k] = jobs[-1].output.job_uuid
        every = chosen.model_copy(update={"job_uuid": own_uuid(), "candidates": candidates})
        again = self.judge(
            defects_uuid, model_uuid, state, own_uuid(), done, single_points, looked_again=True
        )
        return self._judged_again(jobs, again, every, "those left out relaxed", state)

    def _relax_lower(
        self,
        lower: dict[tuple[str, int], Candidate],
        chosen: CandidateSet,
        relaxations: list[str | None],
        single_points: list[str] | None,
        context: tuple[str, str, LoopState],
    ) -> Response:
        """Relax labels that lie below their ground states, and judge again."""
        defects_uuid, model_uuid, state = context
        model = read_output(job_store(), model_uuid, Model, load=True)
        jobs: list[Job] = []
        new: list[Candidate] = []
        added: list[OutputReference] = []
        for (defect, charge), candidate in lower.items():
            spin = self.defects.spin_of(defect, charge)
            new += with_energies([candidate], model, spin=spin, device=self.device)
            jobs += self._jobs.relaxation((defect, charge), new[-1], model_uuid)
            added.append(jobs[-1].output.job_uuid)
        again = self.judge(
            defects_uuid,
            model_uuid,
            state,
            own_uuid(),
            [*relaxations, *added],
            single_points,
            looked_again=True,
            lower_relaxed=True,
        )
        every = chosen.model_copy(
            update={
                "job_uuid": own_uuid(),
                "candidates": [*chosen.candidates, *new],
                "owners": [*chosen.owners, *lower],
            }
        )
        return self._judged_again(jobs, again, every, "lower labels relaxed", state)

    def _judged_again(
        self, jobs: list[Job], again: Job, every: CandidateSet, why: str, state: LoopState
    ) -> Response:
        """Run jobs and judge their candidates once more."""
        staged(again, Stage.VERIFICATION, f"verdicts of round {len(state.rounds) + 1}, {why}")
        response = replaced_by([*jobs, again], again.output)
        response.output = every
        return response

    def _earlier(self, state: LoopState, owner: Owner, model: Model | None) -> list[Candidate]:
        """Candidates of earlier rounds; those that were made before the model get its energies."""
        found = earlier_candidates(state, *owner)
        if model is None:
            return found
        return with_energies(found, model, spin=self.defects.spin_of(*owner), device=self.device)

    @property
    def _jobs(self) -> CandidateJobs:
        return CandidateJobs(self.relax, self.low, self.defects, self.verification, self.device)
