"""Extended XYZ and ASE databases: charge and labels from the file, or a refusal."""

from __future__ import annotations

import ase.db
import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from defect_mf_flows.importing.plan import make_plan
from defect_mf_flows.importing.rows import State
from defect_mf_flows.importing.storing import carry_out
from defect_mf_flows.importing.walk import walk
from defect_mf_flows.learning.files import read_labelled
from defect_mf_flows.results import Records
from defect_mf_flows.results.export import export_extxyz


def cells():
    """A host, and a vacancy in two charge states with two steps each."""
    host = bulk("ZnS", "zincblende", a=5.41, cubic=True).repeat((2, 1, 1))
    vacancy = host.copy()
    del vacancy[[a.index for a in host if a.symbol == "Zn"][:1]]
    found = [(host, 0, 0.0)]
    for charge in (0, -2):
        for step in range(2):
            moved = vacancy.copy()
            moved.rattle(0.02, seed=step + 1)
            found.append((moved, charge, -float(step) + charge))
    images = []
    for atoms, charge, energy in found:
        atoms = atoms.copy()
        atoms.info["charge"] = charge
        forces = np.full((len(atoms), 3), 0.1 + energy)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
        images.append(atoms)
    return images


def plan_of(path):
    return make_plan(walk([path]), "pbe")


def write(path, images, key="total_charge"):
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".db":
        with ase.db.connect(path) as database:
            for atoms in images:
                database.write(atoms, key_value_pairs={key: atoms.info["charge"]})
    else:
        ase.io.write(path, images, format="extxyz")


@pytest.mark.parametrize("name", ["frames.extxyz", "frames.xyz.gz", "frames.db"])
def test_charges_and_defects_are_found(tmp_path, name):
    write(tmp_path / name, cells())
    plan = plan_of(tmp_path)
    found = [(row.defect, row.charge, row.n_frames, row.state) for row in plan.rows]
    assert found == [
        (None, 0, 1, State.NEW),
        ("v_Zn", 0, 2, State.NEW),
        ("v_Zn", -2, 2, State.NEW),
    ]


def test_an_image_without_a_charge_is_refused(tmp_path):
    images = cells()
    for atoms in images:
        del atoms.info["charge"]
    write(tmp_path / "frames.extxyz", images)
    plan = plan_of(tmp_path)
    assert {row.state for row in plan.rows} == {State.REFUSED}
    assert all("does not tell its charge" in row.notes[0] for row in plan.rows)


def test_a_database_s_own_column_is_not_taken_for_the_charge(tmp_path):
    """ASE answers 0.0 for a key named charge, whatever was written."""
    write(tmp_path / "frames.db", cells(), key="charge")
    plan = plan_of(tmp_path)
    assert {row.state for row in plan.rows} == {State.REFUSED}
    assert all("total_charge" in row.notes[0] for row in plan.rows)


def test_two_charges_in_one_image_are_refused(tmp_path):
    images = cells()
    images[0].info["total_charge"] = 1
    write(tmp_path / "frames.extxyz", images)
    assert any("contradict" in row.notes[0] for row in plan_of(tmp_path).of(State.REFUSED))


def test_a_file_that_breaks_off_keeps_what_came_before_and_says_so(tmp_path):
    write(tmp_path / "frames.extxyz", cells())
    text = (tmp_path / "frames.extxyz").read_text()
    (tmp_path / "frames.extxyz").write_text(text[: int(0.9 * len(text))])
    plan = plan_of(tmp_path)
    assert plan.n_frames == 3, "the group that the broken image belongs to is left out"
    (refused,) = plan.of(State.REFUSED)
    assert "not readable as extxyz after" in refused.notes[0]


def test_a_file_that_is_none_is_refused(tmp_path):
    (tmp_path / "frames.db").write_text("no database")
    (tmp_path / "OUTCAR").write_text("no OUTCAR\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "vasprun.xml").write_text("<no xml")
    plan = plan_of(tmp_path)
    assert len(plan.of(State.REFUSED)) == 3
    assert all(str(row.source.path) in row.notes[0] for row in plan.rows)


def test_a_method_without_forces_must_say_so(tmp_path, store):
    images = cells()
    for atoms in images:
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.calc.results["energy"])
    write(tmp_path / "bare" / "frames.extxyz", images)
    (row,) = plan_of(tmp_path / "bare").rows
    assert row.state is State.REFUSED
    assert "no forces" in row.notes[0]
    assert "no_forces = True" in row.notes[0]
    for atoms in images:
        atoms.info["no_forces"] = True
    write(tmp_path / "said" / "frames.extxyz", images)
    plan = plan_of(tmp_path / "said")
    assert {row.state for row in plan.rows} == {State.NEW}
    assert all("method without forces" in " ".join(row.notes) for row in plan.rows)
    carry_out(plan, store)
    frames = list(Records(store).frames())
    assert len(frames) == 5
    assert all(frame.forces is None for frame in frames)
    export_extxyz(Records(store), tmp_path / "out.xyz")
    assert all(item.frame.forces is None for item in read_labelled(tmp_path / "out.xyz"))
