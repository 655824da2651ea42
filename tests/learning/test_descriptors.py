"""Maps of descriptors come from the trained network and tell what its charge input does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation

from defect_mf_flows.campaign import TrainingSettings
from defect_mf_flows.core.charge import MACE_INFO_KEYS, to_atoms, with_charge
from defect_mf_flows.learning import descriptors
from defect_mf_flows.learning.descriptors import (
    descriptor_maps,
    features,
    invariant_columns,
    project,
)
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.training import train
from defect_mf_flows.schemas.dataset import Dataset, HostLabels
from defect_mf_flows.schemas.defect import DefectSet, StartStructure
from defect_mf_flows.schemas.model import DescriptorMap, Model

if TYPE_CHECKING:
    from tests.conftest import Labelled


@pytest.fixture(scope="module")
def dataset(labelled: Labelled, defect_set: DefectSet) -> Dataset:
    host = HostLabels(structure=defect_set.host.primitive, energies={"low": -1.0, "high": -2.0})
    return labelled.dataset.model_copy(update={"host": host})


@pytest.fixture(scope="module")
def found(model: Model, labelled: Labelled, dataset: Dataset) -> DescriptorMap:
    (made,) = descriptor_maps(model, labelled.frames, dataset)
    return made


def test_a_point_per_geometry_and_charge(found: DescriptorMap, labelled: Labelled) -> None:
    """High-fidelity labels are of geometries that low fidelity has labelled already."""
    low = [f for f in labelled.frames if f.fidelity == "low"]
    assert found.n_frames == len(low) < len(labelled.frames)
    assert sorted(found.charges) == sorted(f.charge for f in low)
    assert {"train", "valid", "test"} >= set(found.splits)
    for view in (found.with_charge, found.without_charge):
        assert len(view.points) == len(low)
        assert np.abs(view.points).max() == 1.0
        assert 0 < sum(view.explained) <= 1 + 1e-9
    assert DescriptorMap.model_validate_json(found.model_dump_json()) == found


def test_only_the_charge_input_sets_the_charges_apart(found: DescriptorMap) -> None:
    assert found.held_charge == 0
    assert found.with_charge.separation > found.without_charge.separation + 0.2
    neutral = np.array(found.charges) == 0
    first = np.array(found.with_charge.points)[:, 0]
    assert (first[neutral].min() > first[~neutral].max()) or (
        first[neutral].max() < first[~neutral].min()
    )


def test_features_are_those_of_mace(
    model: Model, make_start: Callable[..., StartStructure]
) -> None:
    from mace.calculators import MACECalculator

    potential = Potential(model, head="high")
    structure = make_start(-1, 3).structure
    (mine,) = features(potential, [structure], [-1], [None])
    calculator = MACECalculator(
        models=[potential.network],
        device="cpu",
        default_dtype="float64",
        head="high",
        info_keys=dict(MACE_INFO_KEYS),
    )
    assert mine == pytest.approx(calculator.get_descriptors(to_atoms(structure)), abs=1e-9)


def test_features_of_two_layers_do_not_turn_with_the_cell(
    labelled: Labelled,
    dataset: Dataset,
    tiny: TrainingSettings,
    scratch: Path,
    make_start: Callable[..., StartStructure],
) -> None:
    settings = tiny.model_copy(update={"num_interactions": 2, "max_epochs": 1})
    deep = train(
        labelled.frames, dataset, settings=settings, seed=7, scratch=scratch / "deep", threads=1
    )
    potential = Potential(deep, head="low")
    structure = make_start(0, 5).structure
    turn = Rotation.from_euler("zyx", [20, 40, 60], degrees=True).as_matrix()
    turned = Structure(
        Lattice(structure.lattice.matrix @ turn.T), structure.species, structure.frac_coords
    )
    turned = with_charge(turned, 0)
    one, other = features(potential, [structure, turned], [0, 0], [None, None])
    assert one.shape == (7, len(invariant_columns(potential.network))) == (7, 16)
    assert other == pytest.approx(one, abs=1e-8)
    assert np.ptp(one, axis=0).max() > 1e-3


@pytest.mark.parametrize(
    "changes",
    [{"charge_term": "per_charge"}, {"charge_term": "intensive"}, {"strategy": "delta"}],
    ids=lambda changes: next(iter(changes.values())),
)
def test_every_kind_of_network_has_maps(
    changes: dict[str, str],
    labelled: Labelled,
    dataset: Dataset,
    tiny: TrainingSettings,
    scratch: Path,
) -> None:
    settings = tiny.model_copy(update={"max_epochs": 2, **changes})
    made = train(
        labelled.frames, dataset, settings=settings, seed=3, scratch=scratch / "maps", threads=1
    )
    (found,) = descriptor_maps(made, labelled.frames, dataset)
    assert found.with_charge.separation > found.without_charge.separation


def test_a_network_without_a_charge_term_has_one_map_twice(
    labelled: Labelled, dataset: Dataset, tiny: TrainingSettings, scratch: Path
) -> None:
    settings = tiny.model_copy(update={"max_epochs": 2, "charge_term": "none"})
    made = train(
        labelled.frames, dataset, settings=settings, seed=3, scratch=scratch / "maps", threads=1
    )
    (found,) = descriptor_maps(made, labelled.frames, dataset)
    assert found.with_charge == found.without_charge


def test_thinning_keeps_every_charge(
    model: Model, labelled: Labelled, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descriptors, "MOST", 6)
    (found,) = descriptor_maps(model, labelled.frames, dataset)
    assert found.charges == [-1, -1, -1, 0, 0, 0]
    assert found.n_frames > 6


def test_no_host_no_map(model: Model, labelled: Labelled) -> None:
    assert descriptor_maps(model, labelled.frames, labelled.dataset) == []


def test_rows_that_are_all_alike_have_no_variance() -> None:
    view = project(np.ones((5, 3)), [0, 0, 1, 1, 1])
    assert view.explained == (0.0, 0.0)
    assert view.separation is None


def test_a_line_is_one_component() -> None:
    rows = np.outer([-2.0, -1.0, 1.0, 2.0], [3.0, 4.0, 0.0])
    view = project(rows, [0, 0, 1, 1])
    assert view.explained == pytest.approx((1.0, 0.0), abs=1e-12)
    assert np.abs(view.points)[:, 0] == pytest.approx([1.0, 0.5, 0.5, 1.0])
    assert view.separation > 0.5
