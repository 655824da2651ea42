"""High-fidelity verification of the lowest minima."""

from __future__ import annotations

from dataclasses import dataclass

from jobflow import Job, OutputReference, Response, job

from defect_mf_flows.core.known_minima import as_known, taken_over
from defect_mf_flows.core.minima import Matcher
from defect_mf_flows.core.sparing import left_to_low
from defect_mf_flows.jobs.candidates import (
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
from defect_mf_flows.jobs.sifting import placed_candidates, sifted_candidates, weighed_candidates
from defect_mf_flows.jobs.verdicts import JudgeMaker
from defect_mf_flows.schemas.defect import DefectSet
from defect_mf_flows.schemas.loop import LoopState
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.search import (
    Candidate,
    CandidateSet,
    Exploration,
    SearchSet,
)


@dataclass
class VerifyMaker(JudgeMaker):
    """Relaxes the lowest model minima, and the low-fidelity ground state, at high fidelity.

    A minimum within the committee's spread of the lowest may be the lowest, and is relaxed too.
    One that an earlier round verified is not relaxed again, and gets a single point if it is the
    model's ground state. A label below the ground state that all these lead to is relaxed as well.

    The first step of each relaxation is the high-fidelity single point. Where the settings say so,
    an engine that can begins from the model's curvature there.

    Parameters
    ----------
    name, relax, low, defects, verification, matching, device
        As for :class:`~defect_mf_flows.jobs.verdicts.JudgeMaker`.
    low_rounds
        So many rounds, the first, ask the low fidelity alone.
    """

    name: str = "verification"
    low_rounds: int = 0

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
