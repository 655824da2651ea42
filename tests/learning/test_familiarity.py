"""A real network tells surroundings that it has seen from those that it has not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pymatgen.core import Structure

from defect_mf_flows.campaign import TrainingSettings
from defect_mf_flows.core.charge import charge_of, with_charge
from defect_mf_flows.errors import TrainingError
from defect_mf_flows.learning.familiarity import Trust, familiarity, unfamiliarity
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.relaxation import relax
from defect_mf_flows.learning.relaxed import Problem, Relaxed, Trajectory
from defect_mf_flows.learning.training import train
from defect_mf_flows.schemas.dataset import HostLabels, Split
from defect_mf_flows.schemas.defect import DefectSet, StartStructure
from defect_mf_flows.schemas.familiarity import Familiarity
from defect_mf_flows.schemas.model import Model

if TYPE_CHECKING:
    from tests.conftest import Labelled

ROUNDING = 1e-2


@pytest.fixture(scope="module")
def known(model: Model, labelled: Labelled) -> Familiarity:
    return familiarity(model, labelled.frames, labelled.dataset)


@pytest.fixture(scope="module")
def far(model: Model, known: Familiarity) -> Callable[[list[Structure]], list[float]]:
    potential = Potential(model, head="high")
    return lambda structures: unfamiliarity(known, potential, structures)


def side(labelled: Labelled, *, trained: bool) -> list[Structure]:
    return [
        frame.structure
        for frame, entry in zip(labelled.frames, labelled.dataset.entries, strict=True)
        if (entry.split is Split.TRAIN) == trained
    ]


def shaken(structure: Structure, size: float) -> Structure:
    rng = np.random.default_rng(3)
    moved = structure.cart_coords + rng.normal(scale=size, size=(len(structure), 3))
    return with_charge(
        Structure(structure.lattice, structure.species, moved, coords_are_cartesian=True),
        charge_of(structure),
    )


def test_what_trained_is_familiar_and_what_was_shaken_is_not(labelled: Labelled, far) -> None:
    seen = side(labelled, trained=True)[:4]
    assert max(far(seen)) < ROUNDING
    near, wild = (far([shaken(s, size) for s in seen]) for size in (0.02, 0.5))
    assert ROUNDING < max(near) < min(wild)


def test_a_flipped_charge_is_another_surrounding(labelled: Labelled, far) -> None:
    """Starts are the same in both charges and known in both; where they relaxed to is not."""
    seen = side(labelled, trained=True)
    flipped = [with_charge(s, -1 - charge_of(s)) for s in seen]
    assert max(far(seen)) < ROUNDING
    assert sum(distance > ROUNDING for distance in far(flipped)) > len(seen) / 2


def test_neither_place_nor_order_of_the_atoms_matters(labelled: Labelled, far) -> None:
    (seen,) = side(labelled, trained=False)[:1]
    order = np.random.default_rng(4).permutation(len(seen))
    other = Structure(
        seen.lattice, [seen[int(i)].specie for i in order], seen.frac_coords[order] + 0.3
    )
    one, two = far([seen, with_charge(other, charge_of(seen))])
    assert one == pytest.approx(two, abs=ROUNDING)


def test_an_element_that_never_trained_is_infinitely_far(
    model: Model, known: Familiarity, labelled: Labelled
) -> None:
    less = known.model_copy(update={"environments": known.environments[:1]})
    found = unfamiliarity(less, Potential(model, head="high"), side(labelled, trained=True)[:1])
    assert found == [np.inf]


def test_every_held_out_label_has_its_distance_and_its_own_error(
    model: Model, known: Familiarity, labelled: Labelled
) -> None:
    held = [
        frame
        for frame, entry in zip(labelled.frames, labelled.dataset.entries, strict=True)
        if entry.split is not Split.TRAIN
    ]
    assert len(known.distances) == len(known.errors) == len(held) > 0
    group = [k for k, f in enumerate(held) if (f.fidelity, f.charge) == ("low", -1)]
    low = Potential(model, head="low")
    off = [low.predict([held[k].structure])[0][0] - held[k].energy for k in group]
    assert np.allclose(np.array(known.errors)[group], np.array(off) - np.median(off), atol=1e-4)
    assert Familiarity.model_validate_json(known.model_dump_json()) == known


@pytest.mark.parametrize(
    "changes",
    [{"strategy": "delta"}, {"charge_term": "per_charge"}, {"charge_term": "intensive"}],
    ids=["delta", "per charge", "intensive"],
)
def test_every_kind_of_network_knows_where_it_has_been(
    changes: dict[str, str],
    labelled: Labelled,
    tiny: TrainingSettings,
    defect_set: DefectSet,
    tmp_path: Path,
) -> None:
    host = HostLabels(structure=defect_set.host.primitive, energies={"low": -1.0, "high": -2.0})
    dataset = labelled.dataset.model_copy(update={"host": host})
    settings = TrainingSettings(**{**tiny.model_dump(), "max_epochs": 2, **changes})
    made = train(labelled.frames, dataset, settings=settings, seed=1, scratch=tmp_path, threads=1)
    found = familiarity(made, labelled.frames, dataset)
    seen = side(labelled, trained=True)[:2]
    potential = Potential(made, head="high")
    assert max(unfamiliarity(found, potential, seen)) < ROUNDING
    assert min(unfamiliarity(found, potential, [shaken(s, 0.5) for s in seen])) > ROUNDING


@pytest.fixture
def trust(model: Model, known: Familiarity, far, labelled: Labelled) -> Trust:
    """One that believes what is as familiar as a geometry that was shaken a little."""
    (seen,) = side(labelled, trained=True)[:1]
    found = Trust(model.model_copy(update={"familiarity": known}), error=1e6, device="cpu")
    found.limit = far([shaken(seen, 0.05)])[0]
    return found


def walk(structure: Structure, sizes: list[float]) -> Relaxed:
    """A relaxation that moves away from a geometry."""
    ways = [shaken(structure, size) for size in sizes]
    path = Trajectory(np.array([w.cart_coords for w in ways]), np.zeros(len(ways)))
    return Relaxed(ways[-1], 0.0, True, len(ways), trajectory=path)


def test_an_end_far_from_all_that_trained_is_doubted_with_the_numbers(
    trust: Trust, labelled: Labelled
) -> None:
    (seen,) = side(labelled, trained=True)[:1]
    near, off = walk(seen, [0.3, 0.0]), walk(seen, [0.0, 0.3])
    lost = replace(off, problem=Problem.EXPLODED)
    first, second, third = trust.doubts([near, off, lost])
    assert first is None
    assert second is not None
    assert f"beyond {trust.limit:.2f}" in second
    assert third is None, "it has no end, and another reason"


def test_a_relaxation_left_where_it_was_last_familiar(trust: Trust, labelled: Labelled) -> None:
    (seen,) = side(labelled, trained=True)[:1]
    end = walk(seen, [0.4, 0.0, 0.01, 0.2, 0.3])
    left = trust.left_at(end)
    assert left is not None
    assert np.allclose(left.cart_coords, shaken(seen, 0.2).cart_coords)
    assert charge_of(left) == charge_of(seen)
    assert trust.left_at(walk(seen, [0.3, 0.4])) is None, "it was never where the model has been"


def test_a_model_that_was_not_asked_what_it_has_seen_is_refused(model: Model) -> None:
    with pytest.raises(TrainingError, match=r"search\.trust"):
        Trust(model, error=0.3, device="cpu")


def test_held_out_labels_of_a_charge_that_never_trained_say_nothing(
    model: Model, labelled: Labelled, known: Familiarity
) -> None:
    less = model.model_copy(update={"charges": {**model.charges, "low": [0]}})
    found = familiarity(less, labelled.frames, labelled.dataset)
    assert 0 < len(found.errors) < len(known.errors)


def test_a_model_that_knows_nothing_is_believed_nowhere(
    model: Model, known: Familiarity, make_start: Callable[..., StartStructure]
) -> None:
    hopeless = known.model_copy(update={"errors": [99.0] * len(known.errors)})
    careful = Trust(model.model_copy(update={"familiarity": hopeless}), error=0.1, device="cpu")
    ends = relax([make_start(-1, 5).structure], [-1], model, "high", 0.05, 5, trajectories=True)
    assert careful.limit == 0.0
    assert all(careful.doubts(ends))
