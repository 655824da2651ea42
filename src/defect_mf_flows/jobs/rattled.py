"""High-fidelity relaxations of rattled starts, made before there is a model."""

from __future__ import annotations

from collections.abc import Iterable

from jobflow import job

from defect_mf_flows.campaign import PickSettings, VerifySettings
from defect_mf_flows.core.starts import StartMaker
from defect_mf_flows.jobs.common import (
    WITH_STORE,
    calculations,
    job_store,
    own_uuid,
    read_output,
)
from defect_mf_flows.jobs.judging import finish
from defect_mf_flows.schemas.calculation import Failure
from defect_mf_flows.schemas.defect import DefectSet, StartStructure
from defect_mf_flows.schemas.search import RATTLED, Candidate, CandidateSet

#: How labels of these starts begin.
START = "Rattled_"


def rattled_starts(
    makers: Iterable[StartMaker], picks: PickSettings
) -> tuple[list[StartStructure], list[Failure]]:
    """Make as many rattled starts per charge state as the settings ask for.

    Parameters
    ----------
    makers
        One per defect and charge.
    picks
        Settings.

    Returns
    -------
    starts, failures
        In the order of the makers; what could not be made is recorded.
    """
    made: list[StartStructure] = []
    failures: list[Failure] = []
    for maker in makers:
        for number in range(1, picks.relaxations + 1):
            made += maker.rattled(picks.rattle, label=f"{START}{number}", salt="high")
        failures += maker.failures
    return made, failures


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
