"""A compiled training step gives what the network gives, or is not used."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import mace  # noqa: F401, isort: skip  (before e3nn)
import torch
from e3nn import o3

from defect_mf_flows.campaign import TrainingSettings
from defect_mf_flows.core.charge import charge_of, to_atoms
from defect_mf_flows.learning.batches import collate
from defect_mf_flows.learning.compiling import (
    COMPARED,
    Batches,
    CompiledForward,
    compile_step,
    traced,
    undo_compile,
)
from defect_mf_flows.learning.flock import compile_flock
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.relaxation import relax
from defect_mf_flows.learning.trainer import Trainer
from defect_mf_flows.learning.training import train

if TYPE_CHECKING:
    from pathlib import Path

    from pymatgen.core import Structure

    from defect_mf_flows.schemas.defect import StartStructure
    from defect_mf_flows.schemas.model import Model
    from tests.conftest import Labelled

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("g++") is None, reason="SKIPPED: no C++ compiler (g++) for inductor"
    ),
]


#: A compiler takes its time for every operation: no vectors, one body order, one layer.
SMALL = TrainingSettings(
    r_max=3.0,
    hidden_irreps="4x0e",
    max_ell=1,
    correlation=1,
    num_interactions=1,
    charge_embedding_width=2,
    dtype="float64",
    max_epochs=4,
    validate_every=1,
    checkpoint_every=1,
)


def trained(labelled: Labelled, scratch: Path, **changes: Any) -> tuple[Model, Path]:
    settings = SMALL.model_copy(update=changes)
    found = train(
        labelled.frames, labelled.dataset, settings=settings, seed=7, scratch=scratch, threads=1
    )
    (folder,) = (scratch / "training").iterdir()
    return found, folder


@pytest.fixture(scope="module")
def compiled_run(
    labelled: Labelled, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Model, Path]:
    """A compiled training, and its folder."""
    return trained(labelled, tmp_path_factory.mktemp("compiled"), compile=True)


@pytest.fixture
def trainer(compiled_run: tuple[Model, Path]) -> Iterator[Trainer]:
    """The same network, untrained, with the same batches."""
    before = torch.get_default_dtype()
    yield Trainer(compiled_run[1])
    torch.set_default_dtype(before)


def batches(trainer: Trainer) -> list[dict[str, Any]]:
    """Two full batches of other frames, charges and heads than each other."""
    order = sorted(range(len(trainer.train)), key=lambda i: (int(trainer.train[i].head), i))
    size = trainer.settings["batch_size"]
    mixed = [order[:size], order[-size:], order[::2][:size]]
    return [collate([trainer.train[i] for i in part]).to_dict() for part in mixed]


def test_a_compiled_training_is_the_training_itself(
    compiled_run: tuple[Model, Path], labelled: Labelled, tmp_path: Path
) -> None:
    found, folder = compiled_run
    assert "compiled: batches of" in (folder / "log.txt").read_text()
    model, own = trained(labelled, tmp_path)
    assert "compiled" not in (own / "log.txt").read_text()
    assert own.name == folder.name, "compiling does not make it another training"
    assert [r.epoch for r in found.history] == [r.epoch for r in model.history]
    for one, other in zip(found.history, model.history, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-6)
    structures = [frame.structure for frame in labelled.frames[:6]]
    for (energy, forces), (own_energy, own_forces) in zip(
        Potential(found, head="high").predict(structures),
        Potential(model, head="high").predict(structures),
        strict=True,
    ):
        assert energy == pytest.approx(own_energy, abs=1e-6)
        assert np.allclose(forces, own_forces, atol=1e-6)


def test_other_charges_and_heads_than_those_it_was_traced_with_arrive(trainer: Trainer) -> None:
    first, *others = batches(trainer)
    assert {float(q) for q in first["total_charge"]} | {
        float(q) for data in others for q in data["total_charge"]
    } > {float(others[0]["total_charge"][0])}
    compiled = trainer.model.__dict__["forward"]
    for data in [first] * COMPARED:
        trainer.model(dict(data), training=True)
    assert compiled.step is not None
    assert not compiled.given_up
    for data in others:
        found = trainer.model(dict(data), training=True)
        assert set(found) == {"energy", "forces"}, "not the network's own forward"
        own = compiled._own({**data, "positions": data["positions"].clone()}, True, {})
        assert torch.allclose(found["energy"], own["energy"], atol=1e-8)
        assert torch.allclose(found["forces"], own["forces"], atol=1e-8)
    undo_compile(trainer.model)
    assert "node_energy" in trainer.model(dict(first), training=True)


def test_a_batch_of_another_shape_is_computed_by_the_network_itself(trainer: Trainer) -> None:
    single = collate(trainer.train[:1]).to_dict()
    assert "node_energy" in trainer.model(single, training=True)
    assert trainer.model.__dict__["forward"].compared == 0


def test_whoever_asks_for_a_stress_gets_it_from_the_network(trainer: Trainer) -> None:
    found = trainer.model(dict(batches(trainer)[0]), training=True, compute_stress=True)
    assert found["stress"] is not None
    assert trainer.model.__dict__["forward"].compared == 0


@pytest.mark.parametrize("fault", ["differs", "fails"])
def test_a_step_that_is_wrong_or_cannot_be_built_is_not_used(
    trainer: Trainer, monkeypatch: pytest.MonkeyPatch, caplog: Any, fault: str
) -> None:
    def build(self: CompiledForward, filled: dict[str, Any]) -> Any:
        if fault == "fails":
            raise RuntimeError("no compiler")
        self.names = list(filled)

        def step(*_: Any) -> Any:
            own = self._own({**filled, "positions": filled["positions"].clone()}, True, {})
            return own["energy"] * 1.001, own["forces"]

        return step

    monkeypatch.setattr(CompiledForward, "_build", build)
    data = batches(trainer)[0]
    with caplog.at_level(logging.WARNING):
        for _ in range(COMPARED + 1):
            found = trainer.model(dict(data), training=True)
    assert "node_energy" in found
    assert trainer.model.__dict__["forward"].given_up
    said = {"fails": "no compiler", "differs": "differs from the network"}[fault]
    assert "goes on without compiled calls" in caplog.text
    assert said in caplog.text


def test_a_network_that_is_not_mace_s_own_stays_as_it_is(trainer: Trainer, caplog: Any) -> None:
    other = torch.nn.Linear(1, 1)
    with caplog.at_level(logging.WARNING):
        assert compile_step(other, Batches.of(trainer.train, 4)) is other
    assert "forward" not in other.__dict__
    assert "Linear is not compiled" in caplog.text


def test_edges_that_fill_up_are_longer_than_the_cutoff(trainer: Trainer) -> None:
    shape = Batches.of(trainer.train, 2)
    data = collate(trainer.train[:2]).to_dict()
    assert shape.fit(data)
    count = data["edge_index"].shape[1]
    filled = shape.fill(data, cutoff=3.5)
    assert filled["edge_index"].shape[1] == shape.edges > count
    senders, receivers = filled["edge_index"]
    vectors = filled["positions"][receivers] - filled["positions"][senders] + filled["shifts"]
    assert (vectors.norm(dim=1)[count:] > 3.5).all()
    assert torch.equal(filled["shifts"][:count], data["shifts"])


def test_atoms_and_graphs_that_fill_up_change_nothing(trainer: Trainer) -> None:
    shape = Batches.of(trainer.train, 4)
    data = collate(trainer.train[:3]).to_dict()
    assert shape.fit(data)
    filled = shape.fill(data, cutoff=float(trainer.model.r_max))
    assert filled["positions"].shape[0] == shape.atoms >= 28
    assert filled["ptr"].tolist()[-2:] == [21, shape.atoms]
    assert len(filled["total_charge"]) == len(filled["head"]) == 5
    undo_compile(trainer.model)
    own = trainer.model(data, training=True)
    found = trainer.model(filled, training=True)
    assert torch.allclose(found["energy"][:3], own["energy"], atol=1e-10)
    assert torch.allclose(found["forces"][:21], own["forces"], atol=1e-10)
    assert not found["forces"][21:].any()


def test_room_is_for_batches_of_cells_of_different_sizes(trainer: Trainer) -> None:
    class Item:
        def __init__(self, atoms: int) -> None:
            self.num_nodes, self.edge_index = atoms, torch.zeros(2, 20 * atoms)

    mixed = Batches.of([Item(31)] * 20 + [Item(32)] * 10, 4)  # type: ignore[list-item]
    assert 4 * 32 <= mixed.atoms <= 4 * 32 + 4
    alike = Batches.of([Item(31)] * 20, 8)  # type: ignore[list-item]
    assert 8 * 31 <= alike.atoms <= 8 * 31 + 8
    few = collate(trainer.train[:1]).to_dict()
    assert not Batches.of(trainer.train, 4).fit(few), "not worth four times its atoms"


def test_trainings_on_other_labels_find_what_was_compiled_before(trainer: Trainer) -> None:
    """Their mean number of neighbours differs, and may not be written into what is compiled."""
    data, *_ = batches(trainer)
    compiled = trainer.model.__dict__["forward"]
    for _ in range(COMPARED):
        trainer.model(dict(data), training=True)
    before, step = trainer.model(dict(data), training=True), compiled.step
    for block, number in zip(compiled.blocks, compiled.numbers, strict=True):
        block.avg_num_neighbors *= 1.5
        number *= 1.5
    found = trainer.model(dict(data), training=True)
    assert compiled.step is step
    own = compiled._own({**data, "positions": data["positions"].clone()}, True, {})
    assert torch.allclose(found["energy"], own["energy"], atol=1e-8)
    assert torch.allclose(found["forces"], own["forces"], atol=1e-8)
    assert not torch.allclose(found["forces"], before["forces"], atol=1e-6)


@pytest.mark.parametrize("act", [torch.tanh, torch.nn.functional.silu], ids=["tanh", "silu"])
@pytest.mark.parametrize("runs", [0, 4])
def test_second_derivatives_of_what_is_traced_are_right(
    act: Callable[[torch.Tensor], torch.Tensor], runs: int
) -> None:
    """``tanh`` keeps its result; TorchScript replaces spherical harmonics that run repeatedly."""
    harmonics = o3.SphericalHarmonics([0, 1, 2, 3], normalize=True, normalization="component")
    torch.manual_seed(0)
    vectors = torch.randn(30, 3, dtype=torch.float64)
    weights = torch.randn(30, 16, dtype=torch.float64, requires_grad=True)

    def step(weights: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        vectors = vectors.detach().requires_grad_(True)
        energy = act(weights * harmonics(vectors)).sum()
        return torch.autograd.grad(energy, vectors, create_graph=True)[0]

    def gradient(step: Callable[..., torch.Tensor]) -> torch.Tensor:
        return torch.autograd.grad(step(weights, vectors).square().sum(), weights)[0]

    for _ in range(runs):
        gradient(step)
    found = gradient(traced(step, weights, vectors))
    assert torch.allclose(found, gradient(step), rtol=1e-10, atol=1e-10)


# -- calls of a search ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def starts(make_start: Callable[..., StartStructure]) -> list[Structure]:
    return [make_start(charge, seed).structure for seed in (31, 32, 33) for charge in (0, -1)]


def test_compiled_calls_give_what_the_network_gives(
    compiled_run: tuple[Model, Path], starts: list[Structure]
) -> None:
    """Other geometries, charges and heads than those that were compared."""
    for head in compiled_run[0].heads:
        potential, own = (Potential(compiled_run[0], head=head) for _ in range(2))
        batches = compile_flock(starts[:3], potential)
        assert batches is not None
        assert batches.size == 3
        found = potential.predict(starts[3:], batch=3)
        assert potential._call.compared == COMPARED
        for (energy, forces), (wanted, own_forces) in zip(
            found, own.predict(starts[3:], batch=3), strict=True
        ):
            assert energy == pytest.approx(wanted, abs=1e-8)
            assert np.allclose(forces, own_forces, atol=1e-8)


def test_there_is_room_for_neighbours_that_come_in_on_the_way(
    compiled_run: tuple[Model, Path], starts: list[Structure], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Second neighbours lie between the cutoff and an Angstrom beyond it."""
    monkeypatch.setattr(Potential, "evaluate", lambda *_: [])
    monkeypatch.setattr("defect_mf_flows.learning.flock.DRAWN_IN", 1.0)
    potential = Potential(compiled_run[0], head="high")
    batches = compile_flock(starts, potential)
    assert batches is not None
    edges = [potential.graph(to_atoms(s)).edge_index.shape[1] for s in starts]
    assert batches.edges > Batches([7] * 6, edges, 6).edges


def test_compiled_calls_are_taken(
    compiled_run: tuple[Model, Path], starts: list[Structure]
) -> None:
    potential = Potential(compiled_run[0], head="high")
    assert compile_flock(starts[:3], potential) is not None
    potential._call._own = None  # whoever asks the network itself fails
    assert len(potential.predict(starts[3:], batch=3)) == 3
    with pytest.raises(TypeError):
        potential.predict(starts[:1])  # a third of the room is not worth filling up


@pytest.mark.parametrize("processes", [1, 2])
def test_relaxations_by_compiled_calls_end_where_the_others_do(
    compiled_run: tuple[Model, Path],
    starts: list[Structure],
    processes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("defect_mf_flows.learning.relaxation.WORTH_A_PROCESS", 1)
    charges = [0, -1] * 3
    plain = relax(starts, charges, compiled_run[0], "high", 0.01, 12)
    ends = relax(
        starts, charges, compiled_run[0], "high", 0.01, 12, processes=processes, compiled=True
    )
    for end, other in zip(ends, plain, strict=True):
        assert end.energy == pytest.approx(other.energy, abs=1e-6)
        assert end.steps == other.steps
        assert charge_of(end.structure) == charge_of(other.structure)


def test_calls_that_cannot_be_compiled_are_the_networks_own(
    compiled_run: tuple[Model, Path],
    starts: list[Structure],
    monkeypatch: pytest.MonkeyPatch,
    caplog: Any,
) -> None:
    def build(*_: Any) -> Any:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(CompiledForward, "_build", build)
    potential = Potential(compiled_run[0], head="high")
    with caplog.at_level(logging.WARNING):
        assert compile_flock(starts, potential) is None
    assert "goes on without compiled calls: RuntimeError: no compiler" in caplog.text
    own = Potential(compiled_run[0], head="high").predict(starts[:2])
    assert potential.predict(starts[:2])[0][0] == own[0][0]
    charges = [0, -1] * 3
    ends = relax(starts, charges, compiled_run[0], "high", 0.01, 3, compiled=True)
    assert all(end.problem is None for end in ends)


def test_a_start_without_a_neighbour_list_costs_the_compiler_and_not_the_others(
    compiled_run: tuple[Model, Path],
    starts: list[Structure],
    monkeypatch: pytest.MonkeyPatch,
    caplog: Any,
) -> None:
    evaluate, calls = Potential.evaluate, []

    def failing_once(self: Potential, atoms: list[Any]) -> Any:
        calls.append(len(atoms))
        if len(calls) == 1:
            raise RuntimeError("no neighbour list")
        return evaluate(self, atoms)

    monkeypatch.setattr(Potential, "evaluate", failing_once)
    with caplog.at_level(logging.WARNING):
        ends = relax(starts, [0, -1] * 3, compiled_run[0], "high", 0.01, 3, compiled=True)
    assert "force calls are not compiled: RuntimeError: no neighbour list" in caplog.text
    assert all(end.problem is None for end in ends)
    assert relax([], [], compiled_run[0], "high", 0.01, 3, compiled=True) == []
