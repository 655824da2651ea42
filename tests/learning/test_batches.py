"""Frames on their way into MACE: charge and head must arrive."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from defect_mf_flows.core.charge import frame_to_atoms, to_atoms, with_charge
from defect_mf_flows.errors import ChargeError, FidelityError
from defect_mf_flows.learning.batches import collate, epoch_order, to_atomic_data
from defect_mf_flows.learning.network import charge_embedding
from defect_mf_flows.schemas.defect import Defect
from defect_mf_flows.schemas.frame import Frame

HEADS = ["low", "middle", "high"]
OPTIONS = {"heads": HEADS, "atomic_numbers": [16, 30], "cutoff": 3.0}


@settings(max_examples=15)
@given(items=st.lists(st.tuples(st.integers(-4, 4), st.sampled_from(HEADS)), min_size=1))
def test_charge_and_head_of_every_structure_arrive_in_the_batch(
    vacancy: Defect, items: list[tuple[int, str]]
) -> None:
    batch = collate(
        [
            to_atomic_data(to_atoms(with_charge(vacancy.supercell, q)), head=head, **OPTIONS)
            for q, head in items
        ]
    )
    assert [int(q) for q in batch.total_charge] == [q for q, _ in items]
    assert [HEADS[int(h)] for h in batch.head] == [head for _, head in items]


def test_labels_and_weight_arrive_in_the_batch(make_frame: Callable[..., Frame]) -> None:
    frame = make_frame(-12.5, -1, forces=[[0.1 * i, 0.0, -0.2] for i in range(7)])
    item = to_atomic_data(frame_to_atoms(frame), head="high", weight=3.0, **OPTIONS)
    assert float(item.energy) == pytest.approx(-12.5)
    assert np.allclose(item.forces, frame.forces)
    assert float(item.weight) == 3.0
    assert float(item.energy_weight) == float(item.forces_weight) == 1.0


@pytest.mark.parametrize("head", ["HIGH", "pbe", ""])
def test_an_unknown_head_is_refused_instead_of_becoming_the_last(
    vacancy: Defect, head: str
) -> None:
    with pytest.raises(FidelityError, match="the model has"):
        to_atomic_data(to_atoms(vacancy.supercell), head=head, **OPTIONS)


@pytest.mark.parametrize("lost", ["charge", "total_charge"])
def test_atoms_that_lost_a_charge_are_refused_instead_of_becoming_neutral(
    vacancy: Defect, lost: str
) -> None:
    atoms = to_atoms(with_charge(vacancy.supercell, -1))
    del atoms.info[lost]
    with pytest.raises(ChargeError):
        to_atomic_data(atoms, head="low", **OPTIONS)


@given(charges=st.lists(st.integers(-6, 6), min_size=1))
def test_every_charge_has_a_class_of_its_own_in_the_embedding(charges: list[int]) -> None:
    (spec,) = charge_embedding(charges, width=4).values()
    classes = {charge + spec["offset"] for charge in charges}
    assert min(classes) == 0
    assert max(classes) == spec["num_classes"] - 1
    assert len(classes) == len(set(charges))


# -- the order of an epoch -------------------------------------------------------------


@given(
    of_high=st.lists(st.booleans(), min_size=1, max_size=60),
    share=st.one_of(st.none(), st.floats(0.01, 0.99)),
    seed=st.integers(0, 2**31),
)
def test_an_epoch_holds_the_asked_share_of_the_highest_fidelity(
    of_high: list[bool], share: float | None, seed: int
) -> None:
    order = epoch_order(np.random.default_rng(seed), of_high=of_high, share=share)
    counts = np.bincount(order, minlength=len(of_high))
    high, low = counts[np.array(of_high)], counts[~np.array(of_high)]
    assert len(order) == len(of_high)
    assert low.max(initial=0) <= 1
    wanted = 0 if share is None or not len(low) else round(share * len(of_high))
    assert high.sum() == (max(wanted, len(high)) if len(high) else 0)
    if len(high):
        assert high.max() - high.min() <= 1


def test_epochs_leave_other_labels_out_in_turn() -> None:
    of_high = [True] * 2 + [False] * 18
    orders = [
        epoch_order(np.random.default_rng([1, epoch]), of_high=of_high, share=0.5)
        for epoch in range(12)
    ]
    assert all((order < 2).sum() == 10 for order in orders)
    assert set(np.concatenate(orders)) == set(range(20))
