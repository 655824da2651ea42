"""The one owner of charge, spin and fidelity on their way between libraries.

Structure, ASE atoms, extended XYZ and MACE each keep the charge elsewhere, and most
converters drop it without a word. Every crossing goes through this module, which writes
all the keys that the receiving library reads and checks them again on the way back.

=====================  =====================================================
library                where it looks for the charge
=====================  =====================================================
pymatgen               ``Structure._charge`` and ``Structure.properties["charge"]``
MACE training          ``atoms.info["total_charge"]``
MACECalculator         ``atoms.info["charge"]`` (pass ``MACE_INFO_KEYS`` instead)
=====================  =====================================================
"""

from __future__ import annotations

import warnings
from numbers import Real
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from pymatgen.core import Lattice, Structure

from defect_mf_flows.core.labels import ENERGY, FORCES, NO_FORCES, STRESS, forces_of
from defect_mf_flows.errors import ChargeError, FidelityError
from defect_mf_flows.schemas.frame import Frame, Lineage
from defect_mf_flows.schemas.structures import symbols_of

TOTAL_CHARGE = "total_charge"
CHARGE = "charge"
SPIN = "spin"
FIDELITY = "fidelity"
WEIGHT = "config_weight"

# Every charged defect differs from the sum of its oxidation states; that is no news here.
warnings.filterwarnings("ignore", message="Structure charge .* not equal to the sum of oxidation")

#: What a MACECalculator must be told, so that it reads the keys that training used. mace's
#: ``total_spin`` takes our number of unpaired electrons, where a model learns the spin.
MACE_INFO_KEYS = {"total_charge": TOTAL_CHARGE, "total_spin": SPIN}


def whole_charge(value: Any, *, where: str) -> int:
    """Return ``value`` as a whole charge.

    Parameters
    ----------
    value
        Anything that claims to be a charge.
    where
        What carries it, for the message.

    Returns
    -------
    int
        The charge in elementary charges.

    Raises
    ------
    ChargeError
        If it is missing, not a number, or fractional.
    """
    if value is None:
        raise ChargeError(f"{where} carries no charge; attach it with with_charge().")
    if isinstance(value, bool | np.bool_) or not isinstance(value, Real):
        raise ChargeError(f"{where}: charge {value!r} is not a number; give a whole number.")
    number = float(value)
    if not np.isfinite(number) or number != round(number):
        raise ChargeError(f"{where}: charge {value!r} is not whole; give a whole number.")
    return round(number)


def with_charge(structure: Structure, charge: int) -> Structure:
    """Copy a structure with the charge attached wherever pymatgen keeps one.

    Oxidation states are removed: their sum would otherwise pose as the cell's charge.

    Parameters
    ----------
    structure
        Any periodic structure.
    charge
        Whole charge of the cell.

    Returns
    -------
    Structure
        A new structure that ``charge_of`` accepts.
    """
    charge = whole_charge(charge, where="with_charge")
    plain = Structure(
        Lattice(structure.lattice.matrix),
        symbols_of(structure),
        structure.frac_coords,
        charge=charge,
    )
    plain.properties[CHARGE] = charge
    return plain


def charged_structure(cell: Any, symbols: list[str], positions: Any, charge: int) -> Structure:
    """Build a structure that carries its charge wherever pymatgen keeps one.

    Parameters
    ----------
    cell
        Shape (3, 3), Angstrom.
    symbols
        Of the atoms.
    positions
        Cartesian, shape (n_atoms, 3), Angstrom.
    charge
        Whole charge of the cell.

    Returns
    -------
    Structure
        A structure that ``charge_of`` accepts.
    """
    charge = whole_charge(charge, where="charged_structure")
    plain = Structure(Lattice(cell), symbols, positions, charge=charge, coords_are_cartesian=True)
    plain.properties[CHARGE] = charge
    return plain


def charge_of(structure: Structure) -> int:
    """Read the charge of a structure that ``with_charge`` made.

    Raises
    ------
    ChargeError
        If no charge was attached, or its two copies differ.
    """
    where = f"structure {structure.composition.reduced_formula}"
    attached = whole_charge(structure.properties.get(CHARGE), where=where)
    own = whole_charge(structure._charge, where=where)
    if own != attached:
        raise ChargeError(
            f"{where}: its charge is {own:+d} in one place and {attached:+d} in another; "
            "attach it again with with_charge()."
        )
    return own


def whole_spin(value: Any, *, where: str) -> int:
    """Return ``value`` as a number of unpaired electrons.

    Raises
    ------
    ChargeError
        If it is missing, not a whole number, or negative.
    """
    if value is None:
        raise ChargeError(f"{where} carries no spin; attach it with with_spin().")
    try:
        number = whole_charge(value, where=where)
    except ChargeError:
        number = -1
    if number < 0:
        raise ChargeError(f"{where}: spin {value!r} is no number of unpaired electrons.")
    return number


def with_spin(structure: Structure, spin: int | None) -> Structure:
    """Copy a charged structure with a number of unpaired electrons attached.

    Parameters
    ----------
    structure
        A structure that ``with_charge`` made.
    spin
        Unpaired electrons, or None for a copy that carries none.

    Returns
    -------
    Structure
        ``with_charge`` drops the spin again: another charge has another one.
    """
    copy = with_charge(structure, charge_of(structure))
    if spin is not None:
        copy.properties[SPIN] = whole_spin(spin, where="with_spin")
    return copy


def spin_of(structure: Structure) -> int | None:
    """Unpaired electrons that ``with_spin`` attached, or None."""
    spin = structure.properties.get(SPIN)
    return None if spin is None else whole_spin(spin, where="structure")


def to_atoms(structure: Structure, *, spin: int | None = None) -> Atoms:
    """Convert a charged structure to ASE atoms that carry the charge in ``info``.

    Parameters
    ----------
    structure
        A structure that ``with_charge`` made.
    spin
        Unpaired electrons; None takes those of ``with_spin``, or leaves them to the engine.

    Returns
    -------
    Atoms
        With ``info["charge"]`` and ``info["total_charge"]``, and ``info["spin"]`` if given.
    """
    charge = charge_of(structure)
    atoms = Atoms(
        symbols_of(structure),
        positions=structure.cart_coords,
        cell=structure.lattice.matrix,
        pbc=True,
    )
    atoms.info[CHARGE] = charge
    atoms.info[TOTAL_CHARGE] = charge
    spin = spin_of(structure) if spin is None else spin
    if spin is not None:
        atoms.info[SPIN] = whole_spin(spin, where="to_atoms")
    return atoms


def atoms_spin(atoms: Atoms) -> int:
    """Read the unpaired electrons of ASE atoms.

    Raises
    ------
    ChargeError
        If they carry none.
    """
    return whole_spin(atoms.info.get(SPIN), where=f"atoms {atoms.get_chemical_formula()}")


def atoms_charge(atoms: Atoms) -> int:
    """Read the charge of ASE atoms.

    Raises
    ------
    ChargeError
        If either key is missing or they differ: libraries read one or the other.
    """
    where = f"atoms {atoms.get_chemical_formula()}"
    one = whole_charge(atoms.info.get(CHARGE), where=where)
    other = whole_charge(atoms.info.get(TOTAL_CHARGE), where=where)
    if one != other:
        raise ChargeError(
            f"{where}: info['charge'] is {one:+d} but info['total_charge'] is {other:+d}; "
            "set both, or convert with to_atoms()."
        )
    return one


def from_atoms(atoms: Atoms) -> Structure:
    """Convert ASE atoms back to a structure with the same charge and spin."""
    structure = Structure(
        Lattice(atoms.cell.array),
        atoms.get_chemical_symbols(),
        atoms.get_positions(),
        coords_are_cartesian=True,
    )
    structure = with_charge(structure, atoms_charge(atoms))
    return with_spin(structure, atoms.info[SPIN]) if SPIN in atoms.info else structure


def frame_to_atoms(frame: Frame) -> Atoms:
    """Convert a frame to ASE atoms with charge, spin, fidelity and labels."""
    atoms = to_atoms(frame.structure, spin=frame.spin)
    atoms.info[FIDELITY] = frame.fidelity
    atoms.info[ENERGY] = frame.energy
    if frame.forces is None:
        atoms.info[NO_FORCES] = True
    else:
        atoms.arrays[FORCES] = np.asarray(frame.forces, dtype=float)
    if frame.stress is not None:
        atoms.info[STRESS] = np.asarray(frame.stress, dtype=float)
    for key, value in frame.lineage.model_dump(exclude={"schema_version", CHARGE}).items():
        if value is not None:  # extended XYZ reads an empty text as the key that follows
            atoms.info[f"lineage_{key}"] = value
    return atoms


def frame_to_structure(frame: Frame) -> Structure:
    """Convert a frame to a pymatgen structure with charge, spin, fidelity and energy.

    Parameters
    ----------
    frame
        Any frame.

    Returns
    -------
    Structure
        Its charge is the frame's; ``properties`` hold ``charge``, ``spin``, ``fidelity``,
        ``energy`` (eV per cell) and the lineage as ``lineage_*``.
    """
    structure = with_charge(frame.structure, frame.charge)
    structure.properties |= {SPIN: frame.spin, FIDELITY: frame.fidelity, "energy": frame.energy}
    for key, value in frame.lineage.model_dump(exclude={"schema_version", CHARGE}).items():
        structure.properties[f"lineage_{key}"] = value
    return structure


def atoms_fidelity(atoms: Atoms) -> str:
    """Read the fidelity of labelled atoms.

    Raises
    ------
    FidelityError
        If it is missing.
    """
    fidelity = atoms.info.get(FIDELITY)
    if not isinstance(fidelity, str) or not fidelity:
        raise FidelityError(
            f"atoms {atoms.get_chemical_formula()} carry no fidelity; "
            "set info['fidelity'] to the name of the method of their labels."
        )
    return fidelity


def atoms_to_frame(atoms: Atoms) -> Frame:
    """Convert labelled atoms, for example read from extended XYZ, to a frame.

    Raises
    ------
    ChargeError, FidelityError
        If charge or fidelity are missing.
    DatasetError
        If forces are missing and nothing says that the method has none.
    """
    charge = atoms_charge(atoms)
    spin = atoms.info.get(SPIN)
    return Frame(
        structure=from_atoms(atoms),
        charge=charge,
        spin=None if spin is None else int(spin),
        fidelity=atoms_fidelity(atoms),
        energy=float(atoms.info[ENERGY]),
        forces=forces_of(atoms, where=f"atoms {atoms.get_chemical_formula()}"),
        stress=atoms.info.get(STRESS),
        lineage=Lineage(
            defect=str(atoms.info.get("lineage_defect", "")) or None,
            charge=charge,
            start=str(atoms.info.get("lineage_start", "unknown")),
            calculation=str(atoms.info.get("lineage_calculation", "unknown")),
            step=int(atoms.info.get("lineage_step", 0)),
        ),
    )


def write_extxyz(path: Path, atoms: list[Atoms], *, append: bool = False) -> None:
    """Write labelled atoms, or add them, once each is seen to carry charge and fidelity."""
    for item in atoms:
        atoms_charge(item)
        atoms_fidelity(item)
    ase.io.write(path, atoms, format="extxyz", append=append)


def read_extxyz(path: Path) -> list[Atoms]:
    """Read labelled atoms and check that each carries charge and fidelity.

    Raises
    ------
    ChargeError, FidelityError
        For the first image that lacks one; the message names its number.
    """
    images = ase.io.read(path, index=":", format="extxyz")
    for number, atoms in enumerate(images):
        try:
            atoms_charge(atoms)
            atoms_fidelity(atoms)
        except (ChargeError, FidelityError) as error:
            raise type(error)(f"{path}, image {number}: {error}") from None
    return list(images)


def charge_probe(calculator: Any, atoms: Atoms, *, expected: int) -> None:
    """Check that a calculator holds the charge it should compute with.

    Parameters
    ----------
    calculator
        ASE calculator whose ``parameters`` name its charge.
    atoms
        Atoms it is about to compute.
    expected
        Charge of the calculation.

    Raises
    ------
    ChargeError
        If atoms or calculator carry another charge.
    """
    if atoms_charge(atoms) != expected:
        raise ChargeError(f"atoms carry charge {atoms_charge(atoms):+d}, not {expected:+d}.")
    held = getattr(calculator, "parameters", {}).get(CHARGE)
    if held is not None and whole_charge(held, where="calculator") != expected:
        raise ChargeError(
            f"calculator computes with charge {held}, not {expected:+d}: build it anew for "
            "every charge state."
        )


__all__ = [
    "CHARGE",
    "ENERGY",
    "FIDELITY",
    "FORCES",
    "MACE_INFO_KEYS",
    "NO_FORCES",
    "SPIN",
    "STRESS",
    "TOTAL_CHARGE",
    "WEIGHT",
    "atoms_charge",
    "atoms_fidelity",
    "atoms_spin",
    "atoms_to_frame",
    "charge_of",
    "charge_probe",
    "charged_structure",
    "frame_to_atoms",
    "frame_to_structure",
    "from_atoms",
    "read_extxyz",
    "spin_of",
    "to_atoms",
    "whole_charge",
    "whole_spin",
    "with_charge",
    "with_spin",
    "write_extxyz",
]
