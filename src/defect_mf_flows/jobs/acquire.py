"""Between rounds: high-fidelity single points where the committee disagrees."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

from jobflow import Maker, Response, job
from pymatgen.core import Structure

from defect_mf_flows.campaign import DefectSettings, FrameSettings, LoopSettings
from defect_mf_flows.core.acquisition import PLACES, Query, between, choose, unlabelled
from defect_mf_flows.core.charge import with_spin
from defect_mf_flows.core.filters import closest_approach
from defect_mf_flows.core.ranking import worth_verifying
from defect_mf_flows.core.uncertainty import relative_spread
from defect_mf_flows.engines.base import ReferenceMaker
from defect_mf_flows.jobs.common import (
    WITH_STORE,
    Stage,
    calculations,
    job_store,
    read_output,
    reference_job,
    replaced_by,
    staged,
)
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.loop import Acquisition, LoopState
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.search import Search, SearchSet

#: Lowest minima per charge between which geometries are taken.
CONNECTED = 4


@dataclass
class AcquireMaker(Maker):
    """Labels predicted minima and geometries between or above basins that the committee disputes.

    Parameters
    ----------
    name
        Job name.
    static
        High-fidelity single points.
    loop
        How many, and the budget of high-fidelity calls.
    frames
        Limit on close contacts.
    defects
        Spins.
    verified, uncertain
        Minima per charge that verification relaxes anyway: the lowest, and further ones
        within the committee's spread.
    """

    name: str = "acquire labels"
    static: ReferenceMaker = field(default_factory=ReferenceMaker)
    loop: LoopSettings = field(default_factory=LoopSettings)
    frames: FrameSettings = field(default_factory=FrameSettings)
    defects: DefectSettings = field(default_factory=DefectSettings)
    verified: int = 1
    uncertain: int = 0

    @job(config=WITH_STORE)
    def make(self, model_uuid: str, searches_uuid: str, state: LoopState) -> Response:
        """Choose geometries and spawn their single points.

        Parameters
        ----------
        model_uuid, searches_uuid
            uuids of the round's training and search.
        state
            After the round.

        Returns
        -------
        LoopState
            With the new labels, through the gathering job that replaces this one.
        """
        model = read_output(job_store(), model_uuid, Model, load=True)
        searches = read_output(job_store(), searches_uuid, SearchSet, load=True)
        queries = [query for search in searches.searches for query in self._queries(search, model)]
        labels = [frame for done in calculations(state.labels) for frame in done.frames]
        queries = unlabelled(queries, labels)
        chosen = choose(queries, affordable(self.loop, state), width=self.loop.acquire_energy)
        jobs, records = [], []
        number = len(state.rounds)
        for query in chosen:
            start = StartStructure(
                defect=query.defect,
                charge=query.charge,
                spin=self.defects.spin_of(query.defect, query.charge),
                label=f"acquired{number}_{query.label}",
                structure=query.structure,
            )
            item = reference_job(self.static, start, Stage.HIGH)
            jobs.append(item)
            records.append(
                Acquisition(
                    round=number,
                    defect=query.defect,
                    charge=query.charge,
                    kind=query.kind,
                    label=query.label,
                    energy=query.energy,
                    spread=query.spread,
                    calculation=item.uuid,
                )
            )
        gather = gather_acquired(state, records, [item.output.job_uuid for item in jobs])
        staged(gather, Stage.HIGH, f"gather labels after round {number}")
        return replaced_by([*jobs, gather], gather.output)

    def _queries(self, search: Search, model: Model) -> list[Query]:
        """Minima that nobody verified, what lies between the lowest ones, and doubts on the way."""
        from defect_mf_flows.learning.committee import committee_energies

        if not search.minima or not model.members:
            return []
        spin = self.defects.spin_of(search.defect, search.charge)
        relaxed = worth_verifying(search.minima, certain=self.verified, uncertain=self.uncertain)
        named: list[tuple[str, str, Structure]] = [
            ("minimum", f"minimum{rank}", minimum.structure)
            for rank, minimum in enumerate(search.minima)
            if rank not in relaxed
        ]
        for i, j in combinations(range(min(CONNECTED, len(search.minima))), 2):
            images = between(search.minima[i].structure, search.minima[j].structure)
            named += [
                ("crossing", f"between{i}and{j}at{place:g}", image)
                for place, image in zip(PLACES, images, strict=True)
                if closest_approach(image) >= self.frames.min_distance
            ]
        named += [
            ("relaxation", f"{doubt.start}@{doubt.step}", doubt.structure)
            for doubt in search.doubts
            if closest_approach(doubt.structure) >= self.frames.min_distance
        ]
        asked = [search.minima[0].structure, *(structure for _, _, structure in named)]
        energies = committee_energies(model, [with_spin(s, spin) for s in asked])
        scale = 1.0 if model.calibration is None else model.calibration.scale
        spreads = scale * relative_spread(energies, 0)
        return [
            Query(
                defect=search.defect,
                charge=search.charge,
                kind=kind,
                label=label,
                structure=structure,
                energy=float(energies[0, k] - energies[0, 0]),
                spread=float(spreads[k]),
            )
            for k, (kind, label, structure) in enumerate(named, start=1)
        ]


def affordable(loop: LoopSettings, state: LoopState) -> int:
    """Single points that settings and the budget of high-fidelity calls still allow."""
    if loop.max_high_calls is None:
        return loop.acquire
    return max(0, min(loop.acquire, loop.max_high_calls - state.high_calls))


@job(config=WITH_STORE, output_schema=LoopState)
def gather_acquired(state: LoopState, records: list[Acquisition], labels: list[str]) -> LoopState:
    """Add acquired labels to the loop's state.

    Parameters
    ----------
    state
        Before.
    records
        What was asked for.
    labels
        uuids of the single points.

    Returns
    -------
    LoopState
        Failed single points stay listed; the dataset counts and excludes them.
    """
    done = calculations(labels, frames=False)
    return state.model_copy(
        update={
            "labels": [*state.labels, *labels],
            "acquired": [*state.acquired, *records],
            "high_calls": state.high_calls + sum(c.n_calls for c in done),
        }
    )
