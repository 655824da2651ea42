from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monty.serialization import dumpfn, loadfn

from defect_mf_flows.core.levels import Level, State, thermodynamics, transition_levels
from defect_mf_flows.schemas.calculation import BandEdges
from defect_mf_flows.schemas.defect import DefectSet
from defect_mf_flows.schemas.levels import Correction, CorrectionMethod

EDGES = BandEdges(vbm=0.5, cbm=4.5)


def levels(
    defect_set: DefectSet, energies: dict[int, float], edges: BandEdges = EDGES
) -> dict[tuple[int, int], Level]:
    found = transition_levels(
        defect_set.get("v_Zn"),
        defect_set.host,
        energies=energies,
        host_energy=-130.0,
        edges=edges,
    )
    assert all(level.defect == "v_Zn" for level in found)
    return {(level.from_charge, level.to_charge): level for level in found}


def test_levels_of_energies_linear_in_charge_are_their_differences(defect_set: DefectSet) -> None:
    """E(q) + q (VBM + E_F) crosses E(q-1) + (q-1)(VBM + E_F) at E(q-1) - E(q) - VBM."""
    found = levels(defect_set, {1: -100.0, 0: -98.5, -1: -96.0})
    assert found[1, 0].energy == pytest.approx(1.5 - 0.5)
    assert found[0, -1].energy == pytest.approx(2.5 - 0.5)
    assert all(level.thermodynamic for level in found.values())
    assert len(found) == 2


def test_levels_come_the_more_positive_pairs_first(defect_set: DefectSet) -> None:
    assert list(levels(defect_set, {-1: -96.0, 1: -100.0, 0: -98.5})) == [(1, 0), (0, -1)]


def test_with_negative_u_only_the_double_step_is_thermodynamic(defect_set: DefectSet) -> None:
    """The neutral state is nowhere the lowest: +1 goes to -1 at the mean of the two steps."""
    found = levels(defect_set, {1: -100.0, 0: -97.0, -1: -97.0})
    assert found[1, 0].energy == pytest.approx(3.0 - 0.5)
    assert found[0, -1].energy == pytest.approx(0.0 - 0.5)
    assert found[1, -1].energy == pytest.approx((2.5 - 0.5) / 2)
    assert {pair for pair, level in found.items() if level.thermodynamic} == {(1, -1)}


def test_a_gap_between_charges_divides_by_its_width(defect_set: DefectSet) -> None:
    found = levels(defect_set, {2: -100.0, 0: -96.0})
    assert found[2, 0].energy == pytest.approx(4.0 / 2 - 0.5)


def test_raising_the_valence_band_lowers_every_level(defect_set: DefectSet) -> None:
    energies = {1: -100.0, 0: -98.5, -1: -96.0}
    before = levels(defect_set, energies)
    after = levels(defect_set, energies, BandEdges(vbm=0.8, cbm=4.8))
    for pair, level in before.items():
        assert after[pair].energy == pytest.approx(level.energy - 0.3)


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (CorrectionMethod.EFNV, "kumagai_charge_correction"),
        (CorrectionMethod.FNV, "freysoldt_charge_correction"),
        (CorrectionMethod.POINT_CHARGE, "point_charge_correction"),
    ],
)
def test_corrections_reach_doped_under_its_own_names(
    defect_set: DefectSet, tmp_path: Path, method: CorrectionMethod, name: str
) -> None:
    correction = Correction(
        method=method, defect="v_Zn", charge=-1, energy=0.21, point_charge=0.3, alignment=-0.09,
        dielectric=[[9, 0, 0], [0, 9, 0], [0, 0, 7]], source=["verified -1", "host"],
    )  # fmt: skip
    cell = defect_set.get("v_Zn").supercell
    made = thermodynamics(
        [defect_set.get("v_Zn")],
        defect_set.host,
        states={("v_Zn", 0): State(-98.5, cell), ("v_Zn", -1): State(-96.5, cell, correction)},
        host_energy=-130.0,
        edges=EDGES,
    )
    dumpfn(made, tmp_path / "thermo.json")
    read = loadfn(tmp_path / "thermo.json")
    entries = {entry.charge_state: entry for entry in read.defect_entries.values()}
    assert entries[0].corrections == {}
    assert entries[-1].corrections == {name: 0.21}
    assert entries[-1].corrected_energy == pytest.approx(-96.5 + 0.21)
    told = entries[-1].corrections_metadata[name]
    assert (told["method"], told["point_charge"], told["alignment"]) == (str(method), 0.3, -0.09)
    assert told["source"] == ["verified -1", "host"]
    ((levels,),) = [list(of.items()) for of in read.transition_level_map.values()]
    assert levels[0] == pytest.approx(2.0 + 0.21 - EDGES.vbm)


def test_a_single_charge_has_no_level(defect_set: DefectSet) -> None:
    assert levels(defect_set, {0: -98.5}) == {}


@settings(max_examples=15)
@given(steps=st.lists(st.floats(0.6, 4.4), min_size=3, max_size=3))
def test_levels_between_neighbouring_charges_follow_the_closed_form(
    defect_set: DefectSet, steps: list[float]
) -> None:
    energies = {1: -100.0}
    for charge, step in zip((0, -1, -2), steps, strict=True):
        energies[charge] = energies[charge + 1] + step
    found = levels(defect_set, energies)
    for charge, step in zip((0, -1, -2), steps, strict=True):
        assert found[charge + 1, charge].energy == pytest.approx(step - 0.5, abs=1e-6)
    ordered = all(b > a + 1e-3 for a, b in itertools.pairwise(steps))
    if ordered:
        assert all(level.thermodynamic for level in found.values())


def test_the_gap_is_the_difference_of_the_band_edges() -> None:
    assert EDGES.gap == 4.0
