"""Datasets as files, and the commands that need no workflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.io
import pytest
import yaml
from ase import Atoms
from click.testing import CliRunner

from defect_mf_flows.campaign import LearningSettings, SplitSettings
from defect_mf_flows.cli import main
from defect_mf_flows.core.assembly import Labelled, assemble, leak_check
from defect_mf_flows.core.charge import frame_to_atoms
from defect_mf_flows.errors import DatasetError, DefectMFError
from defect_mf_flows.learning.files import read_dataset, read_labelled, write_dataset
from defect_mf_flows.schemas.dataset import Split

if TYPE_CHECKING:
    from tests import conftest

HEADS = ["low", "high"]
SETTINGS = LearningSettings(heads=HEADS, split=SplitSettings(valid=0.3, test=0.3))


@pytest.fixture(scope="module")
def images(labelled: conftest.Labelled) -> list[Atoms]:
    """Labels as a user would keep them, single points under the name of their relaxation."""
    found = []
    for frame, entry in zip(labelled.frames, labelled.dataset.entries, strict=True):
        atoms = frame_to_atoms(frame)
        atoms.info["lineage_start"] = entry.relaxation.split("|")[-1]
        found.append(atoms)
    return found


@pytest.fixture
def file(images: list[Atoms], tmp_path: Path) -> Path:
    path = tmp_path / "labels.xyz"
    ase.io.write(path, images, format="extxyz")
    return path


def spoiled(images: list[Atoms], path: Path, change: Any) -> Path:
    copies = [atoms.copy() for atoms in images[:4]]
    change(copies[2])
    ase.io.write(path, copies, format="extxyz")
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: [a.info.pop(k) for k in ("charge", "total_charge")], ["'charge'", "0 included"]),
        (lambda a: a.info.update(charge=1, total_charge=0), ["'total_charge'", "set both"]),
        (lambda a: a.info.update(charge=0.5, total_charge=0.5), ["0.5", "whole number"]),
        (lambda a: a.info.pop("fidelity"), ["'fidelity'", "method of the labels"]),
        (lambda a: a.info.pop("REF_energy"), ["'REF_energy'", "eV per cell"]),
        (lambda a: a.arrays.pop("REF_forces"), ["'REF_forces'", "eV/A"]),
        (lambda a: a.info.pop("lineage_start"), ["'lineage_start'", "split.by"]),
        (lambda a: a.info.update(REF_energy=float("nan")), ["energy", "drop the frame"]),
    ],
    ids=["charge", "two charges", "half", "fidelity", "energy", "forces", "start", "nan"],
)
def test_what_is_missing_is_named_with_file_frame_key_and_remedy(
    images: list[Atoms], tmp_path: Path, change: Any, words: list[str]
) -> None:
    path = spoiled(images, tmp_path / "bad.xyz", change)
    with pytest.raises(DefectMFError) as caught:
        read_labelled(path)
    for word in ["bad.xyz, frame 2", *words]:
        assert word in str(caught.value)


def test_one_charge_key_is_enough(images: list[Atoms], tmp_path: Path) -> None:
    path = spoiled(images, tmp_path / "one.xyz", lambda a: a.info.pop("charge"))
    assert [i.frame.charge for i in read_labelled(path)] == [a.info["charge"] for a in images[:4]]


def test_a_dataset_is_named_after_its_content_and_reads_back_exactly(
    file: Path, tmp_path: Path
) -> None:
    items = read_labelled(file)
    frames, dataset, card = assemble(items, settings=SETTINGS)
    folder, number = write_dataset(tmp_path / "out", frames, dataset, card)
    assert number == 1
    assert folder.name == dataset.dataset_hash[:12]
    assert read_dataset(tmp_path / "out") == (frames, dataset, card)
    assert sum(card.counts.values()) == card.frames == len(items)
    turned = assemble(items[::-1], settings=SETTINGS)[1]
    assert turned.dataset_hash == dataset.dataset_hash
    assert write_dataset(tmp_path / "out", frames, dataset, card)[1] == 1
    other = SETTINGS.model_copy(update={"seed": 5, "split": SplitSettings(valid=0.1, test=0.5)})
    assert write_dataset(tmp_path / "out", *assemble(items, settings=other))[1] == 2


def test_an_altered_dataset_is_refused(file: Path, tmp_path: Path) -> None:
    folder, _ = write_dataset(tmp_path, *assemble(read_labelled(file), settings=SETTINGS))
    path = folder / "dataset.json"
    content = json.loads(path.read_text())
    content["entries"].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="does not hold the frames"):
        read_dataset(folder)


def test_single_points_are_on_the_side_of_their_relaxation(file: Path) -> None:
    _, dataset, card = assemble(read_labelled(file), settings=SETTINGS)
    sides: dict[str, set[Split]] = {}
    for entry in dataset.entries:
        sides.setdefault(entry.relaxation, set()).add(entry.split)
    assert len(sides) == 6
    assert all(len(found) == 1 for found in sides.values())
    assert card.leaks.crossing == 0


def planted(file: Path) -> list[Labelled]:
    """One relaxation a second time, under another name, with its atoms in another place."""
    items = read_labelled(file)
    key = items[0].relaxation
    copies = []
    for item in items:
        if item.relaxation == key:
            structure = item.frame.structure.copy()
            structure.translate_sites(range(len(structure)), [0.11, 0.07, 0.05])
            frame = item.frame.model_dump(exclude={"content_hash"}) | {"structure": structure}
            copies.append(Labelled(type(item.frame)(**frame), "planted", "other.xyz"))
    return [*items, *copies]


def test_a_planted_duplicate_of_a_relaxation_is_put_on_the_same_side(file: Path) -> None:
    items = planted(file)
    for seed in range(8):
        settings = SETTINGS.model_copy(update={"seed": seed})
        _, dataset, card = assemble(items, settings=settings)
        pair = {
            e.split for e in dataset.entries if e.relaxation in ("planted", items[0].relaxation)
        }
        assert len(pair) == 1
        assert len(card.leaks.copies) == 1


def test_a_planted_duplicate_on_both_sides_is_found(file: Path) -> None:
    frames, dataset, _ = assemble(planted(file), settings=SETTINGS)
    home = next(e.split for e in dataset.entries if e.relaxation == "planted")
    away = Split.TEST if home is Split.TRAIN else Split.TRAIN
    entries = [
        e.model_copy(update={"split": away}) if e.relaxation == "planted" else e
        for e in dataset.entries
    ]
    with pytest.raises(DatasetError, match=r"planted .* copies of each other on two sides"):
        leak_check(frames, dataset.model_copy(update={"entries": entries}))


def test_a_frame_random_split_says_that_it_inflates(file: Path) -> None:
    settings = SETTINGS.model_copy(update={"split": SplitSettings(by="frame", valid=0.3, test=0.3)})
    _, dataset, card = assemble(read_labelled(file), settings=settings)
    assert dataset.split_by == "frame"
    assert card.leaks.crossing > 0
    assert any("too small" in text for text in card.warnings)


def test_fidelities_without_an_order_are_refused(file: Path) -> None:
    with pytest.raises(DatasetError, match=r"\['high', 'low'\].*heads"):
        assemble(read_labelled(file), settings=LearningSettings())


@pytest.mark.slow
def test_dataset_train_evaluate_export(
    images: list[Atoms], file: Path, tmp_path: Path, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The three commands one after the other, and the exported calculator without the package."""
    monkeypatch.chdir(tmp_path)
    training = {**tiny.model_dump(mode="json"), "max_epochs": 2, "committee": 2}
    content = {
        "heads": HEADS,
        "split": {"valid": 0.3, "test": 0.3},
        "training": training,
    }
    Path("learn.yaml").write_text(yaml.safe_dump(content))
    run = CliRunner()

    def call(*arguments: str) -> str:
        result = run.invoke(main, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    assert "version 1" in call("dataset", str(file), "--settings", "learn.yaml")
    printed = call("train", "datasets", "--settings", "learn.yaml", "--export", "out")
    assert "committee   2 members" in printed
    folder = next(Path("models").glob("model-*"))
    assert {"model.pt", "member-1.pt", "learning_curve.svg"} <= {p.name for p in folder.iterdir()}
    shown = json.loads(call("evaluate", str(folder), "datasets", "--json"))
    stored = json.loads((folder / "model.json").read_text())["metrics"]
    tested = {(m["head"], m["charge"]): m for m in stored if m["split"] == "test"}
    assert len(shown["metrics"]) == len(tested) > 0
    for m in shown["metrics"]:
        expected = tested[m["head"], m["charge"]]
        assert m["energy_rmse_cell"] == pytest.approx(expected["energy_rmse_cell"], rel=1e-4)
    assert "trained or validated this model" in call("evaluate", str(folder), str(file))
    check_export(Path("out"), folder, images)


def check_export(out: Path, folder: Path, images: list[Atoms]) -> None:
    import subprocess
    import sys

    from defect_mf_flows.core.charge import from_atoms
    from defect_mf_flows.learning.models import read_model
    from defect_mf_flows.learning.potential import Potential

    atoms = images[0].copy()
    atoms.info = {"charge": images[0].info["charge"]}
    ase.io.write(out / "structure.xyz", atoms, format="extxyz")
    script = (
        "import sys; sys.path = [p for p in sys.path if 'defect' not in p and 'wt/' not in p]\n"
        "from ase.io import read\nfrom charged_mace import ChargedMACE\n"
        "a = read('structure.xyz'); a.calc = ChargedMACE('high')\n"
        "print('E', a.get_potential_energy())\n"
        "for bad in (None, 7):\n"
        "    a.info['charge'] = bad; a.calc.results = {}\n"
        "    try: a.calc.calculate(a)\n"
        "    except ValueError as error: print('refused', error)\n"
        "try: ChargedMACE('hihg')\n"
        "except ValueError as error: print('refused', error)\n"
        "print('defect_mf_flows' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=out, capture_output=True, text=True, check=True
    )
    lines = done.stdout.strip().splitlines()
    energy = float(next(line for line in lines if line.startswith("E ")).split()[1])
    model, _ = read_model(folder)
    expected, _ = Potential(model, head="high").predict([from_atoms(images[0])])[0]
    assert energy == pytest.approx(expected, abs=1e-6)
    assert sum(line.startswith("refused") for line in lines) == 3
    assert lines[-1] == "False"
