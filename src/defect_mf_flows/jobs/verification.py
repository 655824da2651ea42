"""High-fidelity verification of the lowest minima."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from jobflow import Job, Maker, OutputReference, Response, job

from defect_mf_flows.campaign import DefectSettings, MatchSettings, VerifySettings
from defect_mf_flows.core.charge import with_spin
from defect_mf_flows.core.known_minima import as_known
from defect_mf_flows.core.minima import Matcher
from defect_mf_flows.core.ranking import worth_verifying
from defect_mf_flows.core.sparing import spare
from defect_mf_flows.engines.base import ReferenceMaker
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
from defect_mf_flows.jobs.curvature import model_curvature
from defect_mf_flows.jobs.judging import finish, verify
from defect_mf_flows.jobs.lower_labels import lower_labels
from defect_mf_flows.schemas.calculation import CalculationKind
from defect_mf_flows.schemas.defect import DefectSet, StartStructure
from defect_mf_flows.schemas.loop import LoopState
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.search import (
    Candidate,
    CandidateSet,
    Exploration,
    SearchSet,
    VerificationSet,
)


@dataclass
class VerifyMaker(Maker):
    """Relaxes the lowest model minima, and the low-fidelity ground state, at high fidelity.

    A minimum within the committee's spread of the lowest may be the lowest, and is relaxed too.
    One that an earlier round verified gets a single point and is not relaxed again. A label below
    the ground state that all these lead to is relaxed as well.

    The first step of each relaxation is the high-fidelity single point. An engine that can
    begins from the model's curvature there, which spares it steps.

    Parameters
    ----------
    name
        Job name.
    relax
        High-fidelity relaxation.
    defects, verification, matching
        Settings.
    device
        torch device of the model.
    """

    name: str = "verification"
    relax: ReferenceMaker = field(default_factory=ReferenceMaker)
    defects: DefectSettings = field(default_factory=DefectSettings)
    verification: VerifySettings = field(default_factory=VerifySettings)
    matching: MatchSettings = field(default_factory=MatchSettings)
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
                chosen = self._candidates(defect.name, charge, number, searches, exploration, known)
                if known:
                    matcher = Matcher(defect, defects.host.supercell, self.matching)
                    chosen = [
                        as_known(c, known, matcher, settings=self.verification)
                        if c.origin == "model"
                        else c
                        for c in chosen
                    ]
                spin = self.defects.spin_of(defect.name, charge)
                found = self._with_energies(chosen, model, spin)
                new += found
                owners += [(defect.name, charge)] * len(found)
        every = CandidateSet(job_uuid=own_uuid(), candidates=new, owners=owners)
        if self.verification.relax_within is None:
            return self._relax_all(every, defects_uuid, model_uuid, state)
        jobs = [
            self._single_point(*owner, candidate, number)
            for candidate, owner in zip(new, owners, strict=True)
        ]
        sifted = self.sift(
            defects_uuid, model_uuid, state, own_uuid(), [item.output.job_uuid for item in jobs]
        )
        staged(sifted, Stage.VERIFICATION, f"what to relax in round {number}")
        response = replaced_by([*jobs, sifted], sifted.output)
        response.output = every
        return response

    @job(data=["candidates"], config=WITH_STORE)
    def sift(
        self,
        defects_uuid: str,
        model_uuid: str,
        state: LoopState,
        candidates_uuid: str,
        single_points: list[str],
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
            uuids of their single points, in the same order.

        Returns
        -------
        VerificationSet
            Through the gathering job that replaces this one.
        """
        store, within = job_store(), self.verification.relax_within
        assert within is not None
        chosen = read_output(store, candidates_uuid, CandidateSet, load=True, first=True)
        done = calculations(single_points)
        known = [
            candidate.model_copy(
                update={"energy_single_point": found.frames[0].energy if found.frames else None}
            )
            for candidate, found in zip(chosen.candidates, done, strict=True)
        ]
        sifted: dict[int, Candidate] = {}
        for owner in dict.fromkeys(chosen.owners):
            places = [k for k, other in enumerate(chosen.owners) if other == owner]
            marked = spare([known[k] for k in places], within=within)
            sifted |= dict(zip(places, marked, strict=True))
        candidates = [
            c
            if c.spared or c.known_from
            else c.model_copy(update={"calculations": [single_points[k]]})
            for k, c in sorted(sifted.items())
        ]
        every = chosen.model_copy(update={"job_uuid": own_uuid(), "candidates": candidates})
        return self._relax_all(every, defects_uuid, model_uuid, state, single_points)

    def _relax_all(
        self,
        every: CandidateSet,
        defects_uuid: str,
        model_uuid: str,
        state: LoopState,
        single_points: list[str] | None = None,
    ) -> Response:
        """Relax all candidates but those that were spared, then judge."""
        number = len(state.rounds) + 1
        jobs: list[Job] = []
        done: list[str | OutputReference] = []
        for k, (candidate, owner) in enumerate(zip(every.candidates, every.owners, strict=True)):
            first = None if single_points is None else single_points[k]
            if first is not None and (candidate.spared or candidate.known_from):
                done.append(first)
                continue
            jobs += self._jobs(*owner, candidate, number, model_uuid, first)
            done.append(jobs[-1].output.job_uuid)
        gather = self.judge(defects_uuid, model_uuid, state, own_uuid(), done, single_points)
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
        relaxations: list[str],
        single_points: list[str] | None = None,
        lower_relaxed: bool = False,
    ) -> Response:
        """Attach the relaxations to their candidates and judge every charge state.

        A ground state cannot lie above a label of its charge state. Where one does, the model
        has missed a basin that is known: the lowest label is relaxed, too, before judging.

        Parameters
        ----------
        defects_uuid, model_uuid
            uuids of the jobs that made host and defects, and the model.
        state
            Holds the earlier rounds and all labels.
        candidates_uuid
            uuid of the job that chose the round's candidates.
        relaxations
            uuids of their calculations, in the same order.
        single_points
            uuids of calculations that came before: their frames are labels, their calls count.
        lower_relaxed
            True once labels have been relaxed in this round.

        Returns
        -------
        VerificationSet
            One verification per defect and charge.
        """
        store, number = job_store(), len(state.rounds) + 1
        defects = read_output(store, defects_uuid, DefectSet, load=False)
        chosen = read_output(store, candidates_uuid, CandidateSet, load=True, first=True)
        done = calculations(relaxations)
        judged: dict[tuple[str, int], list[Candidate]] = {}
        for defect in defects.defects:
            for charge in defect.charges:
                judged[defect.name, charge] = [
                    *(
                        finish(candidate, calculation, defect, self.verification)
                        for candidate, owner, calculation in zip(
                            chosen.candidates, chosen.owners, done, strict=True
                        )
                        if owner == (defect.name, charge)
                    ),
                    *earlier_candidates(state, defect.name, charge),
                ]
        if not lower_relaxed:
            labels = calculations(state.labels, frames=False)
            lower = lower_labels(
                judged,
                [c for c in labels if c.fidelity == self.relax.fidelity],
                number=number,
                tolerance=self.verification.energy_tolerance,
            )
            if lower:
                return self._relax_lower(
                    lower, chosen, relaxations, single_points, (defects_uuid, model_uuid, state)
                )
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
        return Response(
            output=VerificationSet(
                job_uuid=own_uuid(),
                verifications=verifications,
                calculations=[c.job_uuid for c in done],
                high_calls=sum(c.n_calls for c in done),
            )
        )

    def _relax_lower(
        self,
        lower: dict[tuple[str, int], Candidate],
        chosen: CandidateSet,
        relaxations: list[str],
        single_points: list[str] | None,
        context: tuple[str, str, LoopState],
    ) -> Response:
        """Relax labels that lie below their ground states, and judge again."""
        defects_uuid, model_uuid, state = context
        number = len(state.rounds) + 1
        model = read_output(job_store(), model_uuid, Model, load=True)
        jobs: list[Job] = []
        new: list[Candidate] = []
        added: list[OutputReference] = []
        for (defect, charge), candidate in lower.items():
            spin = self.defects.spin_of(defect, charge)
            new += self._with_energies([candidate], model, spin)
            jobs += self._jobs(defect, charge, new[-1], number, model_uuid)
            added.append(jobs[-1].output.job_uuid)
        again = self.judge(
            defects_uuid,
            model_uuid,
            state,
            own_uuid(),
            [*relaxations, *added],
            single_points,
            lower_relaxed=True,
        )
        staged(again, Stage.VERIFICATION, f"verdicts of round {number}, lower labels relaxed")
        response = replaced_by([*jobs, again], again.output)
        response.output = CandidateSet(
            job_uuid=own_uuid(),
            candidates=[*chosen.candidates, *new],
            owners=[*chosen.owners, *lower],
        )
        return response

    def _candidates(
        self,
        defect: str,
        charge: int,
        number: int,
        searches: SearchSet,
        exploration: Exploration,
        known: list[Candidate],
    ) -> list[Candidate]:
        found = searches.get(defect, charge)
        ranks = worth_verifying(
            found.minima,
            certain=self.verification.minima,
            uncertain=self.verification.uncertain,
        )
        chosen = [
            Candidate(
                origin="model",
                round=number,
                rank=rank,
                start=found.minima[rank].starts[0],
                energy_model=found.minima[rank].energy,
                structure=found.minima[rank].structure,
            )
            for rank in ranks
        ]
        low = exploration.get(defect, charge).minima
        if low and not any(c.origin == "low" for c in known):
            chosen.append(
                Candidate(
                    origin="low",
                    round=number,
                    rank=0,
                    start=low[0].starts[0],
                    energy_model=0.0,
                    energy_low=low[0].energy,
                    structure=low[0].structure,
                )
            )
        return chosen

    def _with_energies(
        self, candidates: list[Candidate], model: Model, spin: int | None
    ) -> list[Candidate]:
        """Model energies of the candidates that the model did not relax itself."""
        from defect_mf_flows.learning.potential import Potential

        potential = Potential(model, head=model.heads[-1], device=self.device)
        return [
            c
            if c.origin == "model"
            else c.model_copy(
                update={"energy_model": potential.predict([with_spin(c.structure, spin)])[0][0]}
            )
            for c in candidates
        ]

    def _jobs(
        self,
        defect: str,
        charge: int,
        candidate: Candidate,
        number: int,
        model_uuid: str,
        single_point: str | None = None,
    ) -> list[Job]:
        """The candidate's relaxation, last, and what it begins from."""
        if candidate.known_from:
            return [self._single_point(defect, charge, candidate, number)]
        begins: dict[str, str | OutputReference] = {}
        jobs = []
        if self.relax.own_minimiser and single_point is not None:
            begins["single_point_uuid"] = single_point
        if self.relax.own_minimiser and self.verification.curvature:
            start = self._start(defect, charge, candidate, number)
            bends = model_curvature(start, model_uuid, self.device)
            name = f"{defect} {charge:+d} | {start.label} | curvature"
            jobs.append(staged(bends, Stage.VERIFICATION, name, defect=defect, charge=charge))
            begins["curvature_uuid"] = bends.output.job_uuid
        return [*jobs, self._relax(defect, charge, candidate, number, **begins)]

    def _start(self, defect: str, charge: int, candidate: Candidate, number: int) -> StartStructure:
        return StartStructure(
            defect=defect,
            charge=charge,
            spin=self.defects.spin_of(defect, charge),
            label=f"round{number}_{candidate.origin}{candidate.rank}_{candidate.start}",
            structure=candidate.structure,
        )

    def _single_point(self, defect: str, charge: int, candidate: Candidate, number: int) -> Job:
        kind = CalculationKind.STATIC
        maker = replace(self.relax, kind=kind, name=f"{self.relax.fidelity} {kind.value}")
        return self._computed(maker, self._start(defect, charge, candidate, number))

    def _relax(
        self,
        defect: str,
        charge: int,
        candidate: Candidate,
        number: int,
        **begins: str | OutputReference,
    ) -> Job:
        start = self._start(defect, charge, candidate, number)
        return self._computed(self.relax, start, **begins)

    @staticmethod
    def _computed(
        maker: ReferenceMaker, start: StartStructure, **begins: str | OutputReference
    ) -> Job:
        name = f"{start.defect} {start.charge:+d} | {start.label}"
        return staged(
            maker.make(start, **begins),
            Stage.VERIFICATION,
            f"{name} | {maker.fidelity} {maker.kind.value}",
            defect=start.defect,
            charge=start.charge,
            fidelity=maker.fidelity,
        )
