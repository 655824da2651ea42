"""The last stage of a training: L-BFGS over all labels."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from defect_mf_flows.campaign import TrainingSettings
from defect_mf_flows.errors import TrainingError
from defect_mf_flows.learning.models import curve_figure
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.training import train
from defect_mf_flows.schemas.dataset import HostLabels, Split
from defect_mf_flows.schemas.model import Model

if TYPE_CHECKING:
    from defect_mf_flows.schemas.defect import DefectSet
    from tests.conftest import Labelled

ITERATIONS = 40


@pytest.fixture(scope="module")
def settings(tiny: TrainingSettings) -> TrainingSettings:
    return tiny.model_copy(update={"polish": ITERATIONS})


def trained(labelled: Labelled, settings: TrainingSettings, scratch: Path) -> Model:
    return train(
        labelled.frames, labelled.dataset, settings=settings, seed=7, scratch=scratch, threads=1
    )


@pytest.fixture(scope="module")
def polished(
    labelled: Labelled, settings: TrainingSettings, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Model, Path]:
    scratch = tmp_path_factory.mktemp("polished")
    return trained(labelled, settings, scratch), scratch


def energy_errors(model: Model, side: str) -> np.ndarray:
    return np.array([m.energy_rmse_cell for m in model.metrics if m.split == side])


def test_polishing_brings_the_training_errors_of_every_head_and_charge_down(
    model: Model, polished: tuple[Model, Path]
) -> None:
    before, after = energy_errors(model, "train"), energy_errors(polished[0], "train")
    assert len(before) == 4
    assert (after < before).all(), (before, after)


def test_iterations_follow_the_epochs_and_are_told_apart(
    model: Model, polished: tuple[Model, Path]
) -> None:
    history = polished[0].history
    epochs = [r for r in history if not r.polished]
    iterations = [r for r in history if r.polished]
    for one, other in zip(epochs, model.history, strict=True):
        assert (one.epoch, one.valid) == (other.epoch, other.valid), "the same until then"
    assert [r.epoch for r in iterations] == [epochs[-1].epoch + n for n in (10, 20, 30, 40)]
    losses = [r.train_loss for r in iterations]
    assert losses == sorted(losses, reverse=True), "a line search does not climb"


def test_what_is_kept_makes_small_on_validation_labels_what_polishing_makes_small(
    polished: tuple[Model, Path],
) -> None:
    model = polished[0]
    errors = {
        r.epoch: sum(head["n"] * head["cell_error"] for head in r.valid.values())
        for r in model.history
    }
    assert model.best_epoch == min(errors, key=errors.__getitem__)


def test_the_learning_curve_draws_the_two_losses_apart(polished: tuple[Model, Path]) -> None:
    axes = curve_figure(polished[0].history, polished[0].best_epoch).axes[2]
    drawn = {line.get_label(): np.isfinite(line.get_ydata()).sum() for line in axes.lines}
    assert drawn["batches"] == 8
    assert drawn["polishing"] == 4


def test_what_the_optimiser_remembered_is_gone_once_the_network_is_written(
    polished: tuple[Model, Path], labelled: Labelled, settings: TrainingSettings
) -> None:
    model, scratch = polished
    (folder,) = (scratch / "training").iterdir()
    assert not (folder / "checkpoint.pt").exists()
    assert trained(labelled, settings, scratch).model_hash == model.model_hash


def test_stages_of_a_strategy_share_the_iterations(
    labelled: Labelled, tiny: TrainingSettings, tmp_path: Path
) -> None:
    changes = {"strategy": "transfer", "max_epochs": 4, "polish": 10}
    history = trained(labelled, tiny.model_copy(update=changes), tmp_path).history
    assert [polished for polished, _ in groupby(r.polished for r in history)] == [
        False, True, False, True
    ]  # fmt: skip
    iterations = [b.epoch - a.epoch for a, b in pairwise(history) if b.polished]
    assert iterations == [5, 5]


@pytest.mark.parametrize("term", ["intensive", "per_charge"])
def test_networks_of_our_own_are_polished_too(
    labelled: Labelled, defect_set: DefectSet, tiny: TrainingSettings, tmp_path: Path, term: str
) -> None:
    host = HostLabels(structure=defect_set.host.primitive, energies={"low": -100.0, "high": -110.0})
    with_host = replace(labelled, dataset=labelled.dataset.model_copy(update={"host": host}))
    changes = {"charge_term": term, "max_epochs": 2, "polish": 20}
    model = trained(with_host, tiny.model_copy(update=changes), tmp_path)
    first, second = (r.train_loss for r in model.history if r.polished)
    assert second < first
    start = next(r for r in model.history if not r.polished)
    end = model.history[-1]
    for head in model.heads:
        assert end.valid[head]["cell_error"] < start.valid[head]["cell_error"]


def test_without_validation_labels_the_end_of_polishing_is_kept(
    labelled: Labelled, tiny: TrainingSettings, tmp_path: Path
) -> None:
    """The loss of the epochs is another and, with these weights, the smaller number."""
    dataset = labelled.dataset
    entries = [e.model_copy(update={"split": Split.TRAIN}) for e in dataset.entries]
    all_train = replace(labelled, dataset=dataset.model_copy(update={"entries": entries}))
    weights = dict.fromkeys(("energy_weight", "energy_weight_late", "forces_weight"), 1e-4)
    settings = tiny.model_copy(update={**weights, "max_epochs": 4, "polish": 20})
    model = trained(all_train, settings, tmp_path)
    epochs = [r.train_loss for r in model.history if not r.polished]
    iterations = [r.train_loss for r in model.history if r.polished]
    assert max(epochs) < min(iterations)
    assert model.best_epoch == model.history[-1].epoch


def test_patience_ends_polishing_that_gains_nothing(
    labelled: Labelled, settings: TrainingSettings, tmp_path: Path
) -> None:
    """The labels of one relaxation are learned by heart, to the harm of all others."""
    dataset = labelled.dataset
    one = next(e.relaxation for e in dataset.entries if e.split is Split.TRAIN)
    few = [
        i
        for i, e in enumerate(dataset.entries)
        if e.split is not Split.TRAIN or e.relaxation == one
    ]
    part = replace(
        labelled,
        frames=[labelled.frames[i] for i in few],
        dataset=dataset.model_copy(update={"entries": [dataset.entries[i] for i in few]}),
    )
    patient = settings.model_copy(update={"polish": 400, "patience": 20})
    model = trained(part, patient, tmp_path)
    last = model.history[-1]
    assert last.polished
    iterations = last.epoch - max(r.epoch for r in model.history if not r.polished)
    assert iterations < 400
    assert last.epoch - model.best_epoch >= 20


def kill_while_polishing(scratch: Path, killed: list[int]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not killed:
        for history in scratch.glob("training/*/history.jsonl"):
            if history.read_text().count('"polished": true') >= 2:
                for child in psutil.Process().children(recursive=True):
                    if str(scratch) in " ".join(child.cmdline()):
                        os.kill(child.pid, signal.SIGKILL)
                        killed.append(child.pid)
        time.sleep(0.001)


def test_polishing_that_was_killed_goes_on_with_what_the_optimiser_knew(
    polished: tuple[Model, Path], labelled: Labelled, settings: TrainingSettings, tmp_path: Path
) -> None:
    killed: list[int] = []
    killer = threading.Thread(target=kill_while_polishing, args=(tmp_path, killed), daemon=True)
    killer.start()
    with pytest.raises(TrainingError, match="exit code -9"):
        trained(labelled, settings, tmp_path)
    killer.join()
    assert killed

    resumed = trained(labelled, settings, tmp_path)
    whole = polished[0]
    assert [r.epoch for r in resumed.history] == [r.epoch for r in whole.history]
    assert [r.train_loss for r in resumed.history] == pytest.approx(
        [r.train_loss for r in whole.history], rel=1e-6
    )
    structures = [frame.structure for frame in labelled.frames[:6]]
    for head in whole.heads:
        one, other = (
            np.array([e for e, _ in Potential(m, head=head).predict(structures)])
            for m in (resumed, whole)
        )
        assert np.abs(one - other).max() < 1e-4
