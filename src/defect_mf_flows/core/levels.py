"""Charge transition levels through doped."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pymatgen.core import Structure

from defect_mf_flows.core.defects import doped_entry, quiet
from defect_mf_flows.schemas.calculation import BandEdges
from defect_mf_flows.schemas.defect import Defect, Host
from defect_mf_flows.schemas.levels import Correction, CorrectionMethod

#: doped's names: one that doped computes later replaces ours instead of adding to it.
CORRECTION_NAMES = {
    CorrectionMethod.EFNV: "kumagai_charge_correction",
    CorrectionMethod.FNV: "freysoldt_charge_correction",
    CorrectionMethod.POINT_CHARGE: "point_charge_correction",
    CorrectionMethod.NONE: "no_correction",
}


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


@dataclass(frozen=True)
class State:
    """A charge state.

    Attributes
    ----------
    energy
        eV per cell, without a correction.
    structure
        Geometry.
    correction
        Finite-size correction of its energy, or None.
    residual_force
        Largest force left, eV/Angstrom, where the relaxation ran out of steps; else None.
    lower_by
        How far below lies a geometry of which no relaxation ended, eV per cell; else None.
    """

    energy: float
    structure: Structure
    correction: Correction | None = None
    residual_force: float | None = None
    lower_by: float | None = None


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
    found = thermodynamics(
        [defect],
        host,
        states={
            (defect.name, q): State(energy, defect.supercell) for q, energy in energies.items()
        },
        host_energy=host_energy,
        edges=edges,
    )
    stable = {
        (int(max(charges)), int(min(charges))): float(energy)
        for levels in found.transition_level_map.values()
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


def thermodynamics(
    defects: list[Defect],
    host: Host,
    *,
    states: dict[tuple[str, int], State],
    host_energy: float,
    edges: BandEdges,
    fidelity: str | None = None,
) -> Any:
    """Doped's ``DefectThermodynamics`` of relaxed charge states.

    Parameters
    ----------
    defects, host
        Defects, and the pristine supercell.
    states
        Ground state of every (defect, charge) that is known.
    host_energy
        Pristine supercell at the same fidelity, eV per cell.
    edges
        Band edges of the host, eV.
    fidelity
        Method of all energies, which the entries then carry.

    Returns
    -------
    doped.thermodynamics.DefectThermodynamics
        With the corrections that the states have, under doped's own names for them.
    """
    from doped.thermodynamics import DefectThermodynamics

    labels = {} if fidelity is None else {"fidelity": fidelity}
    entries = [
        _entry(defect, host, charge, state, host_energy, edges, labels)
        for defect in defects
        for (name, charge), state in states.items()
        if name == defect.name
    ]
    with quiet():
        # A small dist_tol: each defect keeps levels of its own, as in transition_levels.
        return DefectThermodynamics(
            entries, vbm=edges.vbm, band_gap=edges.gap, dist_tol=0.1, check_compatibility=False
        )


def _entry(
    defect: Defect,
    host: Host,
    charge: int,
    state: State,
    host_energy: float,
    edges: BandEdges,
    labels: dict[str, str],
) -> Any:
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    entry = doped_entry(defect, charge=charge)
    parameters = {**labels, "charge": charge}
    entry.sc_entry = ComputedStructureEntry(state.structure, state.energy, parameters=parameters)
    entry.bulk_entry = ComputedStructureEntry(host.supercell, host_energy, parameters=dict(labels))
    entry.calculation_metadata = {"vbm": edges.vbm, "band_gap": edges.gap, **labels}
    if state.residual_force is not None:
        entry.calculation_metadata["residual_force"] = state.residual_force
    if state.lower_by is not None:
        entry.calculation_metadata["lower_by"] = state.lower_by
    if state.correction is not None:
        _correct(entry, state.correction)
    return entry


def _correct(entry: Any, correction: Correction) -> None:
    """Give a correction to doped's entry, with what is known of it."""
    name = CORRECTION_NAMES[correction.method]
    entry.corrections = {name: correction.energy}
    entry.corrections_metadata = {
        name: correction.model_dump(
            mode="json",
            include={
                "method", "charge", "point_charge", "alignment", "far_potential", "spread",
                "dielectric", "source",
            },
        )
    }  # fmt: skip
