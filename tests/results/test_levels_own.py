"""Levels from imported files that anybody has: the arithmetic, not the material."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from jobflow import JobStore
from maggma.stores import MemoryStore

from defect_mf_flows.errors import ResultsError
from defect_mf_flows.importing.plan import make_plan
from defect_mf_flows.importing.storing import StoredImports, carry_out
from defect_mf_flows.importing.walk import walk
from defect_mf_flows.results import Records
from defect_mf_flows.results.levels import LevelOptions, stored_levels
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.schemas.levels import Correction, CorrectionMethod
from tests.importing.conftest import FACTS, OWN

OPTIONS = LevelOptions(dielectric=[8.9])


def imported(folder) -> JobStore:
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    store.connect()
    known = StoredImports(store, "hse06")
    carry_out(make_plan(walk([folder]), "hse06", known=known), store)
    return store


@pytest.fixture(scope="module")
def store() -> JobStore:
    return imported(OWN)


@pytest.fixture(scope="module")
def report(store):
    return stored_levels(Records(store), OPTIONS)


def test_a_level_is_where_two_corrected_charge_states_cross(store, report):
    energies = {
        c.charge: c.final_energy for c in Records(store).documents(Calculation, defect="v_Zn")
    }
    corrections = {s.charge: s.correction.energy for s in report.states if s.defect == "v_Zn"}
    (level,) = (lv for lv in report.levels if lv.defect == "v_Zn")
    assert (level.from_charge, level.to_charge) == (0, -2)
    corrected = energies[-2] + corrections[-2] - energies[0]
    assert level.energy == pytest.approx(corrected / 2 - FACTS["own"].vbm, abs=1e-6)
    assert report.band_edges.gap == pytest.approx(FACTS["own"].gap, abs=1e-4)


def test_corrections_are_of_efnv_and_computed_once(store, report):
    states = {(s.defect, s.charge): s for s in report.states}
    for (defect, charge), state in states.items():
        if charge:
            assert state.correction.method is CorrectionMethod.EFNV, defect
            assert state.correction.alignment != 0.0
    images = {key: s.correction.point_charge for key, s in states.items() if key[1]}
    assert images["v_Zn", -2] == pytest.approx(images["v_S", 2])
    assert images["v_Zn", -2] == pytest.approx(4 * images["Al_Zn", 1])
    before = Records(store).count(Correction)
    assert stored_levels(Records(store), OPTIONS) == report
    assert Records(store).count(Correction) == before


def test_chemical_potentials_move_formation_energies_and_no_level(store, report):
    moved = stored_levels(Records(store), LevelOptions(dielectric=[8.9], mu={"Zn": -1.5}))
    before = {s.label: s.formation for s in report.states}
    change = {s.defect: s.formation - before[s.label] for s in moved.states}
    assert change == {k: pytest.approx(v) for k, v in (("v_Zn", -1.5), ("Al_Zn", -1.5), ("v_S", 0))}
    assert np.allclose([lv.energy for lv in moved.levels], [lv.energy for lv in report.levels])


def test_a_missing_outcar_is_a_refusal_that_says_what_to_do(tmp_path):
    for name in ("bulk", "vac_1_Zn_-2"):
        shutil.copytree(OWN / name, tmp_path / "tree" / name)
    store = imported(tmp_path / "tree")
    (tmp_path / "tree" / "vac_1_Zn_-2" / "vasp_std" / "OUTCAR.gz").unlink()
    with pytest.raises(ResultsError, match="bring them back"):
        stored_levels(Records(store), OPTIONS)
