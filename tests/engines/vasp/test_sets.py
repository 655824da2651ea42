"""Inputs in full: what VASP is told for neutral and charged cells, PBE and HSE06."""

from __future__ import annotations

import pytest
from monty.json import MontyDecoder, jsanitize
from pymatgen.core import Lattice, Structure

from defect_mf_flows.campaign.vasp import OWNED, VaspSettings
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.engines.spin import low_spin
from defect_mf_flows.engines.vasp.sets import ChargedCellSet
from defect_mf_flows.errors import ChargeError, EngineError

SHARED = {
    "ALGO": "Normal",
    "EDIFF": 1e-6,
    "ENCUT": 450.0,
    "GGA": "Pe",
    "ICORELEVEL": 0,
    "ISIF": 2,
    "ISMEAR": 0,
    "ISYM": 0,
    "LASPH": True,
    "LCHARG": False,
    "LMAXMIX": 4,
    "LORBIT": 11,
    "LREAL": False,
    "LWAVE": True,
    "NELM": 100,
    "NELMIN": 5,
    "PREC": "Accurate",
    "SIGMA": 0.05,
}
PBE_RELAX = {**SHARED, "EDIFFG": -0.02, "IBRION": 2, "NSW": 150}
HSE_STATIC = {
    **SHARED,
    "LHFCALC": True,
    "AEXX": 0.25,
    "HFSCREEN": 0.2,
    "PRECFOCK": "Normal",
    "IBRION": -1,
    "NSW": 0,
}
#: V_Zn in 8 atoms: 3 x 12 + 4 x 6 valence electrons.
CHARGES = {
    0: {"NELECT": 60.0, "ISPIN": 1},
    -1: {"NELECT": 61.0, "ISPIN": 2, "NUPDOWN": 1, "MAGMOM": [1 / 7] * 7},
    -2: {"NELECT": 62.0, "ISPIN": 1},
    1: {"NELECT": 59.0, "ISPIN": 2, "NUPDOWN": 1, "MAGMOM": [1 / 7] * 7},
}


def inputs(functional: str, **settings):
    options = {
        name: settings.pop(name)
        for name in ("relax", "symmetric", "unpaired", "with_potcars", "user_incar_settings")
        if name in settings
    }
    grid = {} if {"gamma_only", "kpoint_density"} & set(settings) else {"kpoints": [2, 2, 2]}
    checked = VaspSettings(functional=functional, encut=450, **grid, **settings)
    return ChargedCellSet(settings=checked, fmax=0.02, steps=150, **options)


@pytest.fixture
def cell(vacancy):
    return lambda charge: with_charge(vacancy.supercell, charge)


@pytest.mark.parametrize("charge", CHARGES)
@pytest.mark.parametrize(
    ("functional", "relax", "expected"),
    [("PBE", True, PBE_RELAX), ("HSE06", False, HSE_STATIC)],
)
def test_incar_kpoints_and_potcar_in_full(machine, cell, functional, relax, expected, charge):
    made = inputs(functional, relax=relax).get_input_set(cell(charge))
    assert dict(made["INCAR"]) == {**expected, **CHARGES[charge]}
    assert str(made["KPOINTS"]).splitlines()[1:4] == ["0", "Gamma", "2 2 2"]
    assert [p.symbol for p in made["POTCAR"]] == ["Zn", "S"]
    assert made["POSCAR"].structure == cell(charge)


def test_low_and_high_fidelity_differ_in_the_functional_alone(machine, cell):
    low = dict(inputs("PBE").get_input_set(cell(-1))["INCAR"])
    high = dict(inputs("HSE06").get_input_set(cell(-1))["INCAR"])
    assert {k for k in {*low, *high} if low.get(k) != high.get(k)} == {
        "LHFCALC", "AEXX", "HFSCREEN", "PRECFOCK"
    }  # fmt: skip


def test_the_host_keeps_its_symmetry_its_grid_and_no_charge(machine, defect_set, cell):
    host = with_charge(defect_set.host.supercell, 0)
    made = inputs("HSE06", symmetric=True, kpoint_density=80).get_input_set(host)
    defect = inputs("HSE06", kpoint_density=80).get_input_set(cell(-2))
    assert "ISYM" not in made["INCAR"]
    assert made["INCAR"]["NELECT"] == 4 * 12 + 4 * 6
    assert made["KPOINTS"].kpts == defect["KPOINTS"].kpts != [(1, 1, 1)]
    assert made["POSCAR"].structure.lattice == defect["POSCAR"].structure.lattice


def test_a_coarse_search_uses_gamma_alone(machine, cell):
    assert inputs("PBE", gamma_only=True).get_input_set(cell(0))["KPOINTS"].kpts == [(1, 1, 1)]


def test_inputs_can_be_seen_without_potcars(cell):
    seen = inputs("HSE06", with_potcars=False)
    seen.structure = cell(-1)
    tags = dict(seen.incar)
    assert "NELECT" not in tags
    assert tags["NUPDOWN"] == 1, "parity needs no POTCAR"
    assert {**tags, "NELECT": 61.0} == {**HSE_STATIC, **CHARGES[-1]}


def test_missing_potcars_are_named_with_the_remedy(cell):
    with pytest.raises(EngineError, match=r"\['Zn', 'S'\] of release PBE_54.*PMG_VASP_PSP_DIR"):
        inputs("PBE").get_input_set(cell(0))


def test_a_structure_without_a_charge_is_refused(machine, vacancy):
    bare = Structure.from_sites(list(vacancy.supercell))
    with pytest.raises(ChargeError, match="no charge"):
        inputs("PBE").get_input_set(bare)


def test_the_potential_in_use_decides_the_electrons(machine):
    gallium = with_charge(Structure(Lattice.cubic(4.0), ["Ga", "Se"], [[0] * 3, [0.5] * 3]), 1)
    made = inputs("PBE", potcars={"Ga": "Ga_d"}).get_input_set(gallium)
    assert made["INCAR"]["NELECT"] == 13 + 6 - 1


def test_potentials_for_corrections(machine, cell):
    def tags(wanted):
        made = inputs("HSE06", write_potential=wanted).get_input_set(cell(0))["INCAR"]
        return made.get("ICORELEVEL"), made.get("LVHAR")

    assert tags(["core"]) == (0, None)
    assert tags(["LOCPOT"]) == (None, True)
    assert tags(["core", "LOCPOT"]) == (0, True)


@pytest.mark.parametrize(
    ("functional", "damping", "expected"),
    [
        ("PBE", "D3", {"IVDW": 11}),
        ("PBE", "D3-BJ", {"IVDW": 12}),
        ("HSE06", "D3", {"IVDW": 11, "VDW_SR": 1.129, "VDW_S8": 0.109}),
        ("HSE06", "D3-BJ", {"IVDW": 12, "VDW_S8": 2.31, "VDW_A1": 0.383, "VDW_A2": 5.685}),
    ],
)
def test_dispersion_has_the_damping_of_its_functional(machine, cell, functional, damping, expected):
    tags = inputs(functional, dispersion=damping).get_input_set(cell(0))["INCAR"]
    found = {k: v for k, v in tags.items() if k == "IVDW" or k.startswith("VDW_")}
    assert found == expected


def test_spin_orbit_coupling_has_vectors_and_no_fixed_spin(machine, cell):
    tags = inputs("HSE06", soc=True, spin="free").get_input_set(cell(-1))["INCAR"]
    assert tags["LSORBIT"] is True
    assert "NUPDOWN" not in tags
    assert len(tags["MAGMOM"]) == 7
    assert len(list(tags["MAGMOM"][0])) == 3


def test_hubbard_corrections_stand_in_the_order_of_the_elements(machine):
    oxide = with_charge(
        Structure(Lattice.cubic(4.3), ["Fe", "O"], [[0] * 3, [0.5] * 3]), 0
    )  # fmt: skip
    tags = inputs(
        "PBE", hubbard={"Fe": {"l": 2, "u": 4}}, spin="free", magmom={"Fe": 4.0}
    ).get_input_set(oxide)["INCAR"]
    assert (tags["LDAU"], tags["LDAUTYPE"]) == (True, 2)
    assert (tags["LDAUL"], tags["LDAUU"], tags["LDAUJ"]) == ([2, -1], [4.0, 0.0], [0.0, 0.0])
    assert tags["MAGMOM"] == [4.0, 0.6]
    assert "NUPDOWN" not in tags


def test_spin_policies(machine, cell):
    free = inputs("PBE", spin="free").get_input_set(cell(-1))["INCAR"]
    assert ("NUPDOWN" in free, free["ISPIN"], free["MAGMOM"]) == (False, 2, [0.6] * 7)
    none = inputs("PBE", spin="none").get_input_set(cell(0))["INCAR"]
    assert (none["ISPIN"], "MAGMOM" in none, "NUPDOWN" in none) == (1, False, False)
    singlet = inputs("PBE", unpaired=0).get_input_set(cell(0))["INCAR"]
    assert (singlet["ISPIN"], "MAGMOM" in singlet, "NUPDOWN" in singlet) == (1, False, False)
    broken = inputs("PBE", unpaired=0, spin="free").get_input_set(cell(0))["INCAR"]
    assert (broken["ISPIN"], broken["NUPDOWN"]) == (2, 0), "whoever lets VASP polarise may"
    triplet = inputs("PBE", unpaired=2).get_input_set(cell(0))["INCAR"]
    assert triplet["NUPDOWN"] == 2
    assert sum(triplet["MAGMOM"]) == pytest.approx(2)


@pytest.mark.parametrize(
    ("settings", "charge"), [({"unpaired": 1}, 0), ({"unpaired": 2}, -1), ({"spin": "none"}, -1)]
)
def test_spins_that_a_cell_cannot_have_are_refused(machine, cell, settings, charge):
    with pytest.raises(ChargeError, match="number of electrons"):
        inputs("PBE", **settings).get_input_set(cell(charge))


@pytest.mark.parametrize("charge", [-2, -1, 0, 1, 2])
def test_parity_of_all_electrons_is_that_of_the_valence_electrons(machine, cell, charge):
    assert (
        low_spin(cell(charge)) == inputs("PBE").get_input_set(cell(charge))["INCAR"]["NELECT"] % 2
    )


@pytest.mark.parametrize("tag", ["NELECT", "GGA", "ISIF", "LHFCALC"])
def test_a_powerup_cannot_override_what_the_engine_owns(machine, cell, tag):
    assert tag in OWNED
    with pytest.raises(EngineError, match=tag):
        inputs("PBE", user_incar_settings={tag: 1}).get_input_set(cell(0))


def test_further_tags_reach_the_incar(machine, cell):
    tags = inputs("HSE06", incar={"algo": "All", "KPAR": 2}).get_input_set(cell(0))["INCAR"]
    assert (tags["ALGO"], tags["KPAR"]) == ("All", 2)


def test_an_input_set_survives_the_database(machine, cell):
    one = inputs("HSE06", relax=True, hubbard={"S": {"l": 1, "u": 2.0}})
    back = MontyDecoder().process_decoded(jsanitize(one.as_dict()))
    assert dict(back.get_input_set(cell(-1))["INCAR"]) == dict(one.get_input_set(cell(-1))["INCAR"])
