"""What an import puts into a store, and that it changes nothing there."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from defect_mf_flows.errors import ImportingError
from defect_mf_flows.importing.plan import make_plan
from defect_mf_flows.importing.rows import State
from defect_mf_flows.importing.storing import StoredImports, carry_out
from defect_mf_flows.importing.walk import walk
from defect_mf_flows.results import Records
from defect_mf_flows.results.export import export_extxyz
from defect_mf_flows.schemas.calculation import Calculation
from tests.importing.conftest import outcar, rewrite


def run(store, *paths, fidelity="hse06"):
    plan = make_plan(walk(list(paths)), fidelity, known=StoredImports(store, fidelity))
    return plan, carry_out(plan, store)


def documents(store):
    return sorted(json.dumps(d, default=str, sort_keys=True) for d in store.docs_store.query())


def test_every_step_becomes_a_frame_with_its_lineage(tree, store, facts):
    _, done = run(store, tree)
    assert (done.calculations, done.frames, done.messages) == (5, facts.frames, [])
    records = Records(store)
    frames = list(records.frames(defect="v_Zn", charge=-2, fidelity="hse06"))
    assert [f.lineage.step for f in frames] == list(range(facts.steps["vac_1_Zn_-2"]))
    assert {f.lineage.start for f in frames} == {"vac_1_Zn_-2/vasp_std"}
    assert {(f.charge, f.spin, f.structure._charge) for f in frames} == {(-2, 0, -2)}
    assert frames[-1].energy == pytest.approx(facts.vacancy_energy)
    assert all(f.lineage.calculation in set(records.uuids(Calculation)) for f in frames)


def test_what_levels_need_is_kept(tree, store, facts):
    run(store, tree)
    host = next(Records(store).documents(Calculation, defect=None))
    assert host.band_edges.vbm == pytest.approx(facts.vbm, abs=1e-4)
    assert host.band_edges.gap == pytest.approx(facts.gap, abs=1e-4)
    assert host.final_energy == pytest.approx(facts.host_energy)
    vacancy = next(Records(store).documents(Calculation, defect="v_Zn", charge=-2))
    assert vacancy.imported.path == str(outcar(tree, "vac_1_Zn_-2"))
    away = np.array(vacancy.imported.site) - facts.vacancy_site
    assert np.allclose(away - np.round(away), 0, atol=1e-5)
    assert (vacancy.converged, vacancy.imported.magnetization) == (True, 0.0)
    assert vacancy.imported.method["ENCUT"] == 500


def test_imported_calculations_are_found_by_every_field(tree, store):
    run(store, tree)
    records = Records(store)
    relaxed, static = (len(records.calculations(kind=kind)) for kind in ("relax", "static"))
    assert (relaxed > 0, relaxed + static) == (True, 5)


def test_a_second_import_adds_and_changes_nothing(tree, store):
    run(store, tree)
    before = documents(store)
    plan, done = run(store, tree)
    assert {row.state for row in plan.rows} == {State.STORED}
    assert (done.calculations, done.frames) == (0, 0)
    assert documents(store) == before


def test_the_store_s_settings_and_host_count_for_later_imports(tree, store, facts):
    late = tree.parent / "late"
    late.mkdir()
    shutil.move(tree / "vac_1_Zn_-2", late / "vac_1_Zn_-2")
    run(store, tree)
    plan, done = run(store, late)
    assert (plan.rows[0].defect, plan.rows[0].charge) == ("v_Zn", -2)
    assert done.frames == facts.steps["vac_1_Zn_-2"]
    other = tree.parent / "other"
    shutil.copytree(late, other)
    rewrite(outcar(other, "vac_1_Zn_-2"), lambda t: t.replace("=  500.0 eV", "=  400.0 eV"))
    plan, done = run(store, other)
    assert plan.rows[0].state is State.REFUSED, "alone, its settings would be the commonest"
    assert "ENCUT 400 instead of 500" in plan.rows[0].notes[0]
    assert done.frames == 0


def test_a_run_that_went_on_adds_only_its_new_steps(tree, store, facts):
    import gzip

    path = outcar(tree, "vac_1_Zn_0")
    whole = path.read_bytes()
    text = gzip.decompress(whole).decode()
    path.write_bytes(gzip.compress(text[: len(text) // 2].encode()))
    run(store, tree)
    half = Records(store).count(Calculation), len(list(Records(store).frames(charge=0)))
    assert next(Records(store).documents(Calculation, defect="v_Zn", charge=0)).converged is False
    path.write_bytes(whole)
    _, more = run(store, tree)
    assert more.calculations == 1
    frames = list(Records(store).frames(charge=0, defect="v_Zn"))
    assert sorted(f.lineage.step for f in frames) == list(range(facts.steps["vac_1_Zn_0"])), (
        "each counted once"
    )
    assert half[1] + more.frames == len(frames) + 1  # and the host's


def test_a_file_that_changes_between_reading_and_storing_is_not_stored(tree, store):
    plan = make_plan(walk([tree]), "hse06")
    rewrite(outcar(tree, "vac_1_Zn_-2"), lambda t: t + "\n more")
    done = carry_out(plan, store)
    assert done.calculations == 4
    assert any("changed while it was being imported" in m for m in done.messages)


def test_frames_of_another_store_come_in_as_extended_xyz(tree, store, tmp_path, facts):
    from jobflow import JobStore
    from maggma.stores import MemoryStore

    run(store, tree)
    export_extxyz(Records(store), tmp_path / "frames.xyz")
    second = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    second.connect()
    plan, done = run(second, tmp_path / "frames.xyz")
    assert (done.calculations, done.frames) == (5, facts.frames)
    assert all("no settings" in " ".join(row.notes) for row in plan.rows)
    one, other = (
        {(f.lineage.defect, f.charge, f.lineage.step, f.lineage.start, f.energy) for f in found}
        for found in (Records(store).frames(), Records(second).frames())
    )
    assert one == other
    plan, done = run(second, tmp_path / "frames.xyz", fidelity="pbe")
    assert {row.state for row in plan.rows} == {State.REFUSED}
    assert "the file says fidelity 'hse06'" in plan.rows[0].notes[0]


def test_a_path_that_is_wrong_is_named(tmp_path):
    with pytest.raises(ImportingError, match="nowhere: no such file"):
        list(walk([tmp_path / "nowhere"]))
