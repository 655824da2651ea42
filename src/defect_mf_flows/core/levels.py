"""Charge transition levels through doped."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from defect_mf_flows.core.defects import doped_entry, quiet
from defect_mf_flows.schemas.calculation import BandEdges
from defect_mf_flows.schemas.defect import Defect, Host


@dataclass(frozen=True)
class Level:
    """One transition level.

    Attributes
    ----------
    defect, from_charge, to_charge
        ``from_charge`` is the more positive one, stable below the level.
    energy
        eV above the valence-band maximum.
    thermodynamic
        False if one of the two charges is nowhere the most stable.
    """

    defect: str
    from_charge: int
    to_charge: int
    energy: float
    thermodynamic: bool


def transition_levels(
    defect: Defect,
    host: Host,
    *,
    energies: dict[int, float],
    host_energy: float,
    edges: BandEdges,
) -> list[Level]:
    """Transition levels between all neighbouring charges, and between stable ones.

    Parameters
    ----------
    defect, host
        Defect and pristine supercell.
    energies
        Ground-state energy per charge, eV per cell, of one source.
    host_energy
        Pristine supercell at the same fidelity, eV per cell.
    edges
        Band edges of the host, eV.

    Returns
    -------
    list of Level
        Without a finite-size correction; the more positive pairs first.
    """
    thermodynamics = _thermodynamics(defect, host, energies, host_energy, edges)
    stable = {
        (int(max(charges)), int(min(charges))): float(energy)
        for levels in thermodynamics.transition_level_map.values()
        for energy, charges in levels.items()
    }
    charges = sorted(energies, reverse=True)
    pairs = {pair: energies[pair[1]] - energies[pair[0]] for pair in pairwise(charges)}
    levels = {
        pair: difference / (pair[0] - pair[1]) - edges.vbm for pair, difference in pairs.items()
    }
    return [
        Level(
            defect=defect.name,
            from_charge=pair[0],
            to_charge=pair[1],
            energy=stable.get(pair, levels.get(pair, 0.0)),
            thermodynamic=pair in stable,
        )
        for pair in sorted({*levels, *stable}, reverse=True)
    ]


def _thermodynamics(
    defect: Defect,
    host: Host,
    energies: dict[int, float],
    host_energy: float,
    edges: BandEdges,
) -> Any:
    from doped.thermodynamics import DefectThermodynamics
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    entries = []
    for charge, energy in energies.items():
        entry = doped_entry(defect, charge=charge)
        entry.sc_entry = ComputedStructureEntry(defect.supercell, energy)
        entry.bulk_entry = ComputedStructureEntry(host.supercell, host_energy)
        entry.calculation_metadata = {"vbm": edges.vbm, "band_gap": edges.gap}
        entries.append(entry)
    with quiet():
        return DefectThermodynamics(
            entries, vbm=edges.vbm, band_gap=edges.gap, check_compatibility=False
        )
