"""Labels of a method without forces: said, learned from their energies alone, never made zeros."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.io
import numpy as np
import pytest
import torch
import yaml
from click.testing import CliRunner

from defect_mf_flows.cli import main
from defect_mf_flows.core.charge import FORCES, NO_FORCES, atoms_to_frame, frame_to_atoms
from defect_mf_flows.errors import DatasetError
from defect_mf_flows.learning.batches import collate, to_atomic_data
from defect_mf_flows.learning.evaluation import evaluate_frames
from defect_mf_flows.learning.files import read_labelled
from defect_mf_flows.learning.losses import LOSSES
from defect_mf_flows.schemas.frame import Frame
from defect_mf_flows.schemas.model import Model

if TYPE_CHECKING:
    from tests import conftest


def without(frame: Frame) -> Frame:
    """The same label of a method that has no forces."""
    content = {name: getattr(frame, name) for name in ("structure", "charge", "spin", "fidelity")}
    return Frame(**content, energy=frame.energy, forces=None, lineage=frame.lineage)


def graph(frame: Frame) -> Any:
    return to_atomic_data(
        frame_to_atoms(frame), head=frame.fidelity, heads=["low", "high"],
        atomic_numbers=[16, 30], cutoff=3.5,
    )  # fmt: skip


@pytest.fixture(scope="module")
def file(labelled: conftest.Labelled, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Low labels with forces, high ones of a method without."""
    images = []
    for frame, entry in zip(labelled.frames, labelled.dataset.entries, strict=True):
        atoms = frame_to_atoms(without(frame) if frame.fidelity == "high" else frame)
        atoms.info["lineage_start"] = entry.relaxation.split("|")[-1]
        images.append(atoms)
    path = tmp_path_factory.mktemp("labels") / "labels.xyz"
    ase.io.write(path, images, format="extxyz")
    return path


def test_a_frame_says_that_it_has_none_and_nobody_fills_them_in(labelled: conftest.Labelled):
    frame = labelled.frames[0]
    bare = without(frame)
    assert bare.content_hash != frame.content_hash
    atoms = frame_to_atoms(bare)
    assert FORCES not in atoms.arrays
    assert atoms_to_frame(atoms).forces is None
    assert Frame.model_validate_json(bare.model_dump_json()) == bare
    with pytest.raises(ValueError, match="forces"):
        Frame(
            structure=frame.structure, charge=frame.charge, fidelity="low", energy=0.0,
            lineage=frame.lineage,
        )  # fmt: skip


def test_forces_that_are_absent_by_accident_are_refused(labelled: conftest.Labelled):
    atoms = frame_to_atoms(labelled.frames[0])
    atoms.info[NO_FORCES] = True
    with pytest.raises(DatasetError, match="remove one"):
        atoms_to_frame(atoms)
    del atoms.arrays[FORCES], atoms.info[NO_FORCES]
    with pytest.raises(DatasetError, match="no_forces"):
        atoms_to_frame(atoms)


@pytest.mark.parametrize("kind", LOSSES.values(), ids=LOSSES)
def test_their_term_of_the_loss_is_exactly_zero(labelled: conftest.Labelled, kind: Any) -> None:
    frame = next(f for f in labelled.frames if np.abs(f.forces).max() > 0.1)
    loss = kind(energy_weight=0.0, forces_weight=1.0)
    for label, expected in ((frame, True), (without(frame), False)):
        batch = collate([graph(label)])
        force = torch.full_like(batch.forces, 7.0, requires_grad=True)
        found = loss(batch, {"energy": batch.energy, "forces": force})
        found.backward()
        assert bool(found > 0) is expected
        assert bool((force.grad != 0).all()) is expected


def test_a_weight_for_forces_that_are_not_there_is_noticed(
    labelled: conftest.Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mace import data

    true = data.config_from_atoms

    def weighing(*arguments: Any, **options: Any) -> Any:
        found = true(*arguments, **options)
        found.property_weights["forces"] = 1.0
        return found

    monkeypatch.setattr(data, "config_from_atoms", weighing)
    assert graph(labelled.frames[0]) is not None
    with pytest.raises(DatasetError, match="forces reached the batch"):
        graph(without(labelled.frames[0]))


def test_a_model_trains_on_a_mixed_set_and_counts_what_has_no_forces(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Any
) -> None:
    monkeypatch.setenv("DEFECT_MF_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.chdir(tmp_path)
    training = {**tiny.model_dump(mode="json", exclude_defaults=True), "max_epochs": 3}
    settings = {"heads": ["low", "high"], "seed": 1, "training": training}
    settings["split"] = {"by": "relaxation", "valid": 0.3, "test": 0.3}
    Path("settings.yaml").write_text(yaml.safe_dump(settings))
    made = CliRunner().invoke(main, ["dataset", str(file), "--settings", "settings.yaml"])
    assert made.exit_code == 0, made.output
    assert "labels have no forces: of them the energy alone is learned" in made.output
    done = CliRunner().invoke(main, ["train", "datasets", "--settings", "settings.yaml"])
    assert done.exit_code == 0, done.output
    assert "method without forces: energies alone" in done.output
    (path,) = Path("models").glob("*/model.json")
    model = Model.model_validate_json(path.read_text())
    for metrics in model.metrics:
        bare = metrics.head == "high"
        assert metrics.n_without_forces == (metrics.n_frames if bare else 0)
        assert (metrics.force_rmse is None) is bare
        assert metrics.energy_rmse_cell >= 0
    assert all("force_rmse" not in record.valid.get("high", {}) for record in model.history)
    assert all("force_rmse" in record.valid["low"] for record in model.history)
    json.dumps([m.model_dump(mode="json") for m in model.metrics], allow_nan=False)


def test_errors_of_forces_are_over_the_frames_that_have_them(
    model: Model, labelled: conftest.Labelled
) -> None:
    low = [f for f in labelled.frames if f.fidelity == "low" and f.charge == 0]
    mixed = [without(low[0]), *low[1:]]
    (one,), _ = evaluate_frames(model, mixed, ["x"] * len(mixed))
    (rest,), _ = evaluate_frames(model, low[1:], ["x"] * (len(low) - 1))
    assert (one.n_frames, one.n_without_forces) == (len(low), 1)
    assert one.force_rmse == pytest.approx(rest.force_rmse)
    assert one.energy_rmse_cell != pytest.approx(rest.energy_rmse_cell)


def test_files_without_forces_are_read_if_they_say_so(file: Path) -> None:
    items = read_labelled(file)
    assert {item.frame.forces is None for item in items if item.frame.fidelity == "high"} == {True}
    assert {item.frame.forces is None for item in items if item.frame.fidelity == "low"} == {False}
