"""Training: real data, real subprocess, real kills."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil
import pytest

from defect_mf_flows.campaign import TrainingSettings
from defect_mf_flows.core.charge import (
    ENERGY,
    WEIGHT,
    atoms_charge,
    atoms_fidelity,
    read_extxyz,
)
from defect_mf_flows.errors import DatasetError, TrainingError
from defect_mf_flows.learning.evaluation import evaluate_frames
from defect_mf_flows.learning.models import metric_rows
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.training import train
from defect_mf_flows.schemas.calculation import Failure, FailureReason
from defect_mf_flows.schemas.dataset import Split
from defect_mf_flows.schemas.model import HeadMetrics, Model

if TYPE_CHECKING:
    from tests.conftest import Labelled

SEED = 7


def again(labelled: Labelled, settings: TrainingSettings, scratch: Path, seed: int = SEED) -> Model:
    return train(
        labelled.frames,
        labelled.dataset,
        settings=settings,
        seed=seed,
        scratch=scratch,
        threads=1,
    )


def folders(scratch: Path) -> list[Path]:
    return sorted((scratch / "training").iterdir())


def predictions(model: Model, labelled: Labelled, head: str) -> np.ndarray:
    potential = Potential(model, head=head)
    structures = [frame.structure for frame in labelled.frames[:6]]
    return np.array([energy for energy, _ in potential.predict(structures)])


# -- the document ----------------------------------------------------------------------


def test_the_model_documents_what_it_was_trained_on(
    model: Model, labelled: Labelled, tiny: TrainingSettings
) -> None:
    assert model.dataset_hash == labelled.dataset.dataset_hash
    assert model.heads == ["low", "high"]
    assert model.charges == {"low": [-1, 0], "high": [-1, 0]}
    assert model.settings == tiny.model_dump(mode="json")
    assert model.seed == SEED
    assert set(model.versions) == {"torch", "mace-torch"}
    assert len(model.model_hash) == 64
    groups = {(r.head, r.charge, r.composition) for r in model.references}
    assert groups == {(h, q, "S4 Zn3") for h in ("low", "high") for q in (0, -1)}


def test_no_label_of_either_fidelity_lies_below_what_a_search_may_expect(
    labelled: Labelled, tiny: TrainingSettings, tmp_path: Path
) -> None:
    """The lowest label may be held out, or known at the low fidelity alone."""
    entries = list(labelled.dataset.entries)
    high = [k for k, e in enumerate(entries) if e.fidelity == "high" and e.charge == -1]
    bottom = min(high, key=lambda k: labelled.frames[k].energy)
    entries[bottom] = entries[bottom].model_copy(update={"split": Split.TEST})
    dataset = labelled.dataset.model_copy(update={"entries": entries, "dataset_hash": "held"})
    model = train(
        labelled.frames,
        dataset,
        settings=tiny.model_copy(update={"max_epochs": 1}),
        seed=SEED,
        scratch=tmp_path,
        threads=1,
    )
    zeros = {(r.head, r.charge): r.energy for r in model.references}
    for charge in (0, -1):
        counted = [
            frame.energy - zeros[frame.fidelity, charge]
            for frame in labelled.frames
            if frame.charge == charge
        ]
        for head in ("low", "high"):
            expected = min(counted) + zeros[head, charge]
            assert model.lowest[f"{head}|{charge:+d}|S4 Zn3"] == pytest.approx(expected)
    assert model.lowest["high|-1|S4 Zn3"] <= labelled.frames[bottom].energy


def test_reference_energies_come_from_the_training_side_alone(
    model: Model, labelled: Labelled
) -> None:
    for charge in (0, -1):
        energies = [
            frame.energy
            for frame, entry in zip(labelled.frames, labelled.dataset.entries, strict=True)
            if (entry.split, frame.charge, frame.fidelity) == (Split.TRAIN, charge, "low")
        ]
        found = model.reference(head="low", charge=charge, composition="S4 Zn3")
        assert found == pytest.approx(np.mean(energies))


def test_the_file_that_mace_reads_holds_every_frame_with_its_charge(
    model: Model, labelled: Labelled, scratch: Path
) -> None:
    images = read_extxyz(folders(scratch)[0] / "frames.xyz")
    assert len(images) == len(labelled.frames)
    for atoms, frame, entry in zip(images, labelled.frames, labelled.dataset.entries, strict=True):
        assert atoms_charge(atoms) == frame.charge
        assert atoms_fidelity(atoms) == frame.fidelity
        assert atoms.info["split"] == entry.split.value
        offset = model.reference(head=frame.fidelity, charge=frame.charge, composition="S4 Zn3")
        assert atoms.info[ENERGY] == pytest.approx(frame.energy - offset, abs=1e-6)


def test_frames_near_the_minimum_of_their_head_and_charge_weigh_more(
    model: Model, scratch: Path
) -> None:
    scale = model.settings["energy_scale"]
    images = read_extxyz(folders(scratch)[0] / "frames.xyz")
    groups: dict[tuple[str, int], list[tuple[float, float, str]]] = defaultdict(list)
    for atoms in images:
        key = (atoms_fidelity(atoms), atoms_charge(atoms))
        row = (atoms.info[ENERGY], float(atoms.info[WEIGHT]), atoms.info["split"])
        groups[key].append(row)
    assert len(groups) == 4
    for members in groups.values():
        # Held-out labels must not move the weights of training frames.
        floor = min(energy for energy, _, split in members if split == "train")
        for energy, weight, _ in members:
            assert weight == pytest.approx(1 / (1 + max(0.0, energy - floor) / scale), rel=1e-4)
        assert len({weight for _, weight, _ in members}) > 1


def test_metrics_per_head_charge_and_side_equal_those_taken_by_hand(
    model: Model, labelled: Labelled
) -> None:
    sides = {entry.split.value for entry in labelled.dataset.entries}
    assert {(m.head, m.charge, m.split) for m in model.metrics} == {
        (head, charge, side) for head in ("low", "high") for charge in (0, -1) for side in sides
    }
    for metrics in model.metrics:
        check_by_hand(metrics, model, labelled)


def check_by_hand(metrics: HeadMetrics, model: Model, labelled: Labelled) -> None:
    potential = Potential(model, head=metrics.head)
    wanted = (metrics.head, metrics.charge, metrics.split)
    frames = [
        frame
        for frame, entry in zip(labelled.frames, labelled.dataset.entries, strict=True)
        if (frame.fidelity, frame.charge, entry.split.value) == wanted
    ]
    energy, force = [], []
    for frame in frames:
        (predicted, forces), *_ = potential.predict([frame.structure])
        energy.append(1000 * (predicted - frame.energy))
        force.append(1000 * (forces - np.array(frame.forces)))
    errors, components = np.array(energy), np.array(force)
    expected = {
        "n_frames": len(frames),
        "energy_rmse_cell": np.sqrt(np.mean(errors**2)),
        "energy_mae_cell": np.mean(np.abs(errors)),
        "energy_rmse_atom": np.sqrt(np.mean(errors**2)) / 7,
        "relative_energy_rmse_cell": np.std(errors),
        "force_rmse": np.sqrt(np.mean(components**2)),
        "force_mae": np.mean(np.abs(components)),
    }
    if len(frames) == 1:
        assert metrics.relative_energy_rmse_cell is None
        del expected["relative_energy_rmse_cell"]
    for name, value in expected.items():
        assert getattr(metrics, name) == pytest.approx(value, rel=1e-6, abs=1e-6), name


def test_one_frame_has_no_error_of_the_order_of_energies(model: Model, labelled: Labelled) -> None:
    """An error whose own mean is taken out is nothing, however wrong the model is."""
    frame = labelled.frames[0]
    (metrics,), _ = evaluate_frames(model, [frame], ["mine"])
    assert metrics.energy_rmse_cell
    assert metrics.relative_energy_rmse_cell is None
    line = metric_rows([metrics])[1].split()
    assert line[4:6] == [f"{metrics.energy_rmse_cell:.1f}", "-"]


def test_an_energy_to_which_the_constant_was_fitted_has_no_error(
    model: Model, labelled: Labelled
) -> None:
    """Cells that did not train have the mean error taken out: of one frame, all of it."""
    one, other = (
        whole.model_copy(
            update={
                "structure": whole.structure.copy().remove_sites([0]),
                "forces": None if whole.forces is None else whole.forces[1:],
            }
        )
        for whole in [f for f in labelled.frames if f.charge == 0 and f.fidelity == "high"][:2]
    )
    (alone,), _ = evaluate_frames(model, [one], ["mine"])
    assert alone.fitted_constant
    assert alone.energy_rmse_cell is alone.energy_mae_cell is alone.energy_rmse_atom is None
    assert alone.force_rmse is not None
    assert metric_rows([alone])[1].split()[4:7] == ["-*", "-", "-"]
    (both,), _ = evaluate_frames(model, [one, other], ["mine"] * 2)
    assert both.energy_rmse_cell
    assert both.energy_rmse_cell == pytest.approx(both.relative_energy_rmse_cell)


def test_there_is_a_parity_point_per_frame_on_a_common_scale(
    model: Model, labelled: Labelled
) -> None:
    assert len(model.parity) == len(labelled.frames)
    labels = sorted(
        frame.energy
        - model.reference(head=frame.fidelity, charge=frame.charge, composition="S4 Zn3")
        for frame in labelled.frames
    )
    assert sorted(point.energy for point in model.parity) == pytest.approx(labels)


def test_the_best_epoch_has_the_lowest_score_of_the_history(model: Model) -> None:
    """Squared errors of all validation frames together, a high-fidelity frame counting more."""
    assert [record.epoch for record in model.history] == list(range(8))
    high = model.settings["high_weight"]
    scores = {
        record.epoch: sum(
            weight
            * record.valid[head]["n"]
            * (
                record.valid[head]["energy_rmse"] ** 2
                + (record.valid[head]["force_rmse"] / 10) ** 2
            )
            for head, weight in (("low", 1.0), ("high", high))
        )
        for record in model.history
    }
    assert model.best_epoch == min(scores, key=scores.__getitem__)


def test_the_history_says_of_the_best_epoch_what_the_kept_weights_do(
    model: Model, labelled: Labelled
) -> None:
    """The weights that are kept are those of the best epoch, not of the last."""
    best = next(r for r in model.history if r.epoch == model.best_epoch)
    for head in ("low", "high"):
        own = [m for m in model.metrics if (m.head, m.split) == (head, "valid")]
        frames = sum(m.n_frames for m in own)
        pooled = sum(m.n_frames * m.force_rmse**2 for m in own) / frames
        assert np.sqrt(pooled) == pytest.approx(best.valid[head]["force_rmse"], rel=1e-3)


def test_training_brings_the_loss_down(model: Model) -> None:
    losses = [record.valid["low"]["force_rmse"] for record in model.history]
    assert min(losses) < losses[0]


def test_a_training_makes_small_the_loss_that_was_asked_for(
    labelled: Labelled, tiny: TrainingSettings, tmp_path: Path
) -> None:
    """Same weights, first batches and weights of both terms; the loss is another number."""
    short = tiny.model_copy(update={"max_epochs": 2})
    squared = again(labelled, short, tmp_path)
    absolute = again(labelled, short.model_copy(update={"loss": "absolute"}), tmp_path)
    # On errors of about 1 eV/A and less, squares at equal weights are the smaller.
    assert absolute.history[0].train_loss > squared.history[0].train_loss > 0
    assert absolute.model_hash != squared.model_hash
    (first, second) = (json.loads((f / "training.json").read_text()) for f in folders(tmp_path))
    assert {first["settings"]["loss"], second["settings"]["loss"]} == {"squared", "absolute"}


def test_a_training_that_an_earlier_version_began_goes_on_with_squares(
    labelled: Labelled, tiny: TrainingSettings, tmp_path: Path
) -> None:
    short = tiny.model_copy(update={"max_epochs": 2})
    expected = again(labelled, short, tmp_path)
    (folder,) = folders(tmp_path)
    task = json.loads((folder / "training.json").read_text())
    task["settings"].pop("loss")  # which that version did not know
    (folder / "training.json").write_text(json.dumps(task))
    for name in ("done.json", "model.pt", "checkpoint.pt", "history.jsonl"):
        (folder / name).unlink()
    found = again(labelled, short, tmp_path)
    for before, after in zip(expected.history, found.history, strict=True):
        assert after.train_loss == pytest.approx(before.train_loss, rel=1e-6)


def test_a_share_of_high_labels_counts_only_above_what_the_dataset_has(
    labelled: Labelled, tiny: TrainingSettings, tmp_path: Path
) -> None:
    few = tiny.model_copy(update={"max_epochs": 2})
    plain, same, more = (
        again(labelled, few.model_copy(update={"high_share": share}), tmp_path)
        for share in (None, 0.01, 0.9)
    )
    assert len(folders(tmp_path)) == 3
    assert np.allclose(
        predictions(same, labelled, "high"), predictions(plain, labelled, "high"), atol=1e-6
    )
    assert not np.allclose(
        predictions(more, labelled, "high"), predictions(plain, labelled, "high"), atol=1e-3
    )


# -- restarts --------------------------------------------------------------------------


def test_the_same_training_is_not_done_twice(
    model: Model, labelled: Labelled, tiny: TrainingSettings, scratch: Path
) -> None:
    done = folders(scratch)[0] / "done.json"
    before = done.stat().st_mtime_ns
    assert again(labelled, tiny, scratch) == model
    assert done.stat().st_mtime_ns == before
    assert len(folders(scratch)) == 1


def test_two_trainings_from_scratch_give_the_same_model(
    model: Model, labelled: Labelled, tiny: TrainingSettings, tmp_path: Path
) -> None:
    other = again(labelled, tiny, tmp_path)
    assert other.best_epoch == model.best_epoch
    for head in model.heads:
        assert np.allclose(
            predictions(other, labelled, head), predictions(model, labelled, head), atol=1e-6
        )


def kill_after_first_checkpoint(folder: Path) -> list[int]:
    """SIGKILL the training process once it has written a checkpoint."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if list(folder.glob("training/*/checkpoint.pt")):
            children = [
                child
                for child in psutil.Process().children(recursive=True)
                if str(folder) in " ".join(child.cmdline())
            ]
            for child in children:
                os.kill(child.pid, signal.SIGKILL)
            return [child.pid for child in children]
        time.sleep(0.005)
    return []


def test_a_killed_training_resumes_and_ends_like_one_that_was_not(
    model: Model, labelled: Labelled, tiny: TrainingSettings, tmp_path: Path
) -> None:
    killed: list[int] = []
    killer = threading.Thread(
        target=lambda: killed.extend(kill_after_first_checkpoint(tmp_path)), daemon=True
    )
    killer.start()
    with pytest.raises(TrainingError, match="exit code -9; the same command continues"):
        again(labelled, tiny, tmp_path)
    killer.join()
    (folder,) = folders(tmp_path)
    assert killed
    assert not (folder / "done.json").exists(), "killed before its end"

    resumed = again(labelled, tiny, tmp_path)
    log = (folder / "log.txt").read_text()
    assert "resumed after epoch" in log
    assert resumed.best_epoch == model.best_epoch
    assert len(resumed.history) == len(model.history)
    for one, other in zip(resumed.history, model.history, strict=True):
        assert one.epoch == other.epoch
        assert one.learning_rate == other.learning_rate
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-6)
    for head in model.heads:
        difference = predictions(resumed, labelled, head) - predictions(model, labelled, head)
        assert np.abs(difference).max() < 1e-4
    for one, other in zip(resumed.metrics, model.metrics, strict=True):
        assert one.energy_rmse_cell == pytest.approx(other.energy_rmse_cell, abs=0.1)
        assert one.force_rmse == pytest.approx(other.force_rmse, abs=0.1)


@pytest.mark.parametrize("largest", [2_000, 60_000], ids=["frames", "checkpoint"])
def test_a_full_disk_says_so_and_the_next_run_goes_on(
    labelled: Labelled, tiny: TrainingSettings, tmp_path: Path, largest: int
) -> None:
    """A limit on the size of files stands for the disk; the subprocess inherits it."""
    settings = tiny.model_copy(update={"max_epochs": 3})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, hard))
    try:
        with pytest.raises(TrainingError, match="free space there"):
            again(labelled, settings, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (folder,) = folders(tmp_path)
    assert (folder / "frames.xyz").exists() is (largest == 60_000)
    assert not list(folder.glob("*.tmp"))
    assert not list(folder.glob("*.part"))
    model = again(labelled, settings, tmp_path)
    assert [record.epoch for record in model.history] == [0, 1, 2]


def test_a_history_longer_than_the_checkpoint_is_cut_back_on_resuming(
    model: Model, scratch: Path, labelled: Labelled, tiny: TrainingSettings, tmp_path: Path
) -> None:
    """A kill between the history line and the checkpoint must not leave the line twice."""
    source = folders(scratch)[0]
    folder = tmp_path / "training" / source.name
    shutil.copytree(source, folder)
    (folder / "done.json").unlink()
    with (folder / "history.jsonl").open("a") as stream:
        stream.write(json.dumps({"epoch": 99}) + "\n")
    resumed = again(labelled, tiny, tmp_path)
    lines = (folder / "history.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(8))
    assert [record.epoch for record in resumed.history] == list(range(8))
    assert predictions(resumed, labelled, "high") == pytest.approx(
        predictions(model, labelled, "high"), abs=1e-9
    )


# -- refusals --------------------------------------------------------------------------


def test_a_failed_subprocess_is_reported_with_the_end_of_its_log(
    labelled: Labelled, tiny: TrainingSettings, tmp_path: Path
) -> None:
    broken = tiny.model_copy(update={"learning_rate": 1e200})
    with pytest.raises(TrainingError, match=r"exit code 1;(?s:.*)loss is not finite"):
        again(labelled, broken, tmp_path)


def test_a_head_with_fewer_than_two_training_labels_is_refused(
    labelled: Labelled, tiny: TrainingSettings, tmp_path: Path
) -> None:
    entries = [
        entry
        for entry in labelled.dataset.entries
        if not (entry.fidelity == "high" and entry.split is Split.TRAIN)
    ]
    frames = [
        frame
        for frame, entry in zip(labelled.frames, labelled.dataset.entries, strict=True)
        if entry in entries
    ]
    dataset = labelled.dataset.model_copy(update={"entries": entries})
    with pytest.raises(DatasetError, match=r"heads \['high'\].*picks\.fraction"):
        train(frames, dataset, settings=tiny, seed=1, scratch=tmp_path, threads=1)
    assert not (tmp_path / "training").exists(), "nothing was started"


def test_too_few_labels_are_refused_with_what_became_of_the_others(
    labelled: Labelled, tmp_path: Path
) -> None:
    high = [k for k, e in enumerate(labelled.dataset.entries) if e.fidelity == "high"]
    kept = [k for k in range(len(labelled.frames)) if k not in high[1:]]
    lost = Failure(
        stage="high",
        reason=FailureReason.SCF,
        message="SCF not converged",
        fidelity="high",
        defect="v_Zn",
        charge=-1,
        start="a",
    )
    update = {"entries": [labelled.dataset.entries[k] for k in kept], "excluded": [lost]}
    with pytest.raises(DatasetError, match=r"'high'.*1 were left out .*v_Zn -1, a: SCF not conv"):
        train(
            [labelled.frames[k] for k in kept],
            labelled.dataset.model_copy(update=update),
            settings=TrainingSettings(r_max=3.0, max_epochs=1),
            seed=1,
            scratch=tmp_path,
            threads=1,
        )
