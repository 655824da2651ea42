"""Imported calculations under a fidelity's name that are not of that fidelity."""

from __future__ import annotations

from pathlib import Path

import pytest

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.engines.contradictions import contradictions
from defect_mf_flows.importing.plan import make_plan
from defect_mf_flows.importing.walk import walk
from defect_mf_flows.schemas.calculation import (
    Calculation,
    CalculationKind,
    EngineRecord,
    ImportRecord,
)

DATA = Path(__file__).parents[1] / "importing" / "data"
ASKED = {
    "gpaw": {"functional": "PBE", "encut": 200, "gamma_only": True},
    "cp2k": {"functional": "PBE", "cutoff": 200},
    "vasp": {"functional": "PBE", "encut": 300, "gamma_only": True},
    "xtb": {"method": "GFN1-xTB"},
    "ase": {"calculator": "ase.calculators.emt.EMT", "charge_info": "charge"},
}


def asked(engine, **changes):
    return FidelitySettings(engine=engine, settings={**ASKED[engine], **changes})


def imported(program, method, kpoints="1x1x1"):
    engine = EngineRecord(name=program, version="1", settings={})
    calculation = Calculation(
        job_uuid="u", kind=CalculationKind.RELAX, fidelity="pbe", defect="v_Si", charge=2,
        spin=None, start="s", n_atoms=7, converged=True, failure=None, n_calls=0, seconds=0.0,
        engine=engine, final_energy=-1.0, final_structure=None, n_frames=0, frames=[],
    )  # fmt: skip
    return calculation, ImportRecord(path="f", digest="d", method=method, kpoints=kpoints)


def real(engine):
    """What the real output of a program tells of its method."""
    rows = make_plan(walk([DATA / engine / "v_Si_2"]), "pbe", bulk=None).rows
    (row,) = [row for row in rows if row.charge == 2]
    return imported(row.program, row.method, row.kpoints)


@pytest.mark.parametrize("engine", ["gpaw", "cp2k"])
def test_the_method_of_real_output_agrees_with_the_same_settings(engine):
    assert contradictions(*real(engine), asked(engine)) == []


@pytest.mark.parametrize(
    ("engine", "field", "value"),
    [("gpaw", "encut", 250), ("gpaw", "functional", "HSE06"), ("cp2k", "cutoff", 300)],
)
def test_another_cutoff_or_functional_keeps_it_out(engine, field, value):
    (why,) = contradictions(*real(engine), asked(engine, **{field: value}))
    assert why.startswith(f"{field} is ")
    assert str(value) in why


def test_another_grid_keeps_it_out():
    method = {"xc": "XC(name='PBE')", "mode": "PW(ecut=200.0)"}
    (why,) = contradictions(*imported("gpaw", method, "2x2x2"), asked("gpaw"))
    assert why == "k-point grid is 2x2x2, the campaign asks for 1x1x1"
    settings = asked("gpaw", gamma_only=False, kpoints=[2, 2, 2])
    assert contradictions(*imported("gpaw", method, "2x2x2"), settings) == []


def test_a_hybrid_is_not_taken_for_its_semilocal_start():
    hybrid = {"xc": "XC(name='HYB_GGA_XC_HSE06')", "mode": "PW(ecut=200.0)"}
    assert contradictions(*imported("gpaw", hybrid), asked("gpaw", functional="HSE06")) == []
    assert contradictions(*imported("gpaw", hybrid), asked("gpaw"))


@pytest.mark.parametrize(
    ("program", "engine", "taken"),
    [
        ("gpaw", "xtb", False),
        ("cp2k", "xtb", False),
        ("cp2k", "gpaw", False),
        ("gpaw", "vasp", False),
        ("vasp", "gpaw", False),
        ("vasp", "ase", False),
        ("tblite", "gpaw", False),
        ("gpaw", "ase", True),
        ("tblite", "xtb", True),
        ("emt", "ase", True),
        ("unknown", "vasp", True),
        ("unknown", "cp2k", True),
    ],
)
def test_the_program_must_be_one_that_the_engine_can_have_run(program, engine, taken):
    found = contradictions(*imported(program, {}), asked(engine))
    assert (found == []) is taken
    assert taken or found == [f"computed by {program}, not by {engine}"]


def test_a_file_that_tells_no_method_is_taken_on_its_name():
    assert contradictions(*imported("gpaw", {}), asked("gpaw")) == []
