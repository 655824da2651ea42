"""Levels and results: everything the report and ``results.json`` show."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from jobflow import CURRENT_JOB, Maker, Response, job

from defect_mf_flows.campaign import Campaign, campaign_hash
from defect_mf_flows.core.environment import environments
from defect_mf_flows.core.fate import fate_of
from defect_mf_flows.core.known_minima import found_first
from defect_mf_flows.core.matching import shortest_bonds, symmetric_deviation
from defect_mf_flows.core.ranking import found_minima
from defect_mf_flows.core.refinement import refine, tried
from defect_mf_flows.core.starts import derived_seed, nearest_neighbours
from defect_mf_flows.core.verdicts import low_ground, lower_unrelaxed, own_basin_energy
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.jobs.accounts import Accounts, engine_versions, package_versions
from defect_mf_flows.jobs.common import (
    WITH_STORE,
    Stage,
    calculations,
    job_store,
    read_output,
)
from defect_mf_flows.jobs.levels import CampaignLevels
from defect_mf_flows.schemas.calculation import Calculation, Failure, FailureReason
from defect_mf_flows.schemas.dataset import Dataset
from defect_mf_flows.schemas.defect import Defect, DefectSet
from defect_mf_flows.schemas.frame import structure_key
from defect_mf_flows.schemas.loop import LoopState
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.refinement import SearchThreshold
from defect_mf_flows.schemas.results import (
    FoundMinimum,
    GroundState,
    PesPoint,
    Results,
)
from defect_mf_flows.schemas.search import (
    Candidate,
    Exploration,
    Search,
    SearchSet,
    Verification,
    VerificationSet,
)

#: Parts of a campaign file that results hold elsewhere, or that may be large.
UNLISTED = ("name", "disclaimer", "seed", "reuse", "host", "fidelities", "roles", "starts")


@dataclass
class ResultsMaker(Maker):
    """Computes transition levels and gathers what the campaign found.

    Parameters
    ----------
    name
        Job name.
    campaign
        The campaign.
    """

    name: str = "levels and results"
    campaign: Campaign | None = None

    @job(
        data=["parity", "structure", "pes", "failures", "ranked_minima", "tried", "descriptors"],
        config=WITH_STORE,
        output_schema=Results,
    )
    def make(self, defects_uuid: str, exploration_uuid: str, state: LoopState) -> Response:
        """Gather results from the documents of the finished loop.

        Parameters
        ----------
        defects_uuid, exploration_uuid
            uuids of the jobs that made them.
        state
            The finished loop.

        Returns
        -------
        Results
            Checked document.
        """
        assert self.campaign is not None
        defects = read_output(job_store(), defects_uuid, DefectSet, load=True)
        exploration = read_output(job_store(), exploration_uuid, Exploration, load=True)
        return Response(output=Gathering(self.campaign, defects, exploration, state).results())


class Gathering:
    """Reads a finished campaign's documents and condenses them.

    Parameters
    ----------
    campaign, defects, exploration, state
        The campaign and its documents.

    Raises
    ------
    ResultsError
        If the loop has not ended.
    """

    def __init__(
        self,
        campaign: Campaign,
        defects: DefectSet,
        exploration: Exploration,
        state: LoopState,
    ) -> None:
        if state.stop is None:
            raise ResultsError(
                f"the loop has no stop verdict after {len(state.rounds)} round(s), so there are "
                "no results yet; run the campaign again to continue it."
            )
        self.campaign, self.defects, self.stop = campaign, defects, state.stop
        self.exploration, self.state = exploration, state
        store, last = job_store(), state.rounds[-1]
        self.model = read_output(store, last.model, Model, load=True)
        self.dataset = read_output(store, last.dataset, Dataset, load=True)
        self.searches = read_output(store, last.searches, SearchSet, load=True)
        self.verdicts = read_output(store, last.verifications, VerificationSet, load=True)
        self.low = calculations(exploration.calculations, frames=False)
        self.labels = calculations(state.labels, frames=False)
        self.checks = calculations(state.checks, frames=False)
        self.hosts = {
            fidelity: read_output(store, uuid, Calculation, load=False)
            for fidelity, uuid in exploration.hosts.items()
        }
        self.models = [read_output(store, r.model, Model, load=False) for r in state.rounds]
        self.all_searches = [
            read_output(store, r.searches, SearchSet, load=False) for r in state.rounds
        ]

    def _hash(self) -> str:
        """Hash under which the flow's documents are stored.

        It is of the host as it was read, which the documents do not hold where the campaign names
        its supercell.
        """
        running = CURRENT_JOB.job
        known = None if running is None else running.metadata.get("campaign_hash")
        return known or campaign_hash(self.campaign, self.defects.host.primitive)

    def results(self) -> Results:
        """Condense everything into one document."""
        c = self.campaign
        judged = [(v, self._ground_state(v)) for v in self.verdicts.verifications]
        grounds = [ground for _, ground in judged if ground is not None]
        lost = [no_ground_state(v, self.labels) for v, ground in judged if ground is None]
        if not grounds:
            raise ResultsError(" ".join(failure.message for failure in lost))
        levels = CampaignLevels(
            c,
            self.defects,
            self.exploration,
            self.hosts,
            grounds,
            {
                (g.defect, g.charge): calculation
                for v, g in judged
                if g is not None and (calculation := self._calculation(v)) is not None
            },
        )
        accounts = Accounts(
            self.state,
            self.hosts,
            self.low,
            self.labels,
            self.models,
            self.all_searches,
            self.checks,
        )
        return Results(
            campaign=c.name,
            campaign_hash=self._hash(),
            disclaimer=c.disclaimer,
            host={
                "formula": self.defects.host.formula,
                "n_atoms": len(self.defects.host.supercell),
                "cell": self.defects.host.supercell.lattice.matrix.tolist(),
            },
            fidelities={"low": c.roles.low, "high": c.roles.high},
            engines={k: v.model_dump(mode="json") for k, v in c.fidelities.items()},
            stop=self.stop,
            stop_reason=self.state.stop_reason,
            ground_states=[
                g.model_copy(update={"perturbed_host": levels.perturbed.get((g.defect, g.charge))})
                for g in grounds
            ],
            transition_levels=levels.levels(),
            correction=levels.method,
            corrections=levels.corrections(),
            formation=levels.formation(),
            skipped=levels.skipped(),
            band_edges=levels.band_edges(c.roles.high),
            metrics=self.model.metrics,
            parity=self.model.parity,
            history=self.model.history,
            best_epoch=self.model.best_epoch,
            descriptors=self.model.descriptors,
            descriptors_missing=self.model.descriptors_missing,
            calibration=self.model.calibration,
            acquired=self.state.acquired,
            ranked_minima=self._minima(),
            thresholds=[
                SearchThreshold(defect=s.defect, charge=s.charge, threshold=s.threshold)
                for s in self.searches.searches
                if s.threshold is not None
            ],
            refinement=refine(
                self.verdicts.verifications,
                {c.job_uuid: c.n_frames - 1 for c in self.labels if c.converged},
            ),
            tried=tried(
                self.verdicts.verifications,
                {c.job_uuid: c.n_calls + c.calls_saved for c in self.labels},
            ),
            uncertainty=levels.uncertainty(self.searches, self.verdicts, self.model.calibration),
            rounds=self.state.rounds,
            counts=accounts.counts(self.dataset, self._failures()),
            failures=[*self._failures(), *lost],
            cost=accounts.costs(),
            pes=self._pes(),
            seeds={
                "campaign": c.seed,
                "picks": derived_seed(c.seed, "picks"),
                "training": self.model.seed,
            },
            versions=package_versions() | engine_versions([*self.low, *self.labels]),
            settings=c.model_dump(mode="json", exclude=set(UNLISTED)),
        )

    # -- ground states -------------------------------------------------------------------

    def _ground_state(self, verification: Verification) -> GroundState | None:
        """What is known of one charge state; None if no high-fidelity relaxation ended."""
        defect = self.defects.get(verification.defect)
        candidates = verification.candidates
        best = None if verification.ground_state is None else candidates[verification.ground_state]
        ground = verification.model_ground
        model = None if ground is None else candidates[ground]
        low = low_ground(candidates)
        search = self.searches.get(verification.defect, verification.charge)
        if best is None or best.energy_relaxed is None or best.relaxed is None:
            return None
        if best is model or model is None:
            moved = best.deviation if model is not None else None
        else:
            moved = symmetric_deviation(model.structure, best.relaxed, defect.site)
        low_energy = own_basin_energy(low, self.campaign.verification) if low else None
        found = found_first(candidates, best)
        lower = lower_unrelaxed(candidates, tolerance=self.campaign.verification.energy_tolerance)
        second = search.minima[1] if len(search.minima) > 1 else None
        return GroundState(
            defect=verification.defect,
            charge=verification.charge,
            verdict=verification.verdict,
            reason=verification.reason,
            energy_model=None if model is None else model.energy_model,
            energy_hf=best.energy_relaxed,
            residual_force=best.residual_force,
            lower_start=None if lower is None else lower.start,
            lower_by=_below(lower, best.energy_relaxed),
            energy_error=verification.energy_error,
            rmsd=moved.rmsd if moved else None,
            local_rmsd=moved.local_rmsd if moved else None,
            max_displacement=moved.max_displacement if moved else None,
            start=found.start,
            found_by=found.origin,
            starts=search.minima[0].starts if search.minima else [],
            n_minima=len(search.minima),
            next_energy=second.energy - search.minima[0].energy if second else None,
            next_spread=second.spread if second else None,
            low_start=low.start if low else "",
            low_is_ground_state=bool(low and low.kept and low.basin == best.basin),
            low_excess=None if low_energy is None else low_energy - best.energy_relaxed,
            low_deviation=low.deviation if low else None,
            low_unfinished=unfinished_below(
                self.exploration.get(verification.defect, verification.charge), self.low
            ),
            shortest_bonds=_shortest(defect, {"verified": best, "low": low}),
            structure=best.relaxed,
            fate=fate_of(best.relaxed, defect, self.defects.host.supercell)[0],
            environments=environments(
                defect,
                {
                    "verified": best.relaxed,
                    "model": model.structure if model else None,
                    "low": low.structure if low else None,
                },
            ),
        )

    def _calculation(self, verification: Verification) -> Calculation | None:
        """The calculation that ended in a verified ground state."""
        if verification.ground_state is None:
            return None
        best = verification.candidates[verification.ground_state]
        if best.relaxed is None:
            return None
        wanted = structure_key(best.relaxed)
        return next(
            (
                c
                for c in self.labels
                if c.job_uuid in best.calculations
                and c.final_structure is not None
                and structure_key(c.final_structure) == wanted
            ),
            None,
        )

    def _minima(self) -> list[FoundMinimum]:
        """Minima of the last search, ranked."""
        calibration = self.model.calibration
        return [
            minimum
            for v in self.verdicts.verifications
            for minimum in found_minima(
                self.searches.get(v.defect, v.charge),
                v,
                scale=1.0 if calibration is None else calibration.scale,
                seed=derived_seed(self.campaign.seed, f"ranks of {v.defect} {v.charge:+d}"),
            )
        ]

    def _failures(self) -> list[Failure]:
        searched = [f for s in self.searches.searches for f in s.failures]
        done = [*self.labels, *self.checks]
        computed = [c.failure for c in done if c.failure is not None]
        made = [*self.exploration.failures, *self.state.first_relaxations.unmade]
        known = [*made, *self.dataset.excluded, *computed, *searched]
        unique = {f.model_dump_json(): f for f in known}
        return list(unique.values())

    def _pes(self) -> list[PesPoint]:
        return [
            point
            for v in self.verdicts.verifications
            for source, search in (
                ("low", self.exploration.get(v.defect, v.charge)),
                ("model", self.searches.get(v.defect, v.charge)),
            )
            for point in pes_points(v, self.defects.get(v.defect), search, source)
        ]


def unfinished_below(search: Search, low: list[Calculation]) -> list[str]:
    """Low-fidelity relaxations that ran out of steps below the lowest minimum of their search.

    Parameters
    ----------
    search
        Minima of one charge state, from the relaxations that ended.
    low
        Low-fidelity relaxations, of other charge states as well.

    Returns
    -------
    list of str
        Their starts. The lowest minimum is not the low fidelity's ground state if there are any.
    """
    if not search.minima:
        return []
    return sorted(
        c.start
        for c in low
        if (c.defect, c.charge) == (search.defect, search.charge)
        and c.out_of_steps
        and c.final_energy is not None
        and c.final_energy < search.minima[0].energy
    )


def pes_points(
    verification: Verification, defect: Defect, search: Search, source: str
) -> list[PesPoint]:
    """Ends of a search, and how far each is from the verified ground state.

    Parameters
    ----------
    verification
        Of the charge state.
    defect
        Its defect.
    search
        Of the same charge state.
    source
        ``"low"`` or ``"model"``.

    Returns
    -------
    list of PesPoint
        One per start; symmetry copies of the ground state have no distance from it. Empty
        without a ground state.
    """
    ground = verification.ground_state
    truth = None if ground is None else verification.candidates[ground].relaxed
    if truth is None:
        return []
    moved = [symmetric_deviation(m.structure, truth, defect.site) for m in search.minima]
    return [
        PesPoint(
            defect=verification.defect,
            charge=verification.charge,
            source=source,
            start=point.start,
            energy=point.energy - search.minima[0].energy,
            rmsd=moved[point.minimum].local_rmsd,
        )
        for point in search.points
    ]


def _below(candidate: Candidate | None, energy: float) -> float | None:
    """How far a single point lies below an energy, eV per cell."""
    if candidate is None or candidate.energy_single_point is None:
        return None
    return energy - candidate.energy_single_point


def _shortest(defect: Defect, candidates: dict[str, Candidate | None]) -> dict[str, float]:
    """Shortest distance between first neighbours: relaxed, or as the low search left it."""
    neighbours, found = nearest_neighbours(defect), {}
    for key, candidate in candidates.items():
        if candidate is None or len(neighbours) < 2:
            continue
        geometry = candidate.relaxed if key == "verified" else candidate.structure
        if geometry is not None:
            found[key] = shortest_bonds(geometry, neighbours)[0]
    return found


def no_ground_state(verification: Verification, labels: list[Calculation]) -> Failure:
    """Record that a charge state has no verified ground state, and why.

    Parameters
    ----------
    verification
        Without a ground state.
    labels
        High-fidelity calculations of the campaign.

    Returns
    -------
    Failure
        With the reasons of its relaxations, counted.
    """
    own = {uuid for candidate in verification.candidates for uuid in candidate.calculations}
    reasons = Counter(c.failure.message for c in labels if c.job_uuid in own and c.failure)
    seen = "; ".join(f"{message} ({n} times)" for message, n in reasons.most_common())
    return Failure(
        stage=Stage.VERIFICATION.value,
        reason=FailureReason.OTHER,
        message=f"{verification.defect} {verification.charge:+d} has no verified ground state, for "
        f"no high-fidelity relaxation ended: {seen or 'the model left none to relax'}. Raise "
        "fidelities.<high>.steps where steps ran out (with reuse: true what was computed is taken "
        "over and goes on where it stopped), or choose settings with which its SCF ends.",
        defect=verification.defect,
        charge=verification.charge,
        start="",
    )
