"""The stand-in refuses inputs that would give wrong labels; without that it would test nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from pymatgen.io.vasp.inputs import Incar

from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.engines.vasp.runs import read_run


@pytest.fixture
def inputs(machine, vasp, make_start):
    """Folder with good inputs of a charged cell."""
    start = make_start(-1)
    made = vasp("HSE06").inputs(start).get_input_set(with_charge(start.structure, -1))
    made.write_input(machine / "run")
    return machine / "run"


def run(folder):
    command = [sys.executable, "-m", "defect_mf_flows.testing.vasp_standin"]
    return subprocess.run(command, cwd=folder, env=os.environ, capture_output=True, text=True)


def test_good_inputs_are_computed_with_the_charge_of_nelect(inputs):
    assert run(inputs).returncode == 0
    one = read_run(inputs)
    assert one.charge == -1
    incar = Incar.from_file(inputs / "INCAR")
    incar.update({"NELECT": 60, "NUPDOWN": 0})
    incar.write_file(inputs / "INCAR")
    assert run(inputs).returncode == 0
    other = read_run(inputs)
    assert other.charge == 0
    assert abs(other.steps[0].energy - one.steps[0].energy) > 1, "an electron is worth eV"


@pytest.mark.parametrize(
    ("tag", "value", "words"),
    [
        ("GGA", "PS", "not PE"),
        ("NELECT", None, "no NELECT"),
        ("NELECT", 60.5, "fractional"),
        ("NELECT", 90, "NELECT and POTCARs disagree"),
        ("NUPDOWN", 0, "NUPDOWN does not fit"),
        ("HFSCREEN", 0.208, "HFSCREEN 0.2"),
        ("ISIF", 3, "the cell is fixed"),
        ("ALGO", "Fast", "another ALGO"),
    ],
)
def test_inputs_that_are_wrong_for_a_charged_cell_are_refused(inputs, tag, value, words):
    incar = Incar.from_file(inputs / "INCAR")
    if value is None:
        del incar[tag]
    else:
        incar[tag] = value
    incar.write_file(inputs / "INCAR")
    answer = run(inputs)
    assert answer.returncode == 1
    assert words in answer.stderr
    assert not (inputs / "vasprun.xml").exists()


def test_potentials_in_another_order_than_the_atoms_are_refused(inputs):
    text = (inputs / "POTCAR").read_text()
    parts = [part + "End of Dataset\n" for part in text.split("End of Dataset\n")[:2]]
    (inputs / "POTCAR").write_text(parts[1] + parts[0])
    answer = run(inputs)
    assert answer.returncode == 1
    assert "does not fit POSCAR" in answer.stderr
