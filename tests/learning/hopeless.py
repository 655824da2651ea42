"""Structures with which no relaxation can do anything."""

from __future__ import annotations

from pymatgen.core import Structure

from defect_mf_flows.core.charge import charge_of, with_charge


def collapsed(structure: Structure) -> Structure:
    """Two atoms in one place: the direction of their bond, and so the forces, are no numbers."""
    places = structure.frac_coords.copy()
    places[1] = places[0]
    moved = Structure(structure.lattice, structure.species, places)
    return with_charge(moved, charge_of(structure))
