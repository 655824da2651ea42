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
from defect_mf_flows.testing.vasp import vasp_stand_in

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


@pytest.fixture
def neutral(make_start):
    return make_start(0)


def real(engine):
    """What the real output of a program tells of its method."""
    rows = make_plan(walk([DATA / engine / "v_Si_2"]), "pbe", bulk=None).rows
    (row,) = [row for row in rows if row.charge == 2]
    return imported(row.program, row.method, row.kpoints)


@pytest.mark.parametrize("engine", ["gpaw", "cp2k"])
def test_the_method_of_real_output_agrees_with_the_same_settings(engine, neutral):
    assert contradictions(*real(engine), asked(engine), neutral) == []


@pytest.mark.parametrize(
    ("engine", "field", "value"),
    [("gpaw", "encut", 250), ("gpaw", "functional", "HSE06"), ("cp2k", "cutoff", 300)],
)
def test_another_cutoff_or_functional_keeps_it_out(engine, field, value, neutral):
    (why,) = contradictions(*real(engine), asked(engine, **{field: value}), neutral)
    assert why.startswith(f"{field} is ")
    assert str(value) in why


def test_another_grid_keeps_it_out(neutral):
    method = {"xc": "XC(name='PBE')", "mode": "PW(ecut=200.0)"}
    (why,) = contradictions(*imported("gpaw", method, "2x2x2"), asked("gpaw"), neutral)
    assert why == "k-point grid is 2x2x2, the campaign asks for 1x1x1"
    settings = asked("gpaw", gamma_only=False, kpoints=[2, 2, 2])
    assert contradictions(*imported("gpaw", method, "2x2x2"), settings, neutral) == []


def test_a_hybrid_is_not_taken_for_its_semilocal_start(neutral):
    hybrid = {"xc": "XC(name='HYB_GGA_XC_HSE06')", "mode": "PW(ecut=200.0)"}
    same = asked("gpaw", functional="HSE06")
    assert contradictions(*imported("gpaw", hybrid), same, neutral) == []
    assert contradictions(*imported("gpaw", hybrid), asked("gpaw"), neutral)


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
def test_the_program_must_be_one_that_the_engine_can_have_run(program, engine, taken, neutral):
    found = contradictions(*imported(program, {}), asked(engine), neutral)
    assert (found == []) is taken
    assert taken or found == [f"computed by {program}, not by {engine}"]


def test_a_file_that_tells_no_method_is_taken_on_its_name(neutral):
    assert contradictions(*imported("gpaw", {}), asked("gpaw"), neutral) == []


#: What VASP tells of a PBE and an HSE06 run with this package's inputs for V_Zn in ZnS.
TOLD = {
    "GGA": "PE", "METAGGA": "--", "LHFCALC": False, "ENCUT": 300.0, "PREC": "acc", "LASPH": True,
    "IVDW": "0", "LSORBIT": False, "LDAU": False,
    "POTCAR Zn": "PAW_PBE Zn 06Sep2000", "POTCAR S": "PAW_PBE S 06Sep2000",
}  # fmt: skip
HYBRID = {**TOLD, "LHFCALC": True, "AEXX": 0.25, "HFSCREEN": 0.2}
NUMERICS = {"NKRED": "1x1x1", "PRECFOCK": "norm", "LREAL": "F", "ADDGRID": False, "ISMEAR": 0,
            "SIGMA": 0.05, "ISPIN": 2}  # fmt: skip
HSE06 = {"functional": "HSE06"}
CORRECTED = {"LDAU": True, "LDAUL Zn": 2.0, "LDAUU Zn": 3.0, "LDAUJ Zn": 0.0}
U_OF = {"hubbard": {"Zn": {"l": 2, "u": 3}}}


def of_vasp(start, settings, *, method=(), accuracy=(), kpoints="1x1x1", tags=(), **told):
    """What contradicts a campaign in a run that tells these settings beside the usual ones."""
    usual = HYBRID if settings.get("functional") == "HSE06" else TOLD
    calculation, record = imported("vasp", {**usual, **dict(method)}, kpoints)
    engine = calculation.engine.model_copy(update={"settings": {"tags": dict(tags)}})
    spin = told.pop("spin", None)
    calculation = calculation.model_copy(update={"engine": engine, "spin": spin})
    record = record.model_copy(update={"accuracy": {**NUMERICS, **dict(accuracy)}, **told})
    return contradictions(calculation, record, asked("vasp", **settings), start)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, {}),
        (HSE06, {}),
        ({"dispersion": "D3"}, {"method": {"IVDW": "11"}}),
        ({"dispersion": "D3"}, {"method": {"IVDW": "on"}}),
        (U_OF, {"method": {**CORRECTED, "LDAUL S": -1.0, "LDAUU S": 0.0, "LDAUJ S": 0.0}}),
        ({"gamma_only": False, "kpoint_density": 80}, {"kpoints": "5x5x5"}),
        ({"incar": {"SIGMA": 0.02}}, {}),
        ({}, {"magnetization": 0.001}),
        ({}, {"accuracy": {"ISPIN": 1}}),
        ({"spin": "free"}, {"magnetization": 2.0}),
        ({"spin_guesses": 2}, {"magnetization": 2.0}),
    ],
)
def test_a_run_of_vasp_with_the_campaigns_own_settings_is_taken(neutral, settings, told):
    assert of_vasp(neutral, settings, **told) == []


@pytest.mark.parametrize(
    ("settings", "told", "named"),
    [
        ({}, {"method": {"GGA": "PS"}}, "GGA is PS, the campaign asks for PE"),
        ({}, {"method": {"METAGGA": "R2SCAN"}}, "METAGGA is R2SCAN"),
        ({}, {"method": HYBRID}, "LHFCALC is True"),
        (HSE06, {"method": {"AEXX": 0.3}}, "AEXX is 0.3"),
        (HSE06, {"method": {"HFSCREEN": 0.208}}, "HFSCREEN is 0.208"),
        (HSE06, {"accuracy": {"NKRED": "2x2x2"}}, "NKRED is 2x2x2"),
        ({}, {"method": {"ENCUT": 400.0}}, "ENCUT is 400.0"),
        ({}, {"method": {"PREC": "nor"}}, "PREC is nor, the campaign asks for acc"),
        ({}, {"method": {"LASPH": False}}, "LASPH is False"),
        ({}, {"method": {"LSORBIT": True}}, "LSORBIT is True"),
        ({}, {"method": {"IVDW": "12"}}, "IVDW is 12"),
        ({}, {"method": {"IVDW": "on"}}, "IVDW is on"),
        ({"dispersion": "D3"}, {}, "IVDW is 0, the campaign asks for 11"),
        (
            {**HSE06, "dispersion": "D3"},
            {"method": {"IVDW": "11"}, "tags": {"VDW_SR": "1.129"}},
            "VDW_S8 is not set, the campaign asks for 0.109",
        ),
        ({}, {"method": CORRECTED}, "+U on Zn is U = 3 eV, J = 0 eV, l = 2"),
        (
            {"hubbard": {"Zn": {"l": 2, "u": 8}}},
            {"method": CORRECTED},
            "the campaign asks for U = 8 eV, J = 0 eV, l = 2",
        ),
        (U_OF, {}, "+U on Zn is none"),
        ({}, {"method": {"POTCAR Zn": "PAW_PBE Zn_sv_GW 05Dec2013"}}, "Zn_sv_GW"),
        ({}, {"accuracy": {"ISMEAR": 1}}, "ISMEAR is 1"),
        ({}, {"accuracy": {"SIGMA": 0.2}}, "SIGMA is 0.2"),
        ({"gamma_only": False, "kpoint_density": 80}, {}, "the campaign asks for 5x5x5"),
        ({}, {"kpoints": "1x1x1 shifted"}, "k-point grid is 1x1x1 shifted"),
        ({}, {"magnetization": 2.0}, "total moment is 2, the campaign asks for 0"),
        ({}, {"spin": 2}, "total moment is 2, the campaign asks for 0"),
        ({"spin": "free"}, {"accuracy": {"ISPIN": 1}}, "ISPIN is 1, the campaign asks for 2"),
    ],
)  # fmt: skip
def test_a_run_of_vasp_with_another_method_is_refused_with_what_differs(
    neutral, settings, told, named
):
    (why,) = of_vasp(neutral, settings, **told)
    assert named in why


def test_an_unpolarised_run_of_an_odd_number_of_electrons_is_refused(make_start):
    (why,) = of_vasp(make_start(-1), {}, accuracy={"ISPIN": 1})
    assert why == "total moment is 0, the campaign asks for 1"


def test_where_there_are_potcars_their_dates_count(neutral, tmp_path):
    told = {"POTCAR Zn": "STAND_IN Zn 01Jan2026", "POTCAR S": "STAND_IN S 08Apr2002"}
    with vasp_stand_in(tmp_path):
        (why,) = of_vasp(neutral, {}, method=told)
    assert why == (
        "POTCAR of S is STAND_IN S 08Apr2002, the campaign asks for STAND_IN S 01Jan2026"
    )
