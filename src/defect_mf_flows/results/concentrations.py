"""Equilibrium Fermi level and concentrations of stored calculations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymatgen.core import Structure

from defect_mf_flows.core.concentrations import (
    Conditions,
    equilibrium,
    parabolic_dos,
    vasprun_dos,
)
from defect_mf_flows.core.defects import quiet
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.results.correcting import HostCell
from defect_mf_flows.results.limits import Origin, exchanged
from defect_mf_flows.schemas.calculation import BandEdges, Calculation
from defect_mf_flows.schemas.levels import ChargeState, Concentrations


@dataclass(frozen=True)
class ConcentrationOptions:
    """What concentrations need besides levels.

    Attributes
    ----------
    temperatures
        K.
    frozen_from
        K at which defects freeze in; None: they equilibrate at every temperature.
    dopant
        Fixed charge of an extrinsic dopant, cm^-3.
    dos
        vasprun.xml of the host with a density of states.
    masses
        Effective masses of electrons and holes for parabolic bands, where there is none.
    """

    temperatures: tuple[float, ...] = (300.0,)
    frozen_from: float | None = None
    dopant: float = 0.0
    dos: Path | None = None
    masses: tuple[float, float] | None = None


def concentrations_of(
    states: list[ChargeState],
    origins: Mapping[str, Origin],
    edges: BandEdges,
    places: Sequence[Mapping[str, float]],
    options: ConcentrationOptions,
) -> list[list[Concentrations]]:
    """Concentrations of the lowest minimum of every charge state.

    Parameters
    ----------
    states
        With the lowest of every charge marked.
    origins
        Calculation and host per label of a state.
    edges
        Band edges of the host, eV.
    places
        Sets of chemical potentials on the energies' scale, eV per atom.
    options
        See the class.

    Returns
    -------
    list of list of Concentrations
        Per set one per temperature.

    Raises
    ------
    ResultsError
        If there is no density of states, a chemical potential is missing, or a defect is no
        single point defect.
    """
    grounds = [s for s in states if s.ground]
    cell = origins[grounds[0].label][1].structure
    dos, label = _density(cell, edges, options)
    for mu in places:
        _known_potentials(grounds, origins, mu)
    entries = [_entry(state, *origins[state.label], edges) for state in grounds]
    from doped.thermodynamics import DefectThermodynamics

    with quiet():
        thermodynamics = DefectThermodynamics(
            entries, vbm=edges.vbm, band_gap=edges.gap, check_compatibility=False
        )
    elements = {s.symbol for state in grounds for s in _cell(origins[state.label]).elements}
    return [
        [
            equilibrium(
                thermodynamics,
                dos,
                Conditions(temperature, options.frozen_from, options.dopant),
                potentials={symbol: mu.get(symbol, 0.0) for symbol in sorted(elements | set(mu))},
                label=label,
            )
            for temperature in options.temperatures
        ]
        for mu in places
    ]


def _density(cell: Structure, edges: BandEdges, options: ConcentrationOptions) -> tuple[Any, str]:
    if options.dos is not None and options.masses is not None:
        raise ResultsError("give --dos or --masses, not both.")
    if options.dos is not None:
        return vasprun_dos(options.dos, edges)
    if options.masses is not None:
        electron, hole = options.masses
        return parabolic_dos(cell, edges, electron=electron, hole=hole)
    raise ResultsError(
        "concentrations need the host's density of states: give --dos vasprun.xml of a static run "
        "of the host, or --masses ME MH (effective masses) for parabolic bands."
    )


def _cell(origin: Origin) -> Structure:
    structure = origin[0].final_structure
    assert structure is not None
    return structure


def _known_potentials(
    grounds: list[ChargeState], origins: Mapping[str, Origin], mu: Mapping[str, float]
) -> None:
    """Refuse chemical potentials of zero: concentrations depend on them exponentially."""
    missing: dict[str, str] = {}
    for state in grounds:
        change = exchanged(*origins[state.label])
        missing |= {symbol: state.defect for symbol in change if symbol not in mu}
    if missing:
        names = ", ".join(f"--mu {symbol}=..." for symbol in sorted(missing))
        raise ResultsError(
            f"concentrations need the chemical potential of every element that a defect adds or "
            f"removes: give {names} (eV per atom, on the scale of the calculations' energies)."
        )


def _entry(state: ChargeState, calculation: Calculation, host: HostCell, edges: BandEdges) -> Any:
    """Doped's entry of one state; its degeneracies are doped's, from the symmetries."""
    from doped.analysis import defect_and_info_from_structures
    from doped.core import DefectEntry
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    structure = calculation.final_structure
    assert structure is not None
    try:
        with quiet():
            defect, site, metadata = defect_and_info_from_structures(host.structure, structure)
    except Exception as error:  # doped names no class for cells that are no single defect
        raise ResultsError(
            f"{state.label} ({state.defect} {state.charge:+d}): its site cannot be found, so it "
            f"has no concentration: {str(error)[:150]}; leave it out with --defect."
        ) from None
    spin = calculation.spin
    charge = f"{state.charge:+d}" if state.charge else "0"
    correction = state.correction.energy if state.correction else 0.0
    return DefectEntry(
        defect=defect,
        charge_state=state.charge,
        sc_entry=ComputedStructureEntry(structure, state.energy),
        bulk_entry=ComputedStructureEntry(host.structure, host.energy),
        sc_defect_frac_coords=tuple(float(x) for x in site.frac_coords),  # type: ignore[arg-type]
        defect_supercell_site=site,
        defect_supercell=structure,
        bulk_supercell=host.structure,
        corrections={"finite size": correction},
        calculation_metadata={**metadata, "vbm": edges.vbm, "band_gap": edges.gap},
        degeneracy_factors={} if spin is None else {"spin degeneracy": float(spin + 1)},
        name=f"{state.defect}_{charge}",
    )
