"""How executions that were stopped, killed or went wrong become one verdict."""

from __future__ import annotations

import json

import pytest

from defect_mf_flows.campaign.vasp import VaspSettings
from defect_mf_flows.engines.vasp import handlers as watch
from defect_mf_flows.engines.vasp.results import CellOrder, calculation_of, unfinished
from defect_mf_flows.engines.vasp.running import FAIR_CHANCE, Progress, read_progress
from defect_mf_flows.schemas.calculation import CalculationKind, FailureReason

SETTINGS = VaspSettings(functional="PBE", encut=400, gamma_only=True)


@pytest.fixture
def verdict(make_start):
    def judge(**progress):
        start = make_start(0)
        return calculation_of(
            Progress(**{"finished": True, "executions": 1, **progress}),
            start,
            CellOrder.of(start.structure),
            fidelity="pbe",
            kind=CalculationKind.STATIC,
            settings=SETTINGS,
            limits=(0.05, 100),
            inputs={"INCAR": {}, "KPOINTS": "", "POTCAR": []},
            uuid="u",
        )

    return judge


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        (["Unconverged"], FailureReason.SCF),
        ([watch.MEMORY], FailureReason.MEMORY),
        ([watch.HIGH_ENERGY], FailureReason.HIGH_ENERGY),
        ([watch.WALLTIME], FailureReason.WALLTIME),
        # the SCF was stopped, and so has not converged
        ([watch.WALLTIME, "Unconverged"], FailureReason.WALLTIME),
        ([watch.WALLTIME, watch.MEMORY], FailureReason.MEMORY),
        (["ReturnCodeError: 1"], FailureReason.OTHER),
    ],
)
def test_every_end_has_its_reason(verdict, errors, reason):
    found = verdict(errors=errors)
    assert found.failure.reason is reason
    assert unfinished(found) == (reason is FailureReason.WALLTIME)


def test_what_never_gets_further_is_given_up(verdict):
    stopped = {"errors": [watch.WALLTIME]}
    assert unfinished(verdict(idle=2, executions=9, **stopped))
    for hopeless in ({"idle": 3, "executions": 9}, {"idle": 0, "executions": 50}):
        found = verdict(**hopeless, **stopped)
        assert found.failure.reason is FailureReason.OTHER
        assert "more time or cores" in found.failure.message


def test_only_executions_that_had_time_count_as_idle(tmp_path):
    def execution(number, seconds):
        folder = tmp_path / f"run_{number:03d}"
        folder.mkdir()
        if seconds is not None:
            outcome = {"seconds": seconds, "errors": [watch.WALLTIME], "ended": True}
            (folder / "outcome.json").write_text(json.dumps(outcome))
        return read_progress(tmp_path).idle

    assert execution(1, FAIR_CHANCE / 2) == 0, "began at the end of its allocation"
    assert execution(2, FAIR_CHANCE) == 1
    assert execution(3, None) == 2, "killed without a word"
