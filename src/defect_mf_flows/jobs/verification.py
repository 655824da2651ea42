"""High-fidelity verification of the lowest minima."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from jobflow import Job, Maker, Response, job

from defect_mf_flows.campaign import DefectSettings, MatchSettings, VerifySettings
from defect_mf_flows.core.charge import with_spin
from defect_mf_flows.core.known_minima import as_known, contradicted
from defect_mf_flows.core.matching import (
    SameMinimum,
    deviation,
    soap_vectors,
)
from defect_mf_flows.core.minima import Matcher, unique_minima
from defect_mf_flows.core.ranking import worth_verifying
from defect_mf_flows.core.verdicts import in_own_basin, judge, lowest, model_error
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
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind, FailureReason
from defect_mf_flows.schemas.defect import Defect, DefectSet, StartStructure
from defect_mf_flows.schemas.loop import LoopState
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.search import (
    Candidate,
    CandidateSet,
    Exploration,
    SearchSet,
    Verdict,
    Verification,
    VerificationSet,
)


@dataclass
class VerifyMaker(Maker):
    """Relaxes the lowest model minima, and the low-fidelity ground state, at high fidelity.

    A minimum within the committee's spread of the lowest may be the lowest, and is relaxed too.
    One that an earlier round verified gets a single point and is not relaxed again.

    The first step of each relaxation is the high-fidelity single point.

    Parameters
    ----------
    name
        Job name.
    relax
        High-fidelity relaxation.
    defects, verification, matching
        Settings.
    """

    name: str = "verification"
    relax: ReferenceMaker = field(default_factory=ReferenceMaker)
    defects: DefectSettings = field(default_factory=DefectSettings)
    verification: VerifySettings = field(default_factory=VerifySettings)
    matching: MatchSettings = field(default_factory=MatchSettings)

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
        jobs = []
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
                for candidate in self._with_energies(chosen, model, spin):
                    jobs.append(self._relax(defect.name, charge, candidate, number))
                    new.append(candidate)
                    owners.append((defect.name, charge))
        gather = judge_round(
            defects_uuid,
            state,
            own_uuid(),
            [item.output.job_uuid for item in jobs],
            self.verification,
            self.matching,
        )
        staged(gather, Stage.VERIFICATION, f"verdicts of round {number}")
        chosen_now = CandidateSet(job_uuid=own_uuid(), candidates=new, owners=owners)
        response = replaced_by([*jobs, gather], gather.output)
        response.output = chosen_now
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

        potential = Potential(model, head=model.heads[-1])
        return [
            c
            if c.origin == "model"
            else c.model_copy(
                update={"energy_model": potential.predict([with_spin(c.structure, spin)])[0][0]}
            )
            for c in candidates
        ]

    def _relax(self, defect: str, charge: int, candidate: Candidate, number: int) -> Job:
        start = StartStructure(
            defect=defect,
            charge=charge,
            spin=self.defects.spin_of(defect, charge),
            label=f"round{number}_{candidate.origin}{candidate.rank}_{candidate.start}",
            structure=candidate.structure,
        )
        maker, fidelity = self.relax, self.relax.fidelity
        if candidate.known_from:
            kind = CalculationKind.STATIC
            maker = replace(maker, kind=kind, name=f"{fidelity} {kind.value}")
        name = f"{defect} {charge:+d} | {start.label} | {fidelity} {maker.kind.value}"
        return staged(
            maker.make(start),
            Stage.VERIFICATION,
            name,
            defect=defect,
            charge=charge,
            fidelity=fidelity,
        )


@job(data=["candidates"], config=WITH_STORE, output_schema=VerificationSet)
def judge_round(
    defects_uuid: str,
    state: LoopState,
    candidates_uuid: str,
    relaxations: list[str],
    verification: VerifySettings,
    matching: MatchSettings,
) -> VerificationSet:
    """Attach the high-fidelity relaxations to their candidates and judge every charge.

    Parameters
    ----------
    defects_uuid
        uuid of the job that made host and defects.
    state
        Holds the earlier rounds.
    candidates_uuid
        uuid of the job that chose the round's candidates.
    relaxations
        uuids of their calculations, in the same order.
    verification, matching
        Settings.

    Returns
    -------
    VerificationSet
        One verification per defect and charge.
    """
    defects = read_output(job_store(), defects_uuid, DefectSet, load=False)
    chosen = read_output(job_store(), candidates_uuid, CandidateSet, load=True, first=True)
    done = calculations(relaxations)
    number = len(state.rounds) + 1
    verifications = []
    for defect in defects.defects:
        for charge in defect.charges:
            fresh = [
                _finish(candidate, calculation, defect, verification)
                for candidate, owner, calculation in zip(
                    chosen.candidates, chosen.owners, done, strict=True
                )
                if owner == (defect.name, charge)
            ]
            candidates = [*fresh, *earlier_candidates(state, defect.name, charge)]
            verifications.append(verify(defect, charge, candidates, number, verification, matching))
    return VerificationSet(
        job_uuid=own_uuid(),
        verifications=verifications,
        calculations=relaxations,
        high_calls=sum(c.n_calls for c in done),
    )


def _finish(
    candidate: Candidate, calculation: Calculation, defect: Defect, settings: VerifySettings
) -> Candidate:
    """Read single point, relaxed energy and deviation off the calculation.

    A known minimum keeps what it took over, unless its single point contradicts that: it is
    then not verified, and the next round relaxes it.
    """
    update: dict[str, object] = {"calculations": [calculation.job_uuid, *candidate.calculations]}
    if calculation.frames:
        update["energy_single_point"] = calculation.frames[0].energy
    if candidate.known_from:
        finished = candidate.model_copy(update=update)
        if contradicted(finished):
            return finished.model_copy(
                update={"energy_relaxed": None, "relaxed": None, "deviation": None}
            )
        return finished.model_copy(update={"kept": in_own_basin(finished, settings)})
    if _usable(calculation) and calculation.final_structure is not None:
        moved = deviation(candidate.structure, calculation.final_structure, defect.site)
        update |= {
            "residual_force": _residual_force(calculation),
            "energy_relaxed": calculation.final_energy,
            "relaxed": calculation.final_structure,
            "deviation": moved,
        }
    finished = candidate.model_copy(update=update)
    return finished.model_copy(update={"kept": in_own_basin(finished, settings)})


def _usable(calculation: Calculation) -> bool:
    """Whether its last energy says something of the minimum: out of steps it is a bound."""
    failure = calculation.failure
    return failure is None or (failure.reason is FailureReason.STEPS and bool(calculation.frames))


def _residual_force(calculation: Calculation) -> float | None:
    """Largest force left where steps ran out, eV/Angstrom; None where it ended."""
    if calculation.failure is None or calculation.frames[-1].forces is None:
        return None
    return float(np.linalg.norm(calculation.frames[-1].forces, axis=1).max())


def verify(
    defect: Defect,
    charge: int,
    candidates: list[Candidate],
    number: int,
    settings: VerifySettings,
    matching: MatchSettings,
) -> Verification:
    """Judge one charge state.

    Parameters
    ----------
    defect, charge
        Which charge state.
    candidates
        This round's first, the model's ground state at their head.
    number
        Round.
    settings, matching
        Tolerances.

    Returns
    -------
    Verification
        With the verdict and its reason.
    """
    candidates = _with_basins(defect, candidates, matching)
    mine = [i for i, c in enumerate(candidates) if (c.origin, c.round) == ("model", number)]
    if mine:
        verdict, reason = judge(candidates, mine[0], settings=settings)
    else:
        verdict, reason = Verdict.WRONG, "every relaxation on the model exploded"
    best = lowest(candidates)
    return Verification(
        defect=defect.name,
        charge=charge,
        round=number,
        verdict=verdict,
        reason=reason,
        model_ground=mine[0] if mine else None,
        ground_state=best,
        energy_error=model_error(candidates[mine[0]]) if mine else None,
        candidates=candidates,
    )


def _with_basins(
    defect: Defect, candidates: list[Candidate], matching: MatchSettings
) -> list[Candidate]:
    relaxed = [i for i, c in enumerate(candidates) if c.relaxed is not None]
    if not relaxed:
        return candidates
    vectors = soap_vectors([candidates[i].relaxed for i in relaxed], defect.site)  # type: ignore[misc]
    energies = [float(candidates[i].energy_relaxed or 0.0) for i in relaxed]
    same = SameMinimum(soap=matching.soap, energy=matching.energy)
    _, labels = unique_minima(energies, vectors, same=same)
    basins = dict(zip(relaxed, labels, strict=True))
    return [c.model_copy(update={"basin": basins.get(i)}) for i, c in enumerate(candidates)]
