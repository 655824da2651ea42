"""Every charge term and strategy ends as a model that Potential uses unchanged."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from defect_mf_flows.campaign import TrainingSettings
from defect_mf_flows.core.charge import (
    ENERGY,
    FORCES,
    read_extxyz,
    to_atoms,
    with_charge,
    with_spin,
)
from defect_mf_flows.core.references import composition_key
from defect_mf_flows.errors import ChargeError, FidelityError
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.strategies import Stage, stage_folder
from defect_mf_flows.learning.training import train
from defect_mf_flows.schemas.dataset import Dataset, HostLabels, Split
from defect_mf_flows.schemas.defect import DefectSet
from defect_mf_flows.schemas.frame import Frame
from defect_mf_flows.schemas.model import Model

if TYPE_CHECKING:
    from tests.conftest import Labelled

HOST_ENERGIES = {"low": -100.0, "high": -110.0}


@pytest.fixture(scope="module")
def with_host(labelled: Labelled, defect_set: DefectSet) -> Dataset:
    host = HostLabels(structure=defect_set.host.primitive, energies=HOST_ENERGIES)
    return labelled.dataset.model_copy(update={"host": host})


@pytest.fixture(scope="module")
def trained(
    labelled: Labelled, with_host: Dataset, tiny: TrainingSettings, scratch: Path
) -> Callable[..., Model]:
    done: dict[str, Model] = {}

    def make(**changes: Any) -> Model:
        key = json.dumps(changes)
        if key not in done:
            settings = tiny.model_copy(update={"max_epochs": 4, **changes})
            done[key] = train(
                labelled.frames,
                with_host,
                settings=settings,
                seed=3,
                scratch=scratch / "strategies",
                threads=1,
            )
        return done[key]

    return make


def delta_folder(scratch: Path) -> Path:
    """Where the delta model with the default charge term was trained."""
    (folder,) = [
        path.parent.parent
        for path in (scratch / "strategies/training").glob("*/2-difference/training.json")
        if json.loads(path.read_text())["settings"]["charge_term"] == "categorical"
    ]
    return folder


ARMS = [
    *({"charge_term": t} for t in ("none", "continuous", "per_charge", "intensive")),
    *(
        {"strategy": s}
        for s in ("high_only", "transfer_frozen", "transfer", "delta", "low_plus_constant")
    ),
    {"charge_term": "intensive", "strategy": "delta"},
]


def steps_of(strategy: str, scratch: Path) -> int:
    """Optimiser steps of all stages of the training with a strategy."""
    for folder in (scratch / "strategies/training").iterdir():
        if folder.name.startswith("stage-"):  # a first stage alone, shared by trainings
            continue
        plan = folder / "stages.json"
        names = json.loads(plan.read_text())["stages"] if plan.is_file() else ["."]
        tasks = [folder / name / "training.json" for name in names]
        if json.loads(tasks[-1].read_text())["settings"]["strategy"] == strategy:
            return sum(steps_of_stage(task) for task in tasks)
    raise AssertionError(f"no training with {strategy}")


def steps_of_stage(path: Path) -> int:
    settings = json.loads(path.read_text())["settings"]
    images = read_extxyz(path.parent / "frames.xyz")
    count = sum(atoms.info["split"] == "train" for atoms in images)
    return settings["max_epochs"] * math.ceil(count / settings["batch_size"])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["high_only", "transfer"])
def test_strategies_take_the_same_number_of_steps(
    trained: Callable[..., Model], scratch: Path, labelled: Labelled, strategy: str
) -> None:
    """The high fidelity alone passes over its few labels more often."""
    model = trained(strategy=strategy)
    count = sum(entry.split is Split.TRAIN for entry in labelled.dataset.entries)
    wanted = 4 * math.ceil(count / model.settings["batch_size"])
    few = sum(
        entry.split is Split.TRAIN and entry.fidelity == "high"
        for entry in labelled.dataset.entries
    )
    assert few < count / 1.5
    assert steps_of(strategy, scratch) == pytest.approx(wanted, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("changes", ARMS, ids=lambda c: "-".join(c.values()))
def test_every_arm_predicts_relaxes_and_refuses(
    trained: Callable[..., Model], make_start: Any, changes: dict[str, str]
) -> None:
    model = trained(**changes)
    alone = changes.get("strategy") in ("high_only", "transfer", "transfer_frozen")
    assert model.heads == (["high"] if alone else ["low", "high"])
    assert {m.head for m in model.metrics} == set(model.heads)
    structure = make_start(0, 11).structure
    for head in model.heads:
        potential = Potential(model, head=head)
        (one, f1), (zero, _) = potential.predict([with_charge(structure, q) for q in (-1, 0)])
        assert abs(one - zero) > 1e-3
        atoms = to_atoms(with_charge(structure, -1))
        atoms.calc = potential.calculator(with_charge(structure, -1))
        assert atoms.get_potential_energy() == pytest.approx(one, abs=1e-6)
        assert np.allclose(atoms.get_forces(), f1, atol=1e-6)
        with pytest.raises(ChargeError, match=re.escape("not trained on charge +1")):
            potential.predict([with_charge(structure, 1)])
    if alone:
        with pytest.raises(FidelityError, match="choose one of"):
            Potential(model, head="low")
    # As a database keeps it.
    assert Model.model_validate_json(model.model_dump_json()).references == model.references


@pytest.mark.slow
def test_delta_learns_differences_and_adds_them_to_the_low_model(
    trained: Callable[..., Model], labelled: Labelled, scratch: Path, make_start: Any
) -> None:
    import torch

    model = trained(strategy="delta")
    folder = delta_folder(scratch)
    frames: dict[tuple[str, str], Frame] = {
        (f.fidelity, np.array2string(f.structure.cart_coords) + str(f.charge)): f
        for f in labelled.frames
    }
    images = read_extxyz(folder / "2-difference" / "frames.xyz")
    assert len(images) == sum(frame.fidelity == "high" for frame in labelled.frames)
    pairs = [(high, frames["low", key]) for (f, key), high in frames.items() if f == "high"]
    forces = {round(float(np.abs(np.subtract(h.forces, low.forces)).sum()), 4) for h, low in pairs}
    assert {round(float(np.abs(a.arrays[FORCES]).sum()), 4) for a in images} == forces
    # Small: constants of both fidelities are out.
    assert max(abs(a.info[ENERGY]) for a in images) < 5.0
    structure = make_start(0, 11).structure
    low_alone = torch.load(folder / "1-low" / "model.pt", weights_only=False)
    assert list(low_alone.heads) == ["low"]
    low, high = (Potential(model, head=h).predict([structure])[0] for h in model.heads)
    assert np.abs(low[1] - high[1]).max() > 1e-6


@pytest.mark.slow
def test_low_plus_constant_differs_between_heads_by_its_reference_energies_alone(
    trained: Callable[..., Model], make_start: Any
) -> None:
    model = trained(strategy="low_plus_constant")
    for charge in (0, -1):
        structure = make_start(charge, 11).structure
        low, high = (Potential(model, head=h) for h in model.heads)
        (el, fl), (eh, fh) = low.predict([structure])[0], high.predict([structure])[0]
        shift = high.offset(charge, structure) - low.offset(charge, structure)
        assert eh - el == pytest.approx(shift, abs=1e-6)
        assert np.array_equal(fl, fh)


@pytest.mark.slow
def test_frozen_transfer_keeps_all_but_the_readouts_of_the_low_stage(
    trained: Callable[..., Model], scratch: Path
) -> None:
    import torch

    trained(strategy="transfer_frozen")
    trained(strategy="transfer")
    moved, firsts = [], set()
    for path in (scratch / "strategies/training").glob("*/stages.json"):
        if json.loads(path.read_text())["stages"] != ["1-low", "2-high"]:
            continue
        first, second = (
            dict(torch.load(path.parent / s / "model.pt", weights_only=False).named_parameters())
            for s in ("1-low", "2-high")
        )
        changed = {n for n in first if not torch.equal(first[n], second[n])}
        assert any("readout" in name for name in changed)
        moved.append(any("readout" not in name for name in changed))
        firsts.add((path.parent / "1-low").resolve())
    assert sorted(moved) == [False, True]
    assert len(firsts) == 1, "what both begin with is trained once"


@pytest.mark.slow
def test_stages_that_were_killed_resume_and_end_like_one_run(
    trained: Callable[..., Model],
    labelled: Labelled,
    with_host: Dataset,
    tiny: TrainingSettings,
    scratch: Path,
    tmp_path: Path,
    make_start: Any,
) -> None:
    """As a kill in the second stage leaves it: first stage done, second at a checkpoint."""
    import shutil

    model = trained(strategy="delta")
    source = delta_folder(scratch)
    folder = tmp_path / "training" / source.name
    shutil.copytree(source, folder)
    for name in ("done.json", "model.pt", "2-difference/done.json", "2-difference/model.pt"):
        (folder / name).unlink()
    first = (folder / "1-low" / "model.pt").stat().st_mtime_ns
    settings = tiny.model_copy(update={"max_epochs": 4, "strategy": "delta"})
    again = train(
        labelled.frames, with_host, settings=settings, seed=3, scratch=tmp_path, threads=1
    )
    assert "resumed after epoch" in (folder / "log.txt").read_text()
    assert (folder / "1-low" / "model.pt").stat().st_mtime_ns == first
    structure = make_start(0, 11).structure
    one, other = (Potential(m, head="high").predict([structure])[0][0] for m in (model, again))
    assert one == pytest.approx(other, abs=1e-6)
    assert [r.epoch for r in again.history] == [r.epoch for r in model.history]


@pytest.mark.slow
def test_reference_energies_reach_other_sizes_by_formula_units_and_nothing_else(
    trained: Callable[..., Model], defect_set: DefectSet, make_start: Any
) -> None:
    model = trained(charge_term="intensive")
    potential = Potential(model, head="high")
    small = make_start(0, None).structure
    large = small.copy()
    large.make_supercell([2, 1, 1])
    known = model.reference(head="high", charge=0, composition="S4 Zn3")
    found = model.reference(head="high", charge=0, composition="S8 Zn7")
    assert found == pytest.approx(known + 4 * HOST_ENERGIES["high"])
    with pytest.raises(ChargeError, match="more than formula units"):  # two vacancies
        potential.predict([with_charge(large, 0)])
    for cell in ("S4 Zn4", "S4 Zn3 O1", "Cd3 S4"):
        with pytest.raises(ChargeError, match="no reference energy"):
            model.reference(head="high", charge=0, composition=cell)
    with pytest.raises(ChargeError, match="no energy of the pristine host"):
        model.model_copy(update={"host": None}).reference(
            head="high", charge=0, composition="S8 Zn7"
        )
    assert composition_key(small) == "S4 Zn3"


@pytest.mark.slow
def test_a_model_that_learns_the_spin_refuses_a_missing_and_an_untrained_one(
    labelled: Labelled, tiny: TrainingSettings, tmp_path: Path, make_start: Any
) -> None:
    spins = {0: 0, -1: 1}
    frames = [
        Frame(
            **{
                **{k: getattr(f, k) for k in type(f).model_fields if k != "content_hash"},
                "spin": spins[f.charge],
            }
        )
        for f in labelled.frames
    ]
    settings = tiny.model_copy(update={"max_epochs": 2, "spin_embedding": True})
    model = train(frames, labelled.dataset, settings=settings, seed=3, scratch=tmp_path, threads=1)
    assert model.spins == {f"{h}|{q:+d}": [s] for h in ("low", "high") for q, s in spins.items()}
    assert model.metrics
    potential = Potential(model, head="high")
    structure = make_start(-1, 11).structure
    with pytest.raises(ChargeError, match="carries none"):
        potential.predict([structure])
    with pytest.raises(ChargeError, match="not trained on 3 unpaired"):
        potential.predict([with_spin(structure, 3)])
    ((energy, _),) = potential.predict([with_spin(structure, 1)])
    atoms = to_atoms(with_spin(structure, 1))
    atoms.calc = potential.calculator(with_spin(structure, 1))
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-8)
    atoms.info["spin"] = 0
    with pytest.raises(ChargeError, match="calculator is for 1 unpaired"):
        atoms.get_potential_energy()


def test_labels_that_do_not_train_are_told_once_per_charge(
    labelled: Labelled, tiny: TrainingSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = tiny.model_copy(update={"max_epochs": 1, "strategy": "high_only"})
    with caplog.at_level("WARNING", logger="defect_mf_flows.learning.training"):
        train(
            labelled.frames,
            labelled.dataset,
            settings=settings,
            seed=3,
            scratch=tmp_path,
            threads=1,
        )
    low = Counter(f.charge for f in labelled.frames if f.fidelity == "low")
    told = [text for text in caplog.messages if "count as unseen" in text]
    assert len(told) == len(low)
    for charge, count in low.items():
        assert any(f"('low', {charge}," in text and f"its {count} frames" in text for text in told)


def test_a_first_stage_is_shared_by_content_and_an_old_link_is_replaced(tmp_path: Path) -> None:
    frames = tmp_path / "frames.xyz"
    frames.write_text("labels")
    first = Stage("1-low", ["low"], [])

    def place(run: str, strategy: str, epochs: int) -> Path:
        folder = tmp_path / run
        folder.mkdir(exist_ok=True)
        task = {"settings": {"strategy": strategy, "committee": 1, "max_epochs": epochs}}
        return stage_folder(folder, first, task, frames).resolve()

    shared = place("a", "transfer", 10)
    assert shared.parent == tmp_path
    assert place("b", "delta", 10) == shared, "the strategy does not change its first stage"
    assert place("b", "delta", 20) != shared, "nor may another stage be written into that folder"
    assert place("a", "transfer", 10) == shared
    (tmp_path / "c" / "1-low").mkdir(parents=True)
    assert place("c", "delta", 10) == tmp_path / "c" / "1-low", "what lies there stays there"
