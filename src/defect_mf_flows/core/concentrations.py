"""Equilibrium Fermi level and defect concentrations through doped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.core.defects import quiet
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.schemas.calculation import BandEdges
from defect_mf_flows.schemas.levels import Concentrations, DefectConcentration

#: hbar^2 / (2 m_e), eV Angstrom^2.
KINETIC = 3.80998212
#: Depth of the parabolic bands and spacing of energies, eV; the bands' ends are empty up to
#: 2000 K, and sums over this grid miss the closed form by less than 0.1 % at 300 K.
DEPTH, SPACING = 3.0, 5e-4
#: A density of states whose band edges differ by more is of another method or cell, eV.
EDGE_TOLERANCE = 0.1
#: Largest spacing of its energies, eV: about kT at room temperature.
COARSE = 0.03


@dataclass(frozen=True)
class Conditions:
    """What concentrations are asked for.

    Attributes
    ----------
    temperature
        K.
    frozen_from
        K, or None for full equilibrium at ``temperature``.
    dopant
        Fixed charge of an extrinsic dopant, cm^-3; donors positive.
    """

    temperature: float
    frozen_from: float | None = None
    dopant: float = 0.0


def parabolic_dos(
    structure: Structure, edges: BandEdges, *, electron: float, hole: float
) -> tuple[Any, str]:
    """Density of states of two parabolic bands.

    Parameters
    ----------
    structure
        Any cell of the host; its volume counts.
    edges
        Band edges, eV.
    electron, hole
        Density-of-states effective masses, in free-electron masses; the number of equivalent
        valleys is part of them (m = N^(2/3) (m1 m2 m3)^(1/3)).

    Returns
    -------
    dos
        pymatgen's ``FermiDos``.
    label
        Says what it is.

    Notes
    -----
    Per band g(E) = V / (2 pi^2) (2 m / hbar^2)^(3/2) sqrt(E), both spins, E from the band edge.
    """
    from pymatgen.electronic_structure.core import Spin
    from pymatgen.electronic_structure.dos import Dos, FermiDos

    if electron <= 0 or hole <= 0:
        raise ResultsError(
            f"effective masses {electron:g} and {hole:g}: both are positive, in electron masses."
        )
    if edges.gap <= 2 * SPACING:
        raise ResultsError("parabolic bands need a host with a band gap; give --gap.")
    energies = np.arange(edges.vbm - DEPTH, edges.cbm + DEPTH, SPACING)
    # The edges themselves lie on the grid, else the bands would seem further apart.
    energies = np.unique(np.round(np.concatenate([energies, [edges.vbm, edges.cbm]]), 9))

    def band(depth: np.ndarray, mass: float) -> np.ndarray:
        root = np.sqrt(np.clip(depth, 0.0, None))
        return np.asarray(structure.volume / (2 * np.pi**2) * (mass / KINETIC) ** 1.5 * root)

    valence = band(edges.vbm - energies, hole)
    density = valence + band(energies - edges.cbm, electron)
    # The class scales the valence band to this number of electrons: here, to what it holds.
    held = float(np.trapezoid(valence, energies))
    dos = FermiDos(
        Dos((edges.vbm + edges.cbm) / 2, energies, {Spin.up: density}), structure, nelecs=held
    )
    return dos, f"parabolic bands, effective masses {electron:g} (electrons), {hole:g} (holes)"


def vasprun_dos(path: Path, edges: BandEdges) -> tuple[Any, str]:
    """Density of states of a VASP run of the host.

    Parameters
    ----------
    path
        ``vasprun.xml`` or ``vasprun.xml.gz``.
    edges
        Band edges that the levels count from, eV.

    Returns
    -------
    dos
        pymatgen's ``FermiDos``, moved so that its valence-band maximum is that of ``edges``.
    label
        Says where it is from.

    Raises
    ------
    ResultsError
        If the file holds no density of states, a smeared one, or one with another band gap.
    """
    from doped.thermodynamics import get_fermi_dos
    from pymatgen.electronic_structure.dos import Dos, FermiDos
    from pymatgen.io.vasp.outputs import Vasprun

    try:
        with quiet():
            run = Vasprun(str(path), parse_dos=True, parse_potcar_file=False)
            edges_found: Any = run.eigenvalue_band_properties
            gap, _, vbm, _ = edges_found
            dos = get_fermi_dos(run)
    except Exception as error:  # whatever pymatgen says to a file that is cut or another's
        raise ResultsError(
            f"{path}: no density of states can be read: {str(error)[:200]}; give the vasprun.xml "
            "of a static run of the host with a dense k-point grid, or --masses."
        ) from None
    if abs(gap - edges.gap) > EDGE_TOLERANCE:
        raise ResultsError(
            f"{path}: its band gap is {gap:.3f} eV and the levels' is {edges.gap:.3f} eV; give the "
            "density of states of the same method, or the gap that it has with --gap."
        )
    # doped's tolerance: VASP writes four digits.
    smeared = gap - float(dos.get_gap(tol=1e-4, abs_tol=True))
    spacing = float(np.diff(dos.energies).max())
    if abs(smeared) > EDGE_TOLERANCE + 2 * spacing or spacing > COARSE:
        raise ResultsError(
            f"{path}: the gap of its density of states is {smeared:.3f} eV smaller than that of "
            f"its eigenvalues, at {spacing:.3f} eV per point: smeared or coarse, and carriers "
            "depend on the edges exponentially; give a run with ISMEAR = -5 and NEDOS above 3000."
        )
    moved = Dos(dos.efermi - vbm + edges.vbm, dos.energies - vbm + edges.vbm, dos.densities)
    return FermiDos(moved, dos.structure, nelecs=dos.nelecs), f"{path.name}"


def equilibrium(
    thermodynamics: Any,
    dos: Any,
    conditions: Conditions,
    *,
    potentials: dict[str, float],
    label: str,
) -> Concentrations:
    """Solve for charge neutrality.

    Parameters
    ----------
    thermodynamics
        doped's ``DefectThermodynamics``.
    dos
        ``FermiDos`` of the host.
    conditions
        Temperatures and dopant.
    potentials
        Chemical potential per element on the calculations' energy scale, eV per atom.
    label
        Where the density of states comes from.

    Returns
    -------
    Concentrations
        In the dilute limit, with doped's competition for sites.
    """
    try:
        level, electrons, holes, table = _balance(thermodynamics, dos, conditions, potentials)
    except ValueError as error:
        if "different signs" not in str(error):  # of the root finder
            raise
        raise ResultsError(
            f"no Fermi level balances the charges at {conditions.temperature:g} K: some charged "
            "defect forms at no cost wherever it lies, so the chemical potentials are not those of "
            "a stable host; give --mu or --limits on the scale of the calculations' energies."
        ) from None
    factors = {
        (name.rpartition("_")[0], entry.charge_state): entry
        for name, entry in thermodynamics.defect_entries.items()
    }
    found = []
    for (name, charge), row in table.iterrows():
        if name == "Dopant":
            continue
        entry = factors.get((name, int(charge)))
        weight = 1.0 if entry is None else float(np.prod(list(entry.degeneracy_factors.values())))
        found.append(
            DefectConcentration(
                defect=str(name),
                charge=int(charge),
                concentration=float(row["Concentration (cm^-3)"]),
                formation=float(row["Formation Energy (eV)"]),
                degeneracy=weight,
            )
        )
    return Concentrations(
        temperature=conditions.temperature,
        frozen_from=conditions.frozen_from,
        fermi_level=float(level),
        electrons=float(electrons),
        holes=float(holes),
        dopant=conditions.dopant,
        defects=found,
        dos=label,
    )


def neutrality(found: Concentrations) -> float:
    """Charge left over, relative to the charges that should cancel.

    Parameters
    ----------
    found
        Concentrations.

    Returns
    -------
    float
        0 for perfect neutrality.
    """
    charges = [d.charge * d.concentration for d in found.defects]
    terms = [found.holes, -found.electrons, found.dopant, *charges]
    return float(abs(sum(terms)) / max(sum(abs(t) for t in terms), 1e-300))


def _balance(
    thermodynamics: Any, dos: Any, conditions: Conditions, potentials: dict[str, float]
) -> tuple[float, float, float, Any]:
    """Fermi level, electrons, holes, and doped's table of concentrations."""
    common: dict[str, Any] = {
        "chempots": potentials,
        "effective_dopant_concentration": conditions.dopant or None,
    }
    with quiet():
        thermodynamics._bulk_dos = dos  # the setter only warns about edges, which are checked here
        if conditions.frozen_from is None:
            level, electrons, holes = thermodynamics.get_equilibrium_fermi_level(
                temperature=conditions.temperature, return_concs=True, **common
            )
            table = thermodynamics.get_equilibrium_concentrations(
                chempots=potentials,
                fermi_level=level,
                temperature=conditions.temperature,
                skip_formatting=True,
            )
        else:
            level, electrons, holes, table = thermodynamics.get_fermi_level_and_concentrations(
                annealing_temperature=conditions.frozen_from,
                quenched_temperature=conditions.temperature,
                skip_formatting=True,
                **common,
            )
    return level, electrons, holes, table
