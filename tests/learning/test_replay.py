"""Replay: a head of its own while training, and no trace of it afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk

import mace  # noqa: F401, isort: skip  (before e3nn)
import torch
from mace.tools.torch_geometric import Batch

from defect_mf_flows.campaign import TrainingSettings
from defect_mf_flows.core.charge import ENERGY, FORCES, atoms_charge, read_extxyz
from defect_mf_flows.errors import ChargeError, DatasetError, FidelityError, TrainingError
from defect_mf_flows.learning.batches import to_atomic_data
from defect_mf_flows.learning.foundation import read_foundation
from defect_mf_flows.learning.network import build_network
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.replay import REPLAY, read_replay, without_replay
from defect_mf_flows.learning.training import train
from tests.learning.foundations import KINDS, build_foundation, write_foundation

if TYPE_CHECKING:
    from tests.conftest import Labelled

HEADS = ["low", "high", REPLAY]


@pytest.fixture(autouse=True)
def double() -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def oxide(seed: int) -> Any:
    """An element, O, that the dataset does not have."""
    atoms = bulk("ZnO", "zincblende", 4.6, cubic=True)
    atoms.rattle(0.1, seed=seed)
    return atoms


def write_replay(path: Path, *, count: int = 4, **info: Any) -> Path:
    """Total energies and forces of the foundation itself on rattled ZnO."""
    foundation = build_foundation("mpa-0")
    images = []
    for seed in range(count):
        atoms = oxide(seed)
        atoms.info |= {"charge": 0, "total_charge": 0}
        item = to_atomic_data(
            atoms,
            head="default",
            heads=["default"],
            atomic_numbers=[int(z) for z in foundation.atomic_numbers],
            cutoff=float(foundation.r_max),
        )
        output = foundation(Batch.from_data_list([item]).to_dict(), compute_force=True)
        atoms.info = {ENERGY: float(output["energy"].detach()), **info}
        atoms.arrays[FORCES] = output["forces"].detach().numpy()
        images.append(atoms)
    ase.io.write(path, images, format="extxyz")
    return path


@pytest.fixture
def settings(tmp_path: Path) -> Callable[..., TrainingSettings]:
    def make(**changes: Any) -> TrainingSettings:
        values = {
            "foundation": str(write_foundation(tmp_path / "f.model")),
            "replay": str(write_replay(tmp_path / "replay.xyz", charge=0)),
            "charge_embedding_width": 4,
            "dtype": "float64",
            "max_epochs": 2,
            "validate_every": 1,
            "checkpoint_every": 1,
            "learning_rate": 0.001,
        }
        return TrainingSettings(**{**values, **changes})

    return make


def read(settings: TrainingSettings, heads: list[str] | None = None) -> list[Any]:
    return read_replay(settings.model_dump(mode="json"), heads or ["low", "high"])


# -- what is read ----------------------------------------------------------------------


def test_the_charge_of_replayed_frames_must_be_stated(
    settings: Callable[..., TrainingSettings], tmp_path: Path
) -> None:
    silent = str(write_replay(tmp_path / "silent.xyz"))
    with pytest.raises(ChargeError, match=r"frame 0 carries no charge.*replay_charge: 0"):
        read(settings(replay=silent))
    frames = read(settings(replay=silent, replay_charge=0))
    assert [atoms_charge(atoms) for atoms in frames] == [0] * 4
    charged = str(write_replay(tmp_path / "charged.xyz", charge=1))
    with pytest.raises(ChargeError, match="has charge 1"):
        read(settings(replay=charged, replay_charge=0))


def test_a_file_that_cannot_be_replayed_is_refused(
    settings: Callable[..., TrainingSettings], tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="does not exist on this machine"):
        read(settings(replay=str(tmp_path / "none.xyz")))
    ase.io.write(tmp_path / "bare.xyz", [oxide(1), oxide(2)])
    with pytest.raises(DatasetError, match=r"frame 0 lacks info\['REF_energy'\]"):
        read(settings(replay=str(tmp_path / "bare.xyz"), replay_charge=0))
    with pytest.raises(DatasetError, match="is not the file"):
        read(settings(replay_hash="0" * 64))
    with pytest.raises(FidelityError, match="rename the fidelity"):
        read(settings(), ["low", "replay"])


# -- the head --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_taking_the_head_off_leaves_the_others_as_they_are(kind: str, tmp_path: Path) -> None:
    foundation = read_foundation(write_foundation(tmp_path / "f.model", kind), None)

    def build(heads: list[str]) -> Any:
        return build_network(
            TrainingSettings(charge_embedding_width=4).model_dump(),
            heads=heads,
            charges=[-1, 0],
            atomic_numbers=[16, 30],
            neighbours=1.0,
            scale=[1.0] * len(heads),
            foundation=foundation,
        )

    network = build(HEADS)
    with torch.no_grad():  # as after training: every head its own
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        network.atomic_energies_fn.atomic_energies += torch.randn(3, 2)
    atoms = bulk("ZnS", "zincblende", 5.4, cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.info |= {"charge": -1, "total_charge": -1}
    numbers = {"atomic_numbers": [16, 30], "cutoff": float(network.r_max)}
    smaller = build(HEADS[:2])
    before = []
    for head in HEADS:
        item = to_atomic_data(atoms, head=head, heads=HEADS, **numbers)
        before.append(network(Batch.from_data_list([item]).to_dict())["energy"].item())
    assert len({round(energy, 3) for energy in before}) == 3
    items = [to_atomic_data(atoms, head=h, heads=HEADS, **numbers) for h in HEADS[:2]]
    batches = [Batch.from_data_list([item]) for item in items]
    without_replay(network, smaller, batches)
    assert list(smaller.heads) == ["low", "high"]
    for batch, energy in zip(batches, before, strict=False):
        assert smaller(batch.to_dict())["energy"].item() == pytest.approx(energy, abs=1e-9)


def test_a_readout_that_cannot_be_taken_apart_is_noticed(tmp_path: Path) -> None:
    foundation = read_foundation(write_foundation(tmp_path / "f.model"), None)
    options: dict[str, Any] = {
        "charges": [0],
        "atomic_numbers": [16, 30],
        "neighbours": 1.0,
        "scale": [1.0],
        "foundation": foundation,
    }
    made = TrainingSettings(charge_term="none").model_dump()
    network = build_network(made, heads=HEADS, **options)
    smaller = build_network(made, heads=HEADS[:2], **options)
    atoms = oxide(1)
    atoms.numbers[atoms.numbers == 8] = 16
    atoms.info |= {"charge": 0, "total_charge": 0}
    item = to_atomic_data(
        atoms, head="low", heads=HEADS, atomic_numbers=[16, 30], cutoff=float(network.r_max)
    )
    before = network(Batch.from_data_list([item]).to_dict())["forces"].abs().max()
    assert before > 0.01
    network.readouts[1].register_forward_hook(lambda module, args, out: 2 * out)
    with pytest.raises(TrainingError, match=r"train without training\.replay"):
        without_replay(network, smaller, [Batch.from_data_list([item])])


def test_replayed_frames_train_along_and_leave_no_trace_in_heads_charges_and_metrics(
    labelled: Labelled, settings: Callable[..., TrainingSettings], tmp_path: Path
) -> None:
    made = train(
        labelled.frames,
        labelled.dataset,
        settings=settings(),
        seed=7,
        scratch=tmp_path,
        threads=1,
    )
    assert made.heads == ["low", "high"]
    assert set(made.charges) == {"low", "high"}
    assert {m.head for m in made.metrics} == {"low", "high"}
    assert {r.head for r in made.references} == {"low", "high"}
    potential = Potential(made, head="high")
    assert list(potential.network.heads) == ["low", "high"]
    potential.predict([labelled.frames[0].structure])

    (folder,) = (tmp_path / "training").iterdir()
    images = [a for a in read_extxyz(folder / "frames.xyz") if a.info["fidelity"] == REPLAY]
    assert len(images) == 4
    assert {atoms_charge(atoms) for atoms in images} == {0}
    task = json.loads((folder / "training.json").read_text())
    assert task["heads"] == HEADS
    # Total energies of the foundation's own method: nothing to learn before the first step.
    first = made.history[0].valid
    assert first[REPLAY]["energy_rmse"] < 0.2 * first["high"]["energy_rmse"]
    scores = [
        sum(
            weight
            * r.valid[h]["n"]
            * (r.valid[h]["energy_rmse"] ** 2 + (r.valid[h]["force_rmse"] / 10) ** 2)
            for h, weight in (("low", 1.0), ("high", 3.0))
        )
        for r in made.history
    ]
    assert made.best_epoch == int(np.argmin(scores))
