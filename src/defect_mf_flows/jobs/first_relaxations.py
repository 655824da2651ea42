"""High-fidelity relaxations of rattled starts and low-fidelity minima, before there is a model."""

from __future__ import annotations

import re
from collections.abc import Iterable

from jobflow import job

from defect_mf_flows.campaign import DefectSettings, PickSettings, VerifySettings
from defect_mf_flows.core.starts import StartMaker
from defect_mf_flows.jobs.common import (
    WITH_STORE,
    calculations,
    job_store,
    own_uuid,
    read_output,
)
from defect_mf_flows.jobs.judging import finish
from defect_mf_flows.schemas.calculation import Calculation, Failure
from defect_mf_flows.schemas.defect import DefectSet, StartStructure
from defect_mf_flows.schemas.search import RATTLED, Candidate, CandidateSet, Exploration

#: How labels of rattled starts begin.
START = "Rattled_"
#: Labels of low-fidelity minima, by their rank and the start that found them.
LOW_MINIMUM = re.compile(r"round0_low(\d+)_(.+)")


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


def low_starts(
    exploration: Exploration, defects: DefectSettings, picks: PickSettings
) -> list[StartStructure]:
    """Take the lowest minima of the low-fidelity search, as many as the settings ask for.

    Parameters
    ----------
    exploration
        The low-fidelity search, with its structures.
    defects
        For the spins.
    picks
        Settings.

    Returns
    -------
    list of StartStructure
        By charge state, the lowest first.
    """
    return [
        StartStructure(
            defect=found.defect,
            charge=found.charge,
            spin=defects.spin_of(found.defect, found.charge),
            label=f"round0_low{rank}_{minimum.starts[0]}",
            structure=minimum.structure,
        )
        for found in exploration.searches
        for rank, minimum in enumerate(found.minima[: picks.low_minima])
    ]


@job(data=["candidates"], config=WITH_STORE, output_schema=CandidateSet)
def relaxed_candidates(
    defects_uuid: str,
    exploration_uuid: str,
    relaxations: list[str],
    verification: VerifySettings,
) -> CandidateSet:
    """Make candidates of the relaxations, as if a round 0 had verified them.

    Parameters
    ----------
    defects_uuid, exploration_uuid
        uuids of the jobs that made host and defects, and the low-fidelity search.
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
    exploration = read_output(job_store(), exploration_uuid, Exploration, load=True)
    candidates: list[Candidate] = []
    owners: list[tuple[str, int]] = []
    for done in calculations(relaxations):
        if not done.frames:
            continue  # its failure is counted with those of the labels
        owner = (str(done.defect), done.charge)
        own = [c for c, other in zip(candidates, owners, strict=True) if other == owner]
        begun = _begun(done, exploration, sum(c.origin == RATTLED for c in own))
        candidates.append(finish(begun, done, defects.get(owner[0]), verification))
        owners.append(owner)
    return CandidateSet(job_uuid=own_uuid(), candidates=candidates, owners=owners)


def _begun(done: Calculation, exploration: Exploration, rattled: int) -> Candidate:
    """Candidate at which a relaxation began: a low-fidelity minimum, or a rattled start."""
    known = {
        "round": 0,
        "energy_model": float("nan"),
        "structure": done.frames[0].structure,
    }
    low = LOW_MINIMUM.fullmatch(done.start)
    if low is None:
        return Candidate(origin=RATTLED, rank=rattled, start=done.start, **known)
    rank = int(low[1])
    minimum = exploration.get(str(done.defect), done.charge).minima[rank]
    return Candidate(origin="low", rank=rank, start=low[2], energy_low=minimum.energy, **known)
