"""The low-fidelity search: one relaxation job per start structure."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobflow import Job, Maker, Response, job

from defect_mf_flows.campaign import DefectSettings, MatchSettings, StartSettings
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.core.minima import Matcher
from defect_mf_flows.core.starts import start_makers
from defect_mf_flows.engines.base import ReferenceMaker
from defect_mf_flows.jobs.common import (
    WITH_STORE,
    Stage,
    calculations,
    job_store,
    own_uuid,
    read_output,
    reference_job,
    replaced_by,
    staged,
)
from defect_mf_flows.schemas.calculation import Calculation, Failure
from defect_mf_flows.schemas.defect import Defect, DefectSet, StartStructure
from defect_mf_flows.schemas.search import Exploration, Search, SearchPoint


@dataclass
class ExploreMaker(Maker):
    """Relaxes every start of every charge state at low fidelity.

    Parameters
    ----------
    name
        Job name.
    relax
        Low-fidelity relaxation.
    host_statics
        Single points of the pristine host, one per fidelity.
    starts, defects, matching
        Settings.
    seed
        Campaign seed.
    """

    name: str = "low-fidelity search"
    relax: ReferenceMaker = field(default_factory=ReferenceMaker)
    host_statics: list[ReferenceMaker] = field(default_factory=list)
    starts: StartSettings = field(default_factory=StartSettings)
    defects: DefectSettings = field(default_factory=DefectSettings)
    matching: MatchSettings = field(default_factory=MatchSettings)
    seed: int = 1

    @job(config=WITH_STORE)
    def make(self, defects_uuid: str) -> Response:
        """Spawn one relaxation per start and gather them.

        Parameters
        ----------
        defects_uuid
            uuid of the job that made host and defects.

        Returns
        -------
        Exploration
            Through the gathering job that replaces this one.
        """
        defects = read_output(job_store(), defects_uuid, DefectSet, load=True)
        starts, failures = self._starts(defects)
        relaxations = [reference_job(self.relax, start, Stage.LOW) for start in starts]
        hosts = [self._host(maker, defects) for maker in self.host_statics]
        gather = gather_exploration(
            defects_uuid,
            [item.output.job_uuid for item in relaxations],
            [item.output.job_uuid for item in hosts],
            failures,
            self.matching,
        )
        staged(gather, Stage.LOW, "gather low-fidelity search")
        return replaced_by([*hosts, *relaxations, gather], gather.output)

    def _starts(self, defects: DefectSet) -> tuple[list[StartStructure], list[Failure]]:
        starts: list[StartStructure] = []
        failures: list[Failure] = []
        for maker in start_makers(
            defects, spins=self.defects, settings=self.starts, seed=self.seed
        ):
            starts += maker.reference()
            failures += maker.failures
        return starts, failures

    def _host(self, maker: ReferenceMaker, defects: DefectSet) -> Job:
        start = StartStructure(
            defect=None,
            charge=0,
            label="host",
            structure=with_charge(defects.host.supercell, 0),
        )
        name = f"host | {maker.fidelity} static"
        return staged(
            maker.make(start), Stage.LOW, name, defect=None, charge=0, fidelity=maker.fidelity
        )


@job(data=["minima"], config=WITH_STORE, output_schema=Exploration)
def gather_exploration(
    defects_uuid: str,
    relaxations: list[str],
    hosts: list[str],
    failures: list[Failure],
    matching: MatchSettings,
) -> Exploration:
    """Find the unique low-fidelity minima of every charge state.

    Parameters
    ----------
    defects_uuid
        uuid of the job that made host and defects.
    relaxations, hosts
        uuids of the calculations.
    failures
        Starts that could not be made.
    matching
        When two minima are the same.

    Returns
    -------
    Exploration
        Relaxations that failed are counted and excluded.
    """
    defects = read_output(job_store(), defects_uuid, DefectSet, load=False)
    done = calculations(relaxations, frames=False)
    searches = [
        search_of(
            defect,
            charge,
            [c for c in done if (c.defect, c.charge) == (defect.name, charge)],
            Matcher(defect, defects.host.supercell, matching),
        )
        for defect in defects.defects
        for charge in defect.charges
    ]
    return Exploration(
        job_uuid=own_uuid(),
        calculations=relaxations,
        hosts={c.fidelity: c.job_uuid for c in calculations(hosts, frames=False)},
        searches=searches,
        failures=[*failures, *(c.failure for c in done if c.failure is not None)],
    )


def search_of(defect: Defect, charge: int, done: list[Calculation], matcher: Matcher) -> Search:
    """Unique minima among the reference relaxations of one charge state.

    Parameters
    ----------
    defect, charge
        Which charge state.
    done
        Its relaxations; those that failed are left out.
    matcher
        When two minima are the same.

    Returns
    -------
    Search
        Lowest minimum first.
    """
    good = [c for c in done if c.failure is None]
    energies = [float(c.final_energy) for c in good if c.final_energy is not None]
    found = matcher.collect(
        [c.final_structure for c in good if c.final_structure is not None],
        energies,
        [c.start for c in good],
    )
    points = [
        SearchPoint(
            start=c.start,
            energy=energies[i],
            converged=True,
            steps=c.n_frames,
            minimum=found.labels[i],
        )
        for i, c in enumerate(good)
    ]
    return Search(
        defect=defect.name,
        charge=charge,
        source=done[0].fidelity if done else "unknown",
        minima=found.minima,
        points=points,
        failures=[c.failure for c in done if c.failure is not None],
        threshold=found.threshold,
        n_calls=sum(c.n_calls for c in done),
        seconds=sum(c.seconds for c in done),
    )
