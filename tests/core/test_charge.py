"""One module owns the charge; every crossing keeps it, and refuses what lost it."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from defect_mf_flows.core.charge import (
    ENERGY,
    FORCES,
    MACE_INFO_KEYS,
    SPIN,
    TOTAL_CHARGE,
    atoms_charge,
    atoms_fidelity,
    atoms_spin,
    atoms_to_frame,
    charge_of,
    charge_probe,
    frame_to_atoms,
    from_atoms,
    read_extxyz,
    spin_of,
    to_atoms,
    whole_charge,
    with_charge,
    with_spin,
    write_extxyz,
)
from defect_mf_flows.errors import ChargeError, FidelityError
from defect_mf_flows.schemas.defect import Defect
from defect_mf_flows.schemas.frame import Frame

CHARGES = st.integers(-12, 12)
NO_NUMBER = type("NoNumber", (), {"__repr__": lambda self: "NoNumber()"})()
BAD = [0.5, -1e-9, float("nan"), float("inf"), True, np.True_, "0", b"1", 1j, [0], None, NO_NUMBER]


@given(charge=CHARGES)
def test_a_structure_keeps_the_charge_it_was_given(vacancy: Defect, charge: int) -> None:
    charged = with_charge(vacancy.supercell, charge)
    assert charge_of(charged) == charged.charge == charged.properties["charge"] == charge
    assert charge_of(with_charge(charged, -charge)) == -charge, "the last one given counts"


def test_attaching_a_charge_leaves_the_original_alone(vacancy: Defect) -> None:
    with_charge(vacancy.supercell, -2)
    assert charge_of(vacancy.supercell) == 0


@given(charge=CHARGES, spin=st.none() | st.integers(0, 4))
def test_atoms_carry_the_charge_under_both_keys_and_give_it_back(
    vacancy: Defect, charge: int, spin: int | None
) -> None:
    atoms = to_atoms(with_charge(vacancy.supercell, charge), spin=spin)
    assert atoms.info["charge"] == atoms.info["total_charge"] == charge
    assert atoms.info.get("spin") == spin
    assert charge_of(from_atoms(atoms)) == charge


def test_pymatgens_own_adaptor_would_lose_the_charge_and_is_caught(vacancy: Defect) -> None:
    """The trap that makes this module necessary."""
    bare = Structure.from_sites(vacancy.supercell.sites, charge=2)
    with pytest.raises(ChargeError, match="no charge"):
        atoms_charge(AseAtomsAdaptor.get_atoms(bare))


@given(charge=CHARGES, spin=st.none() | st.integers(0, 3), energy=st.floats(-1e4, 1e4))
def test_a_frame_survives_the_way_through_atoms(
    make_frame: Callable[..., Frame], charge: int, spin: int | None, energy: float
) -> None:
    frame = make_frame(energy, charge, spin=spin, stress=np.eye(3), step=3, defect=None)
    back = atoms_to_frame(frame_to_atoms(frame))
    assert (back.charge, back.spin, back.energy) == (charge, spin, energy)
    assert back.lineage == frame.lineage
    assert back.stress == frame.stress
    assert charge_of(back.structure) == charge


@given(charges=st.lists(CHARGES, min_size=1, max_size=4))
def test_extended_xyz_keeps_charge_fidelity_and_labels_of_every_image(
    tmp_path: Path, make_frame: Callable[..., Frame], charges: list[int]
) -> None:
    frames = [make_frame(-10.0 - q, q, fidelity=f"f{q}", start="s t") for q in charges]
    path = tmp_path / "frames.xyz"
    write_extxyz(path, [frame_to_atoms(frame) for frame in frames])
    read = [atoms_to_frame(atoms) for atoms in read_extxyz(path)]
    assert [frame.charge for frame in read] == charges
    for before, after in zip(frames, read, strict=True):
        assert after.fidelity == before.fidelity
        assert after.energy == before.energy
        assert after.lineage == before.lineage
        assert np.allclose(after.forces, before.forces)
        # ASE writes coordinates with eight decimals.
        shift = after.structure.cart_coords - before.structure.cart_coords
        assert np.abs(shift).max() < 1e-7


@pytest.mark.parametrize("lost", ["charge", "total_charge", "fidelity"])
def test_extended_xyz_without_charge_or_fidelity_is_neither_written_nor_read(
    tmp_path: Path, make_frame: Callable[..., Frame], lost: str
) -> None:
    good, bad = (frame_to_atoms(make_frame(charge=-1)) for _ in range(2))
    del bad.info[lost]
    path = tmp_path / "frames.xyz"
    expected = FidelityError if lost == "fidelity" else ChargeError
    with pytest.raises(expected):
        write_extxyz(path, [good, bad])
    ase.io.write(path, [good, bad], format="extxyz")
    with pytest.raises(expected, match=r"frames\.xyz, image 1: .*carr"):
        read_extxyz(path)


@pytest.mark.parametrize("value", BAD, ids=repr)
def test_what_is_no_whole_number_is_no_charge(vacancy: Defect, value: Any) -> None:
    with pytest.raises(ChargeError, match=r"attach|give a whole number"):
        whole_charge(value, where="test")
    with pytest.raises(ChargeError):
        with_charge(vacancy.supercell, value)


@pytest.mark.parametrize("value", BAD, ids=repr)
@pytest.mark.parametrize("key", ["charge", "total_charge"])
def test_atoms_with_a_bad_charge_under_either_key_are_refused(
    vacancy: Defect, key: str, value: Any
) -> None:
    atoms = to_atoms(vacancy.supercell)
    atoms.info[key] = value
    with pytest.raises(ChargeError):
        atoms_charge(atoms)


@pytest.mark.parametrize("value", [2, 2.0, np.int64(2), np.float32(2), Fraction(2)], ids=repr)
def test_whole_numbers_of_any_type_are_charges(value: Any) -> None:
    charge = whole_charge(value, where="test")
    assert charge == 2
    assert type(charge) is int


@given(value=st.floats(allow_nan=True, allow_infinity=True))
def test_a_float_is_a_charge_only_if_it_is_whole(value: float) -> None:
    if np.isfinite(value) and value == np.floor(value):
        assert whole_charge(value, where="test") == value
    else:
        with pytest.raises(ChargeError):
            whole_charge(value, where="test")


@given(one=CHARGES, other=CHARGES)
def test_two_copies_of_the_charge_that_differ_are_refused(
    vacancy: Defect, one: int, other: int
) -> None:
    structure = with_charge(vacancy.supercell, one)
    structure.properties["charge"] = other
    atoms = to_atoms(with_charge(vacancy.supercell, one))
    atoms.info[TOTAL_CHARGE] = other
    if one == other:
        assert charge_of(structure) == atoms_charge(atoms) == one
    else:
        with pytest.raises(ChargeError, match="in one place"):
            charge_of(structure)
        with pytest.raises(ChargeError, match="set both"):
            atoms_charge(atoms)


def test_set_charge_behind_the_modules_back_is_noticed(vacancy: Defect) -> None:
    structure = with_charge(vacancy.supercell, 0)
    structure.set_charge(-1)
    with pytest.raises(ChargeError, match="with_charge"):
        charge_of(structure)


def test_oxidation_states_do_not_pose_as_a_charge(zns: Structure) -> None:
    ionic = zns.copy()
    ionic.add_oxidation_state_by_element({"Zn": 2, "S": -2})
    ionic.remove_sites([0])
    assert ionic.charge == -2, "pymatgen sums the oxidation states"
    with pytest.raises(ChargeError, match="no charge"):
        charge_of(ionic)
    charged = with_charge(ionic, 0)
    assert charge_of(charged) == charged.charge == 0
    assert not any(hasattr(site.specie, "oxi_state") for site in charged)


def test_geometry_and_order_of_atoms_survive_the_way_through_atoms(vacancy: Defect) -> None:
    structure = with_charge(vacancy.supercell, -1)
    back = from_atoms(to_atoms(structure))
    assert back.species == structure.species
    assert np.allclose(back.cart_coords, structure.cart_coords, atol=1e-12)
    assert np.allclose(back.lattice.matrix, structure.lattice.matrix, atol=1e-12)


def test_labels_use_keys_that_no_calculator_overwrites(
    make_frame: Callable[..., Frame],
) -> None:
    """ASE moves ``energy`` and ``forces`` into a calculator; ``REF_`` keys stay."""
    atoms = frame_to_atoms(make_frame(-3.0))
    assert atoms.info[ENERGY] == -3.0
    assert atoms.arrays[FORCES].shape == (7, 3)
    assert MACE_INFO_KEYS == {"total_charge": TOTAL_CHARGE, "total_spin": SPIN}


@pytest.mark.parametrize("value", [None, "", 3])
def test_atoms_without_a_named_fidelity_are_refused(vacancy: Defect, value: Any) -> None:
    atoms = to_atoms(vacancy.supercell)
    atoms.info["fidelity"] = value
    with pytest.raises(FidelityError, match="fidelity"):
        atoms_fidelity(atoms)


def test_a_calculator_that_holds_another_charge_is_refused(vacancy: Defect) -> None:
    from tblite.ase import TBLite

    atoms = to_atoms(with_charge(vacancy.supercell, -1))
    charge_probe(TBLite(charge=-1, verbosity=0), atoms, expected=-1)
    with pytest.raises(ChargeError, match=r"calculator computes with charge 0"):
        charge_probe(TBLite(charge=0, verbosity=0), atoms, expected=-1)
    with pytest.raises(ChargeError, match=r"atoms carry charge -1"):
        charge_probe(TBLite(charge=0, verbosity=0), atoms, expected=0)


def test_atoms_that_never_had_a_charge_are_refused() -> None:
    with pytest.raises(ChargeError, match="with_charge"):
        from_atoms(Atoms("ZnS", positions=[[0, 0, 0], [2, 0, 0]], cell=[5, 5, 5], pbc=True))


# -- spin ------------------------------------------------------------------------------


def test_a_spin_travels_to_atoms_and_back_and_a_new_charge_drops_it(vacancy: Defect) -> None:
    structure = with_spin(with_charge(vacancy.supercell, -1), 1)
    assert spin_of(structure) == 1
    atoms = to_atoms(structure)
    assert atoms_spin(atoms) == 1
    back = from_atoms(atoms)
    assert (charge_of(back), spin_of(back)) == (-1, 1)
    assert spin_of(with_charge(structure, 0)) is None
    assert spin_of(with_spin(structure, None)) is None
    assert SPIN not in to_atoms(with_charge(vacancy.supercell, 0)).info


@pytest.mark.parametrize("value", [-1, 0.5, True, "1", float("nan")])
def test_a_spin_that_is_no_number_of_electrons_is_refused(vacancy: Defect, value: Any) -> None:
    with pytest.raises(ChargeError, match="unpaired electrons"):
        with_spin(with_charge(vacancy.supercell, 0), value)
    atoms = to_atoms(with_charge(vacancy.supercell, 0))
    atoms.info[SPIN] = value
    with pytest.raises(ChargeError):
        atoms_spin(atoms)


def test_atoms_without_a_spin_have_none(vacancy: Defect) -> None:
    with pytest.raises(ChargeError, match="no spin"):
        atoms_spin(to_atoms(with_charge(vacancy.supercell, 0)))


def test_the_host_s_frames_come_back_from_extended_xyz(tmp_path, make_start):
    """An empty text would swallow the key after it, and the host would be a defect."""
    import ase.io

    from defect_mf_flows.core.charge import atoms_to_frame, frame_to_atoms, with_charge
    from defect_mf_flows.schemas.frame import Frame, Lineage

    structure = with_charge(make_start(0).structure, 0)
    lineage = Lineage(defect=None, charge=0, start="pristine", calculation="c", step=0)
    frame = Frame(
        structure=structure, charge=0, fidelity="f", energy=1.0, lineage=lineage,
        forces=[[0.0] * 3] * len(structure),
    )  # fmt: skip
    ase.io.write(tmp_path / "x.xyz", frame_to_atoms(frame), format="extxyz")
    back = atoms_to_frame(ase.io.read(tmp_path / "x.xyz", format="extxyz"))
    assert back.lineage == lineage
