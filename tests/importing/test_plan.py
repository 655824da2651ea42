"""What an import of real and of broken files would do, and what it says."""

from __future__ import annotations

import gzip
import shutil

import numpy as np
import pytest

from defect_mf_flows.importing.plan import host_from_file, make_plan
from defect_mf_flows.importing.rows import State
from defect_mf_flows.importing.table import messages
from defect_mf_flows.importing.walk import walk
from tests.importing.conftest import copy_of, energies_moved, outcar, rewrite


def plan_of(*paths, **options):
    return make_plan(walk(list(paths)), "hse06", **options)


def by_label(plan):
    return {row.label.removesuffix("/vasp_std"): row for row in plan.rows}


def test_every_real_calculation_is_recognised(real):
    plan = plan_of(real)
    rows = by_label(plan)
    assert len(rows) == 18
    assert plan.n_frames == 124
    assert {row.state for row in plan.rows} == {State.NEW}
    assert (rows["bulk"].defect, rows["bulk"].charge) == (None, 0)
    names = {"vac_1_Zn": "v_Zn", "vac_2_S": "v_S", "sub_1_Al_on_Zn": "Al_Zn", "inter": "Al_i"}
    for label, row in rows.items():
        if label == "bulk":
            continue
        stem, _, charge = label.rpartition("_")
        assert row.charge == int(charge), label
        assert row.defect == names[stem if stem in names else "inter"], label
        assert row.notes == [], label
    defects = [row for row in plan.rows if row.defect is not None]
    assert len(defects) == 17
    assert sum(row.charge != 0 for row in defects) == 14
    assert rows["bulk"].notes == ["NKRED 2x2x2 instead of 1x1x1"], "doped would warn, too"


def test_five_calculations_are_recognised_anywhere(tree, facts):
    plan = plan_of(tree)
    found = {label: (row.defect, row.charge, row.n_frames) for label, row in by_label(plan).items()}
    names = {"vac_1_Zn": "v_Zn", "vac_2_S": "v_S", "sub_1_Al_on_Zn": "Al_Zn"}
    expected = {"bulk": (None, 0, facts.steps["bulk"])}
    for label, steps in facts.steps.items():
        stem, _, charge = label.rpartition("_")
        if stem:
            expected[label] = (names[stem], int(charge), steps)
    assert found == expected
    assert {row.kpoints for row in plan.rows} == {facts.grid}


def test_folders_that_are_named_one_by_one_keep_their_names(tree):
    vacancies = [tree / "vac_1_Zn_-2", tree / "vac_1_Zn_0"]
    labels = [row.label for row in plan_of(tree / "bulk", *vacancies).rows]
    assert labels[0].split("/")[0] == "bulk"
    assert labels[1:] == ["vac_1_Zn_-2/vasp_std", "vac_1_Zn_0/vasp_std"]
    places = [vacancy / "vasp_std" for vacancy in vacancies]
    assert [row.label for row in plan_of(*places).rows] == labels[1:], "whose own names repeat"
    files = [outcar(tree, vacancy.name) for vacancy in vacancies]
    assert [row.label for row in plan_of(*files).rows] == [
        f"{label}/OUTCAR.gz" for label in labels[1:]
    ]
    (alone,) = plan_of(vacancies[0]).rows
    assert alone.label == "vasp_std"


def test_sites_and_names_are_doped_s(source):
    from doped.analysis import defect_and_info_from_structures

    plan = plan_of(source)
    host = plan.hosts[0].structure
    for row in plan.rows:
        if row.defect is None or not row.label.startswith(("vac", "sub")):
            continue
        _, _, info = defect_and_info_from_structures(host, row.structure)
        found = np.array(row.site) - info["bulk_site"].frac_coords
        assert np.allclose(found - np.round(found), 0, atol=1e-3), row.label


def test_a_file_that_is_cut_off_gives_its_complete_steps_and_says_so(tree, facts):
    path = outcar(tree, "vac_1_Zn_0")
    text = gzip.decompress(path.read_bytes()).decode()
    path.write_bytes(gzip.compress(text[: len(text) // 2].encode()))
    row = by_label(plan_of(tree))["vac_1_Zn_0"]
    assert row.state is State.NEW
    assert 0 < row.n_frames < facts.steps["vac_1_Zn_0"]
    assert any("cut off after" in note for note in row.notes)


def test_a_gzip_that_is_cut_off_says_so(tree, facts):
    path = outcar(tree, "vac_1_Zn_0")
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) * 6 // 10])
    row = by_label(plan_of(tree))["vac_1_Zn_0"]
    assert 0 < row.n_frames < facts.steps["vac_1_Zn_0"]
    assert any("cut off after" in note and "EOFError" in note for note in row.notes)


def test_a_file_without_a_complete_step_is_refused(tree):
    path = outcar(tree, "vac_1_Zn_0")
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 25])
    row = by_label(plan_of(tree))["vac_1_Zn_0"]
    assert row.state is State.REFUSED
    assert "no complete ionic step" in row.notes[0]
    assert str(path) in row.notes[0]


def test_a_wrong_charge_in_the_folder_s_name_is_flagged_and_the_file_counts(tree):
    (tree / "vac_1_Zn_-2").rename(tree / "vac_1_Zn_-1")
    row = by_label(plan_of(tree))["vac_1_Zn_-1"]
    assert (row.state, row.charge) == (State.NEW, -2)
    assert any("says charge -1" in n and "say -2" in n for n in row.notes)


def test_a_wrong_defect_in_the_folder_s_name_is_flagged(tree):
    (tree / "vac_1_Zn_-2").rename(tree / "v_S_-2")
    row = by_label(plan_of(tree))["v_S_-2"]
    assert row.defect == "v_Zn"
    assert any("says v_S" in note for note in row.notes)


def test_a_force_that_is_no_number_leaves_its_step_out(tree, facts):
    path = outcar(tree, "vac_1_Zn_0")

    def broken(text: str) -> str:
        head, table, tail = text.rpartition("TOTAL-FORCE (eV/Angst)")
        lines = tail.split("\n")
        lines[4] = lines[4][: -len(lines[4].split()[-1])] + "NaN"
        return head + table + "\n".join(lines)

    rewrite(path, broken)
    row = by_label(plan_of(tree))["vac_1_Zn_0"]
    last = facts.steps["vac_1_Zn_0"] - 1
    assert (row.n_frames, row.left_out) == (last, 1)
    assert f"step {last}: force of atom 3 is not a finite number; left out" in row.notes


def test_stars_and_an_unconverged_scf_leave_their_steps_out(tree, facts):
    path = outcar(tree, "vac_1_Zn_0")

    def broken(text: str) -> str:
        text = text.replace("EDIFF is reached", "EDIFF was not reached", 1)
        where = text.rindex("energy(sigma->0) =")
        end = text.index("\n", where)
        return text[:where] + "energy(sigma->0) =   **************" + text[end:]

    rewrite(path, broken)
    row = by_label(plan_of(tree))["vac_1_Zn_0"]
    last = facts.steps["vac_1_Zn_0"] - 1
    assert (row.n_frames, row.left_out) == (last - 1, 2)
    assert any(note.startswith("step 0: the SCF did not converge") for note in row.notes)
    assert any(note.startswith(f"step {last}: energy is not a finite") for note in row.notes)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("ENCUT  =  500.0 eV", "ENCUT  =  400.0 eV", "ENCUT 400 instead of 500"),
        ("AEXX    =    0.2500", "AEXX    =    0.3100", "AEXX 0.31 instead of 0.25"),
        ("LHFCALC =     T", "LHFCALC =     F", "LHFCALC False instead of True"),
        ("LEXCH   =     8", "LEXCH   =    14", "GGA PS instead of PE"),
        ("TITEL  = {potcar}", "TITEL  = PAW_PBE S_GW 19Mar2012", "POTCAR S"),
    ],
)
def test_other_settings_are_refused_and_named(tree, facts, old, new, said):
    def changed(text: str) -> str:
        return text.replace(old.format(potcar=facts.potcar), new)

    rewrite(outcar(tree, "vac_1_Zn_-2"), changed)
    plan = plan_of(tree)
    row = by_label(plan)["vac_1_Zn_-2"]
    assert row.state is State.REFUSED
    assert said in row.notes[0]
    assert "another --fidelity" in row.notes[0]
    assert len(plan.of(State.NEW)) == 4
    assert any(said in line for line in messages(plan))


def test_another_grid_is_refused_and_named(tree, facts):
    def changed(text: str) -> str:
        line = "generate k-points for:    {}    {}    {}"
        grids = (facts.grid.split("x"), facts.other_grid.split("x"))
        return text.replace(*(line.format(*grid) for grid in grids))

    rewrite(outcar(tree, "vac_1_Zn_-2"), changed)
    row = by_label(plan_of(tree))["vac_1_Zn_-2"]
    assert row.state is State.REFUSED
    assert f"k-points {facts.other_grid} instead of {facts.grid}" in row.notes[0]


def test_copies_are_counted_once(tree, facts):
    copy_of(tree, "vac_1_Zn_-2", "elsewhere")
    path = copy_of(tree, "vac_2_S_2", "again")
    rewrite(path, lambda text: text.replace("executed on", "computed on"))
    plan = plan_of(tree)
    assert plan.n_frames == facts.frames
    rows = by_label(plan)
    assert {rows[n].state for n in ("vac_1_Zn_-2", "vac_2_S_2")} == {State.DUPLICATE}
    assert "the same frames as elsewhere" in rows["vac_1_Zn_-2"].notes[0]
    copy_of(tree, "vac_1_Zn_0", "other")
    rewrite(outcar(tree, "other"), energies_moved)
    assert by_label(plan_of(tree))["other"].state is State.NEW


def test_without_a_host_nothing_is_guessed(tree, source):
    shutil.rmtree(tree / "bulk")
    shutil.rmtree(tree / "vac_2_S_2")
    shutil.rmtree(tree / "sub_1_Al_on_Zn_1")
    plan = plan_of(tree)
    assert {row.state for row in plan.rows} == {State.REFUSED}
    assert all("--bulk" in row.notes[0] for row in plan.rows)
    host = host_from_file(next((source / "bulk").rglob("OUTCAR*")))
    assert {row.defect for row in plan_of(tree, bulk=host).rows} == {"v_Zn"}


def test_no_defect_is_taken_for_the_host(tree):
    """Vacancies and substitutions without their bulk: none of them is pristine."""
    shutil.rmtree(tree / "bulk")
    plan = plan_of(tree)
    assert {row.state for row in plan.rows} == {State.REFUSED}
