from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Structure

from defect_mf_flows.core.references import (
    Label,
    composition_key,
    fit_references,
    host_labels,
)
from defect_mf_flows.errors import DatasetError
from defect_mf_flows.schemas.defect import Defect, DefectSet
from defect_mf_flows.schemas.frame import Frame

HEADS = ["low", "high"]


def geometry(base: Structure, number: int) -> Structure:
    moved = base.copy()
    moved.translate_sites([0], [0.01 * number, 0, 0], frac_coords=False)
    return moved


def fitted(labels: list[Label], heads: list[str] = HEADS) -> dict[tuple[str, int], float]:
    return {(r.head, r.charge): r.energy for r in fit_references(labels, heads=heads)}


@given(
    offset=st.floats(-200, 200),
    subset=st.sets(st.integers(0, 9), min_size=1),
    energies=st.lists(st.floats(-15, 15), min_size=10, max_size=10),
)
def test_a_constant_offset_between_fidelities_is_found_from_any_biased_subset(
    vacancy: Defect, offset: float, subset: set[int], energies: list[float]
) -> None:
    structures = [geometry(vacancy.supercell, n) for n in range(10)]
    low = [Label("low", 0, s, e) for s, e in zip(structures, energies, strict=True)]
    high = [Label("high", 0, structures[n], energies[n] + offset) for n in sorted(subset)]
    found = fitted([*low, *high])
    assert found["low", 0] == pytest.approx(np.mean(energies), abs=1e-9)
    assert found["high", 0] - found["low", 0] == pytest.approx(offset, abs=1e-9)


def test_charges_have_their_own_constants_and_no_share_in_each_other(vacancy: Defect) -> None:
    structures = [geometry(vacancy.supercell, n) for n in range(4)]
    labels = [Label("low", 0, s, -10.0) for s in structures]
    labels += [Label("low", -1, s, -20.0) for s in structures]
    # The same geometries, so that only the charge can tell the pairs apart.
    labels += [Label("high", 0, structures[0], -7.0), Label("high", -1, structures[0], -12.0)]
    assert fitted(labels) == {
        ("low", 0): -10.0,
        ("low", -1): -20.0,
        ("high", 0): -7.0,
        ("high", -1): -12.0,
    }


def test_cells_of_different_composition_have_different_constants(defect_set: DefectSet) -> None:
    labels = [
        Label("low", 0, defect_set.host.supercell, -30.0),
        Label("low", 0, defect_set.get("v_Zn").supercell, -10.0),
    ]
    found = {r.composition: r.energy for r in fit_references(labels, heads=["low"])}
    assert found == {"S4 Zn4": -30.0, "S4 Zn3": -10.0}


def test_high_labels_without_a_low_partner_fall_back_to_their_mean(vacancy: Defect) -> None:
    structures = [geometry(vacancy.supercell, n) for n in range(4)]
    labels = [Label("low", 0, structures[0], -10.0)]
    labels += [
        Label("high", 0, s, e) for s, e in zip(structures[1:], (-1.0, -2.0, -6.0), strict=True)
    ]
    assert fitted(labels)["high", 0] == pytest.approx(-3.0)


def test_the_number_of_labels_is_recorded(vacancy: Defect) -> None:
    labels = [Label("low", 0, geometry(vacancy.supercell, n), -1.0 * n) for n in range(3)]
    (reference,) = fit_references(labels, heads=HEADS)
    assert reference.n_labels == 3


def test_without_low_labels_there_is_nothing_to_refer_to(vacancy: Defect) -> None:
    with pytest.raises(DatasetError, match="'low'"):
        fit_references([Label("high", 0, vacancy.supercell, -1.0)], heads=HEADS)


def test_composition_keys_do_not_depend_on_the_order_of_atoms(vacancy: Defect) -> None:
    turned = Structure.from_sites(list(reversed(vacancy.supercell.sites)))
    assert composition_key(turned) == composition_key(vacancy.supercell) == "S4 Zn3"


def test_the_host_energy_is_per_formula_unit_whatever_the_cell(
    defect_set: DefectSet, make_frame: Callable[..., Frame]
) -> None:
    host = defect_set.host
    small = host.supercell.get_primitive_structure()
    for cell, units in ((small, 1), (host.supercell, 4)):
        frame = make_frame(-30.0 * units, structure=cell, defect=None, fidelity="high")
        labels = host_labels([frame], host.primitive)
        assert labels is not None
        assert labels.energies == {"high": pytest.approx(-30.0)}
        assert labels.formula == {"Zn": 1, "S": 1}
        assert len(labels.structure) == 2
    assert host_labels([], host.primitive) is None


def test_a_defect_or_a_charge_is_no_host(
    defect_set: DefectSet, make_frame: Callable[..., Frame]
) -> None:
    host = defect_set.host
    for frame in (make_frame(), make_frame(-1.0, 1, structure=host.supercell, defect=None)):
        with pytest.raises(DatasetError, match="not the neutral host"):
            host_labels([frame], host.primitive)
