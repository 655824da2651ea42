"""Fine-tuning: the grafted network is the foundation's until the first step, then learns."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ase.build import bulk

import mace  # noqa: F401, isort: skip  (before e3nn)
import torch
from mace.tools.torch_geometric import Batch

from defect_mf_flows.campaign import TrainingSettings
from defect_mf_flows.errors import TrainingError
from defect_mf_flows.learning.batches import to_atomic_data
from defect_mf_flows.learning.foundation import (
    begin,
    file_hash,
    find_foundation,
    foundation_file,
    read_foundation,
)
from defect_mf_flows.learning.network import build_network
from defect_mf_flows.learning.training import train
from defect_mf_flows.schemas.model import Model
from tests.learning.foundations import ELEMENTS, KINDS, build_foundation, write_foundation

if TYPE_CHECKING:
    from tests.conftest import Labelled

HEADS = ["low", "high"]
CHARGES = (-2, 0, 1)


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def vacancy(seed: int = 1) -> Any:
    """Rattled ZnS without one zinc."""
    atoms = bulk("ZnS", "zincblende", 5.4, cubic=True)
    atoms.rattle(0.1, seed=seed)
    del atoms[0]
    return atoms


def graph(network: Any, heads: list[str], head: str, charge: int, seed: int = 1) -> Any:
    atoms = vacancy(seed)
    atoms.info |= {"charge": charge, "total_charge": charge, "spin": 0}
    return to_atomic_data(
        atoms,
        head=head,
        heads=heads,
        atomic_numbers=[int(z) for z in network.atomic_numbers],
        cutoff=float(network.r_max),
    )


def result(network: Any, item: Any) -> tuple[float, np.ndarray]:
    output = network(Batch.from_data_list([item]).to_dict(), compute_force=True)
    return float(output["interaction_energy"].detach()), output["forces"].detach().numpy()


def grafted(foundation: Any, elements: list[int], **changes: Any) -> Any:
    settings = TrainingSettings(charge_embedding_width=4, **changes).model_dump()
    return build_network(
        settings,
        heads=HEADS,
        charges=[-2, 1],
        atomic_numbers=elements,
        neighbours=1.0,
        scale=[1.0, 1.0],
        spins=[0, 1],
        foundation=foundation,
    )


# -- before the first step -------------------------------------------------------------


@pytest.mark.parametrize("elements", [[16, 30], ELEMENTS], ids=["subset", "all"])
@pytest.mark.parametrize("heads", [("default",), ("a", "b", "c")], ids=["one", "three"])
@pytest.mark.parametrize("kind", KINDS)
def test_before_the_first_step_energies_and_forces_are_the_foundations(
    kind: str, heads: tuple[str, ...], elements: list[int], tmp_path: Path
) -> None:
    """For every charge and every head, isolated atoms taken out."""
    path = write_foundation(tmp_path / "f.model", kind, heads=heads)
    whole = torch.load(path, weights_only=False)
    head = heads[-1]
    energy, forces = result(whole, graph(whole, list(heads), head, 0))
    foundation = read_foundation(path, head if len(heads) > 1 else None)
    network = grafted(foundation, elements)
    for ours in HEADS:
        for charge in CHARGES:
            found, pushed = result(network, graph(network, HEADS, ours, charge))
            assert found == pytest.approx(energy, abs=1e-9)
            assert np.abs(pushed - forces).max() < 1e-9
    assert np.abs(forces).max() > 1e-3, "the comparison must see forces"
    assert float(network.atomic_energies_fn.atomic_energies.abs().max()) == 0.0


@pytest.mark.parametrize("term", ["none", "continuous", "per_charge"])
def test_every_charge_term_starts_at_the_foundation(term: str, tmp_path: Path) -> None:
    foundation = read_foundation(write_foundation(tmp_path / "f.model"), None)
    network = grafted(foundation, [16, 30], charge_term=term)
    energy, _ = result(foundation, graph(foundation, ["default"], "default", 0))
    for charge in (-2, 1):
        found, _ = result(network, graph(network, HEADS, "high", charge))
        assert found == pytest.approx(energy, abs=1e-9)


def test_the_charge_can_be_learned_from_where_it_starts(tmp_path: Path) -> None:
    """A zero that has no gradient would stay."""
    network = grafted(read_foundation(write_foundation(tmp_path / "f.model"), None), [16, 30])
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(2):
        batch = Batch.from_data_list([graph(network, HEADS, "high", q) for q in (-2, 1)])
        energies = network(batch.to_dict(), compute_force=False, training=True)["energy"]
        optimizer.zero_grad()
        (energies[0] - energies[1] - 1.0).square().backward()
        optimizer.step()
    one, _ = result(network, graph(network, HEADS, "high", -2))
    other, _ = result(network, graph(network, HEADS, "high", 1))
    assert abs(one - other) > 1e-4


def test_energies_start_where_the_labels_are_and_a_formula_unit_costs_nothing(
    tmp_path: Path,
) -> None:
    foundation = read_foundation(write_foundation(tmp_path / "f.model"), None)
    network = grafted(foundation, [16, 30])
    host = bulk("ZnS", "zincblende", 5.4)
    host.info |= {"charge": 0, "total_charge": 0}
    item = to_atomic_data(
        host, head="low", heads=HEADS, atomic_numbers=[16, 30], cutoff=float(network.r_max)
    )
    batch = Batch.from_data_list([item])
    train_side = [graph(network, HEADS, "low", 0, seed) for seed in (1, 2, 3)]
    before = network(batch.to_dict(), compute_force=False)["energy"].item()
    begin(network, foundation, train_side, batch, "categorical")
    for head in HEADS:
        means = [
            network(
                Batch.from_data_list([graph(network, HEADS, head, 0, seed)]).to_dict(),
                compute_force=False,
            )["energy"].item()
            for seed in (1, 2, 3)
        ]
        assert np.mean(means) == pytest.approx(0.0, abs=1e-6)
    after = network(batch.to_dict(), compute_force=False)["energy"].item()
    assert abs(before) > 1.0
    assert after == pytest.approx(0.0, abs=1e-6)


def test_weights_that_did_not_arrive_are_found_before_training(tmp_path: Path) -> None:
    foundation = read_foundation(write_foundation(tmp_path / "f.model"), None)
    network = grafted(foundation, [16, 30])
    with torch.no_grad():
        network.products[1].linear.weight.mul_(1.01)
    with pytest.raises(TrainingError, match="does not give the foundation's energy"):
        begin(network, foundation, [graph(network, HEADS, "low", 0)], None, "categorical")


# -- refusals --------------------------------------------------------------------------


def test_a_head_must_be_named_where_there_are_several(tmp_path: Path) -> None:
    path = write_foundation(tmp_path / "f.model", heads=("pbe", "r2scan"))
    with pytest.raises(TrainingError, match=r"has heads \['pbe', 'r2scan'\]; name one"):
        read_foundation(path, None)
    with pytest.raises(TrainingError, match="has no head 'hse'"):
        read_foundation(path, "hse")


def test_an_element_that_the_foundation_lacks_is_named(tmp_path: Path) -> None:
    foundation = read_foundation(write_foundation(tmp_path / "f.model"), None)
    with pytest.raises(TrainingError, match=r"\[34\]"):
        grafted(foundation, [16, 30, 34])


def test_a_file_that_is_no_foundation_is_refused(model: Model, tmp_path: Path) -> None:
    charged = tmp_path / "charged.model"
    charged.write_bytes(base64.b64decode(model.blob))
    with pytest.raises(TrainingError, match="ScaleShiftMACE without embeddings"):
        read_foundation(charged, None)
    text = tmp_path / "text.model"
    text.write_text("no model")
    with pytest.raises(TrainingError, match="cannot be read"):
        read_foundation(text, None)
    with pytest.raises(TrainingError, match="does not exist on this machine"):
        foundation_file(str(tmp_path / "none.model"))


def test_an_unknown_name_and_a_download_without_internet_say_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=r"mace knows no 'mh-7'.*mpa-0.*mh-1"):
        foundation_file("mh-7")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(TrainingError, match=r"cannot be downloaded(?s:.*)give the file's path"):
        foundation_file("mh-1")


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    path = write_foundation(tmp_path / "f.model")
    settings = TrainingSettings(foundation=str(path), foundation_hash=file_hash(path))
    record, resolved = find_foundation(settings.model_dump(mode="json"))
    assert record.sha256 == file_hash(path)
    assert (resolved["r_max"], resolved["num_radial_basis"]) == (3.5, 6)
    assert resolved["hidden_irreps"] == "8x0e+8x1o"
    write_foundation(path, seed=4)
    with pytest.raises(TrainingError, match="has SHA-256"):
        find_foundation(settings.model_dump(mode="json"))


# -- training --------------------------------------------------------------------------


@pytest.fixture(scope="session")
def taught(
    labelled: Labelled, tiny: TrainingSettings, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A charge-blind model that has learned the very labels, as a foundation."""
    folder = tmp_path_factory.mktemp("taught")
    settings = tiny.model_copy(
        update={"charge_term": "none", "strategy": "high_only", "max_epochs": 30}
    )
    made = train(
        labelled.frames, labelled.dataset, settings=settings, seed=5, scratch=folder, threads=1
    )
    path = folder / "taught.model"
    path.write_bytes(base64.b64decode(made.blob))
    return path


@pytest.fixture
def fine(taught: Path, tiny: TrainingSettings) -> TrainingSettings:
    return TrainingSettings(
        foundation=str(taught),
        charge_embedding_width=4,
        dtype="float64",
        max_epochs=4,
        validate_every=1,
        checkpoint_every=1,
        learning_rate=0.002,
    )


def tune(labelled: Labelled, settings: TrainingSettings, scratch: Path) -> Model:
    return train(
        labelled.frames, labelled.dataset, settings=settings, seed=7, scratch=scratch, threads=1
    )


def test_fine_tuning_starts_better_than_random_weights_and_documents_its_origin(
    labelled: Labelled, fine: TrainingSettings, taught: Path, model: Model, tmp_path: Path
) -> None:
    tuned = tune(labelled, fine, tmp_path)
    assert tuned.foundation is not None
    assert tuned.foundation.sha256 == file_hash(taught)
    assert tuned.settings["r_max"] == 3.5
    assert tuned.settings["num_interactions"] == 1
    assert tuned.heads == HEADS
    first, random = tuned.history[0].valid["high"], model.history[0].valid["high"]
    assert first["force_rmse"] < 0.7 * random["force_rmse"]
    network = torch.load(io.BytesIO(base64.b64decode(tuned.blob)), weights_only=False)
    one, _ = result(network, graph(network, HEADS, "high", 0))
    other, _ = result(network, graph(network, HEADS, "high", -1))
    assert abs(one - other) > 1e-5, "the charge was learned"


def test_a_killed_fine_tuning_goes_on_from_its_checkpoint(
    labelled: Labelled, fine: TrainingSettings, taught: Path, tmp_path: Path
) -> None:
    """What two epochs left behind, ended by the same call, is what four epochs give."""
    whole = tune(labelled, fine, tmp_path / "whole")
    import threading

    from tests.learning.test_training import folders, kill_after_first_checkpoint

    killed: list[int] = []
    scratch = tmp_path / "killed"
    killer = threading.Thread(
        target=lambda: killed.extend(kill_after_first_checkpoint(scratch)), daemon=True
    )
    killer.start()
    with pytest.raises(TrainingError, match="exit code -9"):
        tune(labelled, fine, scratch)
    killer.join()
    assert killed
    resumed = tune(labelled, fine, scratch)
    assert "resumed after epoch" in (folders(scratch)[0] / "log.txt").read_text()
    assert resumed.foundation == whole.foundation
    for one, other in zip(resumed.history, whole.history, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-6)


def test_cells_within_the_foundations_cutoff_are_refused(
    labelled: Labelled, fine: TrainingSettings, tmp_path: Path
) -> None:
    wide = write_foundation(tmp_path / "wide.model", r_max=6.0)
    settings = fine.model_copy(update={"foundation": str(wide), "foundation_hash": None})
    with pytest.raises(TrainingError, match=r"within the cutoff 6\.00 A"):
        tune(labelled, settings, tmp_path)
    assert not (tmp_path / "training").exists(), "nothing was started"


def test_a_foundation_of_one_element_set_is_not_confused_with_its_weights() -> None:
    """Two foundations differ: a test on equal ones could not fail."""
    one, other = build_foundation("mpa-0"), build_foundation("mpa-0", seed=4)
    item = graph(one, ["default"], "default", 0)
    assert abs(result(one, item)[0] - result(other, item)[0]) > 1e-3
