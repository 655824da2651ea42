"""High-fidelity verification of the lowest minima."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobflow import Job, Maker, OutputReference, Response, job

from defect_mf_flows.campaign import DefectSettings, MatchSettings, VerifySettings
from defect_mf_flows.core.known_minima import as_known, taken_over
from defect_mf_flows.core.minima import Matcher
from defect_mf_flows.core.sparing import left_to_low
from defect_mf_flows.engines.base import ReferenceMaker
from defect_mf_flows.jobs.candidates import (
    CandidateJobs,
    candidates_of,
    is_prediction,
    labelled_already,
    with_energies,
)
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
from defect_mf_flows.jobs.sifting import placed_candidates, sifted_candidates, weighed_candidates
from defect_mf_flows.schemas.defect import DefectSet
from defect_mf_flows.schemas.loop import LoopState
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.search import (
    Candidate,
    CandidateSet,
    Exploration,
    Owner,
    SearchSet,
    VerificationSet,
)


@dataclass
class VerifyMaker(Maker):
    """Relaxes the lowest model minima, and the low-fidelity ground state, at high fidelity.

    A minimum within the committee's spread of the lowest may be the lowest, and is relaxed too.
    One that an earlier round verified is not relaxed again, and gets a single point if it is the
    model's ground state. A label below the ground state that all these lead to is relaxed as well.

    The first step of each relaxation is the high-fidelity single point. Where the settings say so,
    an engine that can begins from the model's curvature there.

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
    low_rounds
        So many rounds, the first, ask the low fidelity alone.
    device
        torch device of the model.
    """

    name: str = "verification"
    relax: ReferenceMaker = field(default_factory=ReferenceMaker)
    low: ReferenceMaker = field(default_factory=ReferenceMaker)
    defects: DefectSettings = field(default_factory=DefectSettings)
    verification: VerifySettings = field(default_factory=VerifySettings)
    matching: MatchSettings = field(default_factory=MatchSettings)
    low_rounds: int = 0
    device: str = "cpu"

    @job(data=["candidates"], config=WITH_STORE)
    def make(
        self,
        defects_uuid: str,
        exploration_uuid: str,
        model_uuid: str,
        searches_uuid: str,
        state: LoopState,
    ) -> Response:
        """Spawn the relaxations of a round and judge them.

        Parameters
        ----------
        defects_uuid, exploration_uuid, model_uuid, searches_uuid
            uuids of the jobs that made them.
        state
            Its earlier rounds' candidates are judged along and not computed again.

        Returns
        -------
        VerificationSet
            Through the gathering job that replaces this one.
        """
        store, number = job_store(), len(state.rounds) + 1
        defects = read_output(store, defects_uuid, DefectSet, load=False)
        exploration = read_output(store, exploration_uuid, Exploration, load=True)
        model = read_output(store, model_uuid, Model, load=True)
        searches = read_output(store, searches_uuid, SearchSet, load=True)
        new: list[Candidate] = []
        owners: list[tuple[str, int]] = []
        for defect in defects.defects:
            for charge in defect.charges:
                known = earlier_candidates(state, defect.name, charge)
                chosen = candidates_of(
                    searches.get(defect.name, charge),
                    exploration.get(defect.name, charge),
                    known,
                    number=number,
                    settings=self.verification,
                    low_alone=number <= self.low_rounds,
                )
                if known:
                    matcher = Matcher(defect, defects.host.supercell, self.matching)
                    chosen = [
                        as_known(c, known, matcher, settings=self.verification)
                        if c.origin == "model"
                        else c
                        for c in chosen
                    ]
                spin = self.defects.spin_of(defect.name, charge)
                found = with_energies(chosen, model, spin=spin, device=self.device)
                new += found
                owners += [(defect.name, charge)] * len(found)
        every = CandidateSet(job_uuid=own_uuid(), candidates=new, owners=owners)
        if self.verification.low_check is None:
            return self._ask_high(every, defects_uuid, model_uuid, state)
        return self._ask_low(every, searches, defects_uuid, model_uuid, state)

    def _ask_low(
        self,
        every: CandidateSet,
        searches: SearchSet,
        defects_uuid: str,
        model_uuid: str,
        state: LoopState,
    ) -> Response:
        """Let the low fidelity compute what the model predicts, then weigh it."""
        number = len(state.rounds) + 1
        jobs = [
            self._jobs.low_single_point(owner, candidate)
            for candidate, owner in zip(every.candidates, every.owners, strict=True)
            if is_prediction(candidate)
        ]
        for found in searches.searches:
            jobs += self._jobs.low_single_points(found, number)
        weighed = self.weigh(
            defects_uuid, model_uuid, state, own_uuid(), [item.output.job_uuid for item in jobs]
        )
        staged(weighed, Stage.VERIFICATION, f"what the low fidelity says in round {number}")
        response = replaced_by([*jobs, weighed], weighed.output)
        response.output = every
        return response

    @job(data=["candidates"], config=WITH_STORE)
    def weigh(
        self,
        defects_uuid: str,
        model_uuid: str,
        state: LoopState,
        candidates_uuid: str,
        checks: list[str],
    ) -> Response:
        """Spare the candidates at which the model does not know the low fidelity; ask for the rest.

        Parameters
        ----------
        defects_uuid, model_uuid
            uuids of the jobs that made host and defects, and the model.
        state
            The loop's state.
        candidates_uuid
            uuid of the job that chose the round's candidates.
        checks
            uuids of the low-fidelity single points: of the predicted minima in their order, then
            of ends that were refused.

        Returns
        -------
        VerificationSet
            Through the gathering job that replaces this one.
        """
        store, limit = job_store(), self.verification.low_check
        assert limit is not None
        chosen = read_output(store, candidates_uuid, CandidateSet, load=True, first=True)
        candidates = weighed_candidates(
            chosen,
            checks,
            read_output(store, model_uuid, Model, load=True),
            self.low.fidelity,
            defects=self.defects,
            limit=limit,
            device=self.device,
        )
        alone = len(state.rounds) < self.low_rounds
        every = chosen.model_copy(
            update={
                "job_uuid": own_uuid(),
                "candidates": left_to_low(candidates) if alone else candidates,
                "checks": checks,
            }
        )
        if alone:
            return self._judge_unasked(every, defects_uuid, model_uuid, state)
        return self._ask_high(every, defects_uuid, model_uuid, state)

    def _judge_unasked(
        self, every: CandidateSet, defects_uuid: str, model_uuid: str, state: LoopState
    ) -> Response:
        """Record a round in which the high fidelity computed nothing."""
        judged = self.judge(
            defects_uuid,
            model_uuid,
            state,
            own_uuid(),
            [None] * len(every.candidates),
            looked_again=True,
            lower_relaxed=True,
        )
        return self._judged_again([], judged, every, "low fidelity alone", state)

    def _ask_high(
        self, every: CandidateSet, defects_uuid: str, model_uuid: str, state: LoopState
    ) -> Response:
        """Relax the candidates, or compute them first where the settings say so."""
        number = len(state.rounds) + 1
        placed = placed_candidates(every, within=self.verification.ask_within)
        every = every.model_copy(update={"candidates": placed})
        asked_low = any(c.origin == "low" and not c.spared for c in every.candidates)
        labels = calculations(list(state.origins)) if asked_low else []
        paid = labelled_already(every.candidates, every.owners, labels, self.relax.fidelity)
        if self.verification.relax_within is None:
            return self._relax_all(every, defects_uuid, model_uuid, state, paid)
        jobs = {
            k: self._jobs.single_point(owner, candidate)
            for k, (candidate, owner) in enumerate(zip(every.candidates, every.owners, strict=True))
            if not (candidate.spared or taken_over(candidate) or paid[k])
        }
        single = [jobs[k].output.job_uuid if k in jobs else uuid for k, uuid in enumerate(paid)]
        sifted = self.sift(defects_uuid, model_uuid, state, own_uuid(), single)
        staged(sifted, Stage.VERIFICATION, f"what to relax in round {number}")
        response = replaced_by([*jobs.values(), sifted], sifted.output)
        response.output = every
        return response

    @job(data=["candidates"], config=WITH_STORE)
    def sift(
        self,
        defects_uuid: str,
        model_uuid: str,
        state: LoopState,
        candidates_uuid: str,
        single_points: list[str | None],
    ) -> Response:
        """Relax the candidates whose single points are low enough, and judge all.

        Parameters
        ----------
        defects_uuid, model_uuid
            uuids of the jobs that made host and defects, and the model.
        state
            The loop's state.
        candidates_uuid
            uuid of the job that chose the round's candidates.
        single_points
            uuids of their single points, in the same order; None where there is none.

        Returns
        -------
        VerificationSet
            Through the gathering job that replaces this one.
        """
        store = job_store()
        chosen = read_output(store, candidates_uuid, CandidateSet, load=True, first=True)
        defects = read_output(store, defects_uuid, DefectSet, load=False)
        candidates = sifted_candidates(
            chosen, single_points, state, defects, settings=self.verification
        )
        every = chosen.model_copy(update={"job_uuid": own_uuid(), "candidates": candidates})
        return self._relax_all(every, defects_uuid, model_uuid, state, single_points)

    def _relax_all(
        self,
        every: CandidateSet,
        defects_uuid: str,
        model_uuid: str,
        state: LoopState,
        single_points: list[str | None],
    ) -> Response:
        """Relax all candidates but those that were spared, then judge."""
        number = len(state.rounds) + 1
        jobs: list[Job] = []
        done: list[str | OutputReference | None] = []
        for k, (candidate, owner) in enumerate(zip(every.candidates, every.owners, strict=True)):
            first = single_points[k]
            asked = candidate.known_from and first is not None
            if candidate.spared or asked or taken_over(candidate):
                done.append(first)
                continue
            jobs += self._jobs.relaxation(owner, candidate, model_uuid, first)
            done.append(jobs[-1].output.job_uuid)
        before = [uuid for uuid in single_points if uuid is not None]
        gather = self.judge(defects_uuid, model_uuid, state, own_uuid(), done, before)
        staged(gather, Stage.VERIFICATION, f"verdicts of round {number}")
        response = replaced_by([*jobs, gather], gather.output)
        response.output = every
        return response

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
        first = number == 1 and state.rattled.candidates is not None
        model = read_output(store, model_uuid, Model, load=True) if first else None
        done = calculations([uuid for uuid in relaxations if uuid is not None])
        found = {c.job_uuid: c for c in done}
        named = {defect.name: defect for defect in defects.defects}
        finished = [
            unasked(candidate, self.verification)
            if uuid is None
            else finish(candidate, found[uuid], named[defect], self.verification)
            for candidate, (defect, _), uuid in zip(
                chosen.candidates, chosen.owners, relaxations, strict=True
            )
        ]
        judged = {
            (defect.name, charge): [
                *(
                    candidate
                    for candidate, owner in zip(finished, chosen.owners, strict=True)
                    if owner == (defect.name, charge)
                ),
                *self._earlier(state, (defect.name, charge), model),
            ]
            for defect in defects.defects
            for charge in defect.charges
        }
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
        verifications = [
            verify(
                defect,
                charge,
                judged[defect.name, charge],
                number,
                self.verification,
                self.matching,
            )
            for defect in defects.defects
            for charge in defect.charges
        ]
        before = [uuid for uuid in single_points or [] if uuid not in relaxations]
        done += calculations(before, frames=False)
        known_labels = set(state.labels)  # a label that a candidate took over was paid for before
        done = [c for c in done if c.job_uuid not in known_labels]
        return Response(
            output=VerificationSet(
                job_uuid=own_uuid(),
                verifications=verifications,
                calculations=[c.job_uuid for c in done],
                high_calls=sum(c.n_calls for c in done),
                checks=chosen.checks,
            )
        )

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
