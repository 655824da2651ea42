"""What the committee asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Structure

from defect_mf_flows.core.acquisition import PLACES, Query, between, choose, is_known, unlabelled
from defect_mf_flows.core.charge import charge_of, with_charge
from defect_mf_flows.schemas.defect import Defect
from defect_mf_flows.schemas.frame import Frame


@pytest.fixture
def shifted(vacancy: Defect) -> Any:
    def make(amount: float, charge: int = -1) -> Structure:
        structure = vacancy.supercell.copy()
        structure.translate_sites([0], [amount, 0, 0])
        return with_charge(structure, charge)

    return make


def query(structure: Structure, spread: float, energy: float = 0.0, label: str = "q") -> Query:
    return Query("v_Zn", charge_of(structure), "minimum", label, structure, energy, spread)


def test_the_largest_spread_comes_first_and_high_energies_count_less(shifted: Any) -> None:
    queries = [
        query(shifted(0.0), 0.1, label="a"),
        query(shifted(0.1), 0.3, label="b"),
        query(shifted(0.2), 0.5, energy=2.0, label="c"),
    ]
    assert [q.label for q in choose(queries, 3, width=0.5)] == ["b", "a", "c"]
    assert [q.label for q in choose(queries, 1, width=0.5)] == ["b"]
    assert [q.label for q in choose(queries, 1, width=50.0)] == ["c"]


def test_what_is_alike_is_asked_once_per_charge(shifted: Any) -> None:
    queries = [
        query(shifted(0.0), 0.5, label="a"),
        query(shifted(0.001), 0.4, label="copy"),
        query(shifted(0.0, charge=0), 0.3, label="other charge"),
    ]
    assert [q.label for q in choose(queries, 3, width=0.5)] == ["a", "other charge"]


def test_what_has_a_label_of_its_charge_is_not_asked_again(
    shifted: Any, make_frame: Callable[..., Frame]
) -> None:
    labels = [make_frame(charge=-1, structure=shifted(0.0))]
    queries = [
        query(shifted(0.001), 0.5, label="labelled"),
        query(shifted(0.0, charge=0), 0.4, label="other charge"),
        query(shifted(0.2), 0.3, label="new"),
    ]
    assert [q.label for q in unlabelled(queries, labels)] == ["other charge", "new"]
    assert unlabelled(queries, []) == queries
    structures = [label.structure for label in labels]
    assert [is_known(q.structure, structures) for q in queries] == [True, False, False]


def test_nothing_is_asked_where_nobody_disagrees_or_nothing_can_be_paid(shifted: Any) -> None:
    assert choose([query(shifted(0.0), 0.0)], 5, width=0.5) == []
    assert choose([query(shifted(0.0), 0.2)], 0, width=0.5) == []


def test_geometries_between_two_minima_take_the_short_way_and_keep_the_charge(
    shifted: Any,
) -> None:
    one, other = shifted(0.0), shifted(0.98)
    for place, image in zip(PLACES, between(one, other), strict=True):
        assert charge_of(image) == -1
        moved = np.linalg.norm(image.cart_coords - one.cart_coords, axis=1)
        # 0.98 of the cell is 0.02 the other way, shared with the crystal's mean shift.
        expected = 0.02 * one.lattice.a * place * (1 - 1 / len(one))
        assert moved[0] == pytest.approx(expected, abs=1e-3)
