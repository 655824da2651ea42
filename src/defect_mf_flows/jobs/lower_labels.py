"""Labels that lie below the ground state that verification has found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from defect_mf_flows.core.verdicts import lowest
from defect_mf_flows.jobs.common import job_store, read_output
from defect_mf_flows.jobs.picks import lowest_energy
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.schemas.search import Candidate


def lower_labels(
    judged: Mapping[tuple[str, int], list[Candidate]],
    labels: Sequence[Calculation],
    *,
    number: int,
    tolerance: float,
) -> dict[tuple[str, int], Candidate]:
    """Find the lowest label of every charge state whose relaxed candidates all lie higher.

    Parameters
    ----------
    judged
        Candidates per defect and charge, with their relaxations.
    labels
        High-fidelity calculations, without their frames.
    number
        Round.
    tolerance
        A label must lie lower by more than this, eV per cell.

    Returns
    -------
    dict
        Per defect and charge with such a label: the candidate that begins there, its model energy
        still missing (NaN).
    """
    found: dict[tuple[str, int], Candidate] = {}
    for (defect, charge), candidates in judged.items():
        verified = {uuid for c in candidates if not c.spared for uuid in c.calculations}
        best = lowest(candidates)
        limit = float("inf") if best is None else candidates[best].energy_relaxed or 0.0
        own = {
            c.job_uuid: lowest_energy(c)
            for c in labels
            if (c.defect, c.charge) == (defect, charge)
            and c.failure is None
            and c.job_uuid not in verified
        }
        first = min(own, key=lambda uuid: own[uuid], default=None)
        if first is not None and own[first] < limit - tolerance:
            found[defect, charge] = _candidate(first, number)
    return found


def _candidate(uuid: str, number: int) -> Candidate:
    calculation = read_output(job_store(), uuid, Calculation, load=True)
    frame = min(calculation.frames, key=lambda frame: frame.energy)
    return Candidate(
        origin="label",
        round=number,
        rank=0,
        start=calculation.start,
        energy_model=float("nan"),
        energy_single_point=frame.energy,
        structure=frame.structure,
        calculations=[uuid],
    )
