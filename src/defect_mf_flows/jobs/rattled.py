"""High-fidelity relaxations of rattled starts, made before there is a model."""

from __future__ import annotations

from dataclasses import dataclass

from jobflow import Job, job

from defect_mf_flows.campaign import (
    DefectSettings,
    PickSettings,
    StartSettings,
    VerifySettings,
)
from defect_mf_flows.core.starts import StartMaker
from defect_mf_flows.engines.base import ReferenceMaker
from defect_mf_flows.jobs.common import (
    WITH_STORE,
    Stage,
    calculations,
    job_store,
    own_uuid,
    read_output,
    staged,
)
from defect_mf_flows.jobs.judging import finish
from defect_mf_flows.schemas.calculation import Failure
from defect_mf_flows.schemas.defect import DefectSet, StartStructure
from defect_mf_flows.schemas.search import RATTLED, Candidate, CandidateSet


@dataclass(frozen=True)
class RattledStarts:
    """Starts that are displaced at random and otherwise as the defect was made.

    Parameters
    ----------
    starts, defects, picks
        Settings.
    seed
        Campaign seed.
    """

    starts: StartSettings
    defects: DefectSettings
    picks: PickSettings
    seed: int

    def make(self, found: DefectSet) -> tuple[list[StartStructure], list[Failure]]:
        """Make as many starts per charge state as the settings ask for.

        Parameters
        ----------
        found
            With doped's entries.

        Returns
        -------
        starts, failures
            In the order of defects and charges; what could not be made is recorded.
        """
        made: list[StartStructure] = []
        failures: list[Failure] = []
        for defect in found.defects:
            for charge in defect.charges:
                maker = StartMaker(
                    defect,
                    charge=charge,
                    spin=self.defects.spin_of(defect.name, charge),
                    settings=self.starts,
                    seed=self.seed,
                )
                for number in range(1, self.picks.relaxations + 1):
                    made += maker.rattled(self.picks.rattle, label=f"Rattled_{number}", salt="high")
                failures += maker.failures
        return made, failures


def rattled_relaxation(maker: ReferenceMaker, start: StartStructure) -> Job:
    """High-fidelity relaxation of a rattled start."""
    name = f"{start.defect} {start.charge:+d} | {start.label} | {maker.fidelity} relax"
    return staged(
        maker.make(start),
        Stage.HIGH,
        name,
        defect=start.defect,
        charge=start.charge,
        fidelity=maker.fidelity,
    )


@job(data=["candidates"], config=WITH_STORE, output_schema=CandidateSet)
def relaxed_candidates(
    defects_uuid: str, relaxations: list[str], verification: VerifySettings
) -> CandidateSet:
    """Make candidates of the relaxations, as if a round 0 had verified them.

    Parameters
    ----------
    defects_uuid
        uuid of the job that made host and defects.
    relaxations
        uuids of the calculations.
    verification
        Settings.

    Returns
    -------
    CandidateSet
        One per relaxation that has a frame. There is no model yet: the first round fills in its
        energies, which are not a number until then.
    """
    defects = read_output(job_store(), defects_uuid, DefectSet, load=False)
    candidates: list[Candidate] = []
    owners: list[tuple[str, int]] = []
    for done in calculations(relaxations):
        if not done.frames:
            continue  # its failure is counted with those of the labels
        owner = (str(done.defect), done.charge)
        begun = Candidate(
            origin=RATTLED,
            round=0,
            rank=owners.count(owner),
            start=done.start,
            energy_model=float("nan"),
            structure=done.frames[0].structure,
        )
        candidates.append(finish(begun, done, defects.get(owner[0]), verification))
        owners.append(owner)
    return CandidateSet(job_uuid=own_uuid(), candidates=candidates, owners=owners)
