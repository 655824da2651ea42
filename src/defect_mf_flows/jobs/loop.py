"""The active-learning loop: train, search, verify, and again while that is worth it."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobflow import Flow, Maker, Response, job

from defect_mf_flows.campaign import LoopSettings
from defect_mf_flows.core.verdicts import lowest, stop_verdict
from defect_mf_flows.jobs.common import Stage, staged
from defect_mf_flows.jobs.dataset import DatasetMaker
from defect_mf_flows.jobs.search import SearchMaker
from defect_mf_flows.jobs.training import TrainMaker
from defect_mf_flows.jobs.verification import VerifyMaker
from defect_mf_flows.schemas.defect import DefectSet
from defect_mf_flows.schemas.loop import LoopState, RoundSummary
from defect_mf_flows.schemas.search import Exploration, VerificationSet


@dataclass
class RoundMaker(Maker):
    """Runs one round and decides on the next; all configuration stays here.

    Parameters
    ----------
    name
        Job name.
    dataset, train, search, verify
        Makers of the steps.
    loop
        Budgets.
    """

    name: str = "round"
    dataset: DatasetMaker = field(default_factory=DatasetMaker)
    train: TrainMaker = field(default_factory=TrainMaker)
    search: SearchMaker = field(default_factory=SearchMaker)
    verify: VerifyMaker = field(default_factory=VerifyMaker)
    loop: LoopSettings = field(default_factory=LoopSettings)

    @job
    def make(
        self, defects: DefectSet, exploration: Exploration, state: LoopState
    ) -> Response:
        """Spawn a round.

        Parameters
        ----------
        defects, exploration
            Outputs of the earlier steps.
        state
            The loop's state.

        Returns
        -------
        LoopState
            Of the finished loop, through the jobs that replace this one.
        """
        number = len(state.rounds) + 1
        dataset = self.dataset.make(defects, state)
        staged(dataset, Stage.TRAINING, f"dataset of round {number}")
        model = staged(self.train.make(dataset.output), Stage.TRAINING, f"train round {number}")
        searches = self.search.make(defects, exploration, model.output)
        staged(searches, Stage.SEARCH, f"surrogate search of round {number}")
        verdicts = self.verify.make(
            defects, exploration, model.output, searches.output, state
        )
        staged(verdicts, Stage.VERIFICATION, f"verification of round {number}")
        uuids = {
            "dataset": dataset.uuid,
            "model": model.uuid,
            "searches": searches.uuid,
            "verifications": verdicts.uuid,
        }
        decide = self.decide(defects, exploration, state, verdicts.output, uuids)
        staged(decide, Stage.VERIFICATION, f"decide after round {number}")
        return Response(
            replace=Flow([dataset, model, searches, verdicts, decide], output=decide.output)
        )

    @job
    def decide(
        self,
        defects: DefectSet,
        exploration: Exploration,
        state: LoopState,
        verdicts: VerificationSet,
        uuids: dict[str, str],
    ) -> Response:
        """Record a round; stop with a verdict, or spawn the next.

        Parameters
        ----------
        defects, exploration
            Passed on.
        state
            Before the round.
        verdicts
            Of the round.
        uuids
            Of the round's jobs.

        Returns
        -------
        LoopState
            With the round added, and ``stop`` set if it was the last.
        """
        state = self._record(state, verdicts, uuids)
        stop, reason = stop_verdict(
            state.rounds,
            high_calls=state.high_calls,
            settings=self.loop,
            tolerance=self.verify.verification.energy_tolerance,
        )
        if stop is not None:
            return Response(
                output=state.model_copy(update={"stop": stop, "stop_reason": reason})
            )
        again = self.make(defects, exploration, state)
        staged(again, Stage.TRAINING, f"round {len(state.rounds) + 1}")
        return Response(replace=Flow([again], output=again.output))

    @staticmethod
    def _record(
        state: LoopState, verdicts: VerificationSet, uuids: dict[str, str]
    ) -> LoopState:
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
            **uuids,
        )
        return state.model_copy(
            update={
                "rounds": [*state.rounds, summary],
                "labels": [*state.labels, *verdicts.calculations],
                "high_calls": state.high_calls + verdicts.high_calls,
            }
        )
