"""The active-learning loop: train, search, verify, and again while that is worth it."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobflow import Maker, Response, job

from defect_mf_flows.campaign import LoopSettings
from defect_mf_flows.core.sparing import refuted
from defect_mf_flows.core.verdicts import lowest, stop_verdict
from defect_mf_flows.jobs.acquire import AcquireMaker
from defect_mf_flows.jobs.common import (
    WITH_STORE,
    Stage,
    job_store,
    read_output,
    replaced_by,
    staged,
)
from defect_mf_flows.jobs.dataset import DatasetMaker
from defect_mf_flows.jobs.search import SearchMaker
from defect_mf_flows.jobs.training import TrainMaker
from defect_mf_flows.jobs.verification import VerifyMaker
from defect_mf_flows.schemas.loop import LoopState, RoundSummary
from defect_mf_flows.schemas.search import VerificationSet


@dataclass
class RoundMaker(Maker):
    """Runs one round and decides on the next; all configuration stays here.

    Parameters
    ----------
    name
        Job name.
    dataset, train, search, verify
        Makers of the steps.
    acquire
        Labels between rounds, if ``loop.acquire`` asks for some.
    loop
        Budgets.
    """

    name: str = "round"
    dataset: DatasetMaker = field(default_factory=DatasetMaker)
    train: TrainMaker = field(default_factory=TrainMaker)
    search: SearchMaker = field(default_factory=SearchMaker)
    verify: VerifyMaker = field(default_factory=VerifyMaker)
    acquire: AcquireMaker = field(default_factory=AcquireMaker)
    loop: LoopSettings = field(default_factory=LoopSettings)

    @job
    def make(self, defects_uuid: str, exploration_uuid: str, state: LoopState) -> Response:
        """Spawn a round.

        Parameters
        ----------
        defects_uuid, exploration_uuid
            uuids of the jobs that made them.
        state
            The loop's state.

        Returns
        -------
        LoopState
            Of the finished loop, through the jobs that replace this one.
        """
        number = len(state.rounds) + 1
        dataset = self.dataset.make(defects_uuid, state)
        staged(dataset, Stage.TRAINING, f"dataset of round {number}")
        model = self.train.make(dataset.output.job_uuid)
        staged(model, Stage.TRAINING, f"train round {number}")
        searches = self.search.make(defects_uuid, exploration_uuid, model.output.job_uuid, state)
        staged(searches, Stage.SEARCH, f"surrogate search of round {number}")
        verdicts = self.verify.make(
            defects_uuid,
            exploration_uuid,
            model.output.job_uuid,
            searches.output.job_uuid,
            state,
        )
        staged(verdicts, Stage.VERIFICATION, f"verification of round {number}")
        uuids = {
            "dataset": dataset.output.job_uuid,
            "model": model.output.job_uuid,
            "searches": searches.output.job_uuid,
            "verifications": verdicts.output.job_uuid,
        }
        decide = self.decide(defects_uuid, exploration_uuid, state, uuids)
        staged(decide, Stage.VERIFICATION, f"decide after round {number}")
        return replaced_by([dataset, model, searches, verdicts, decide], decide.output)

    @job(config=WITH_STORE)
    def decide(
        self,
        defects_uuid: str,
        exploration_uuid: str,
        state: LoopState,
        uuids: dict[str, str],
    ) -> Response:
        """Record a round; stop with a verdict, or spawn the next.

        Parameters
        ----------
        defects_uuid, exploration_uuid
            Passed on.
        state
            Before the round.
        uuids
            Of the round's jobs.

        Returns
        -------
        LoopState
            With the round added, and ``stop`` set if it was the last.
        """
        verdicts = read_output(job_store(), uuids["verifications"], VerificationSet, load=True)
        state = self._record(state, verdicts, uuids)
        stop, reason = stop_verdict(
            state.rounds,
            high_calls=state.high_calls,
            settings=self.loop,
            tolerance=self.verify.verification.energy_tolerance,
        )
        if stop is not None:
            return Response(output=state.model_copy(update={"stop": stop, "stop_reason": reason}))
        jobs = []
        if self.loop.acquire and len(state.rounds) > self.loop.low_rounds:
            acquired = self.acquire.make(uuids["model"], uuids["searches"], state)
            jobs.append(staged(acquired, Stage.PICKS, f"acquire after round {len(state.rounds)}"))
        known = jobs[0].output if jobs else state
        again = self.make(defects_uuid, exploration_uuid, known)
        staged(again, Stage.TRAINING, f"round {len(state.rounds) + 1}")
        return replaced_by([*jobs, again], again.output)

    @staticmethod
    def _record(state: LoopState, verdicts: VerificationSet, uuids: dict[str, str]) -> LoopState:
        keys = {f"{v.defect}|{v.charge:+d}": v for v in verdicts.verifications}
        energies = {}
        for key, v in keys.items():
            best = lowest(v.candidates)
            energies[key] = (
                float("nan") if best is None else v.candidates[best].energy_relaxed or 0.0
            )
        summary = RoundSummary(
            round=len(state.rounds) + 1,
            verdicts={key: v.verdict for key, v in keys.items()},
            ground_energies=energies,
            energy_errors={
                key: abs(v.energy_error) for key, v in keys.items() if v.energy_error is not None
            },
            new_labels=len(verdicts.calculations),
            refuted=[key for key, v in keys.items() if refuted(v)],
            **uuids,
        )
        return state.model_copy(
            update={
                "rounds": [*state.rounds, summary],
                "labels": [*state.labels, *verdicts.calculations],
                "checks": [*state.checks, *verdicts.checks],
                "high_calls": state.high_calls + verdicts.high_calls,
            }
        )
