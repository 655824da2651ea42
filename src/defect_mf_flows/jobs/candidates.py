"""Candidates of a round: what high fidelity may be asked about, and the jobs that ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jobflow import Job, OutputReference
from pymatgen.core import Structure

from defect_mf_flows.campaign import DefectSettings, VerifySettings
from defect_mf_flows.core.charge import with_spin
from defect_mf_flows.core.groups import charged_geometry_key, geometry_key
from defect_mf_flows.core.ranking import worth_verifying
from defect_mf_flows.core.start_labels import is_verified_at
from defect_mf_flows.core.stratified import evenly_spaced
from defect_mf_flows.core.verdicts import low_ground
from defect_mf_flows.engines.base import ReferenceMaker
from defect_mf_flows.jobs.common import Stage, reference_job, staged
from defect_mf_flows.jobs.curvature import model_curvature
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.search import Candidate, Owner, Search


def candidates_of(
    found: Search,
    explored: Search,
    known: list[Candidate],
    *,
    number: int,
    settings: VerifySettings,
    low_alone: bool = False,
) -> list[Candidate]:
    """Choose the candidates of a charge state.

    Parameters
    ----------
    found
        The model's search.
    explored
        The low-fidelity search.
    known
        Candidates of earlier rounds.
    number
        Round.
    settings
        How many.
    low_alone
        Whether the high fidelity is not asked in this round.

    Returns
    -------
    list of Candidate
        The model's lowest minima, those in reserve among them, then the low-fidelity ground state
        unless it is known or there is nothing to ask about it.
    """
    asked = worth_verifying(found.minima, certain=settings.minima, uncertain=settings.uncertain)
    ranks = sorted({*asked, *range(min(settings.low_minima or 0, len(found.minima)))})
    chosen = [
        Candidate(
            origin="model",
            round=number,
            rank=rank,
            start=found.minima[rank].starts[0],
            energy_model=found.minima[rank].energy,
            structure=found.minima[rank].structure,
            reserve=rank not in asked,
            led_by=[s for s in found.minima[rank].starts if is_verified_at(s, found.charge)],
        )
        for rank in ranks
    ]
    low = explored.minima
    if low and not low_alone and low_ground(known) is None:
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


def labelled_already(
    candidates: Sequence[Candidate],
    owners: Sequence[Owner],
    labels: Sequence[Calculation],
    fidelity: str,
) -> list[str | None]:
    """Find the high-fidelity single points that were computed at the candidates' geometries.

    The lowest end of every low-fidelity basin is labelled before there is a model, and the
    low-fidelity ground state is one of them.

    Parameters
    ----------
    candidates, owners
        Of a round, and their defects and charges.
    labels
        Single points on picked frames, with their frames.
    fidelity
        The high one.

    Returns
    -------
    list of str or None
        uuid per candidate; None where its geometry, or its charge there, was never computed.
    """
    known = {
        (str(done.defect), done.charge, geometry_key(frame)): done.job_uuid
        for done in labels
        if done.fidelity == fidelity and done.failure is None
        for frame in done.frames
    }
    return [
        known.get((*owner, charged_geometry_key(candidate.structure, owner[1])))
        if candidate.origin == "low"
        else None
        for candidate, owner in zip(candidates, owners, strict=True)
    ]


def with_energies(
    candidates: list[Candidate], model: Model, *, spin: int | None, device: str
) -> list[Candidate]:
    """Fill in the model's energies of candidates that it did not relax itself.

    Parameters
    ----------
    candidates
        Of one charge state.
    model
        With its blob.
    spin
        Unpaired electrons of the charge state, or None.
    device
        torch device.

    Returns
    -------
    list of Candidate
        In their order.
    """
    from defect_mf_flows.learning.potential import Potential

    potential = Potential(model, head=model.heads[-1], device=device)
    return [
        c
        if c.origin == "model"
        else c.model_copy(
            update={"energy_model": potential.predict([with_spin(c.structure, spin)])[0][0]}
        )
        for c in candidates
    ]


def is_prediction(candidate: Candidate) -> bool:
    """Whether nothing is known of a candidate but what the model says."""
    return candidate.origin == "model" and not candidate.known_from


@dataclass(frozen=True)
class CandidateJobs:
    """Makes the jobs that compute candidates.

    Parameters
    ----------
    relax
        High-fidelity relaxation.
    low
        Low-fidelity single point.
    defects, verification
        Settings.
    device
        torch device of the model.
    """

    relax: ReferenceMaker
    low: ReferenceMaker
    defects: DefectSettings
    verification: VerifySettings
    device: str

    def relaxation(
        self,
        owner: Owner,
        candidate: Candidate,
        model_uuid: str,
        single_point: str | None = None,
    ) -> list[Job]:
        """High-fidelity relaxation, the last of the jobs, and what it begins from.

        Parameters
        ----------
        owner
            Defect and charge.
        candidate
            One that is known already gets a single point.
        model_uuid
            uuid of the training job.
        single_point
            uuid of a high-fidelity single point on it.

        Returns
        -------
        list of Job
        """
        if candidate.known_from:
            return [self.single_point(owner, candidate)]
        start = self._start(owner, _label(candidate), candidate.structure)
        begins: dict[str, str | OutputReference] = {}
        jobs = []
        if self.relax.own_minimiser and single_point is not None:
            begins["single_point_uuid"] = single_point
        if self.relax.own_minimiser and self.verification.curvature:
            bends = model_curvature(start, model_uuid, self.device)
            name = f"{start.defect} {start.charge:+d} | {start.label} | curvature"
            kept = {"defect": start.defect, "charge": start.charge}
            jobs.append(staged(bends, Stage.VERIFICATION, name, **kept))
            begins["curvature_uuid"] = bends.output.job_uuid
        return [*jobs, reference_job(self.relax, start, Stage.VERIFICATION, **begins)]

    def single_point(self, owner: Owner, candidate: Candidate) -> Job:
        """High-fidelity single point on a candidate of ``owner``."""
        kind = CalculationKind.STATIC
        maker = replace(self.relax, kind=kind, name=f"{self.relax.fidelity} {kind.value}")
        return reference_job(
            maker, self._start(owner, _label(candidate), candidate.structure), Stage.VERIFICATION
        )

    def low_single_point(self, owner: Owner, candidate: Candidate) -> Job:
        """Low-fidelity single point on a candidate of ``owner``."""
        return reference_job(
            self.low, self._start(owner, _label(candidate), candidate.structure), Stage.VERIFICATION
        )

    def low_single_points(self, found: Search, number: int) -> list[Job]:
        """Low-fidelity single points where a search of round ``number`` left what is known."""
        owner, wrecks = (found.defect, found.charge), found.wrecks
        return [
            reference_job(
                self.low,
                self._start(owner, f"round{number}_refused{k}", wrecks[k]),
                Stage.VERIFICATION,
            )
            for k in evenly_spaced(len(wrecks), self.verification.low_asks)
        ]

    def _start(self, owner: Owner, label: str, structure: Structure) -> StartStructure:
        defect, charge = owner
        return StartStructure(
            defect=defect,
            charge=charge,
            spin=self.defects.spin_of(defect, charge),
            label=label,
            structure=structure,
        )


def _label(candidate: Candidate) -> str:
    return f"round{candidate.round}_{candidate.origin}{candidate.rank}_{candidate.start}"
