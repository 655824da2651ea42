"""Vibrations of defect cells, and what they do to energies at a temperature."""

from __future__ import annotations

from pydantic import Field, StrictInt

from defect_mf_flows.schemas.base import Document, PeriodicStructure


class Thermal(Document):
    """Harmonic thermodynamics of a cell at one temperature.

    Attributes
    ----------
    temperature
        K.
    free_energy, internal_energy
        Of the vibrations, zero-point energy included, eV per cell.
    entropy
        Of the vibrations, eV/K per cell.
    """

    temperature: float = Field(ge=0)
    free_energy: float
    internal_energy: float
    entropy: float


class Vibrations(Document):
    """Harmonic vibrations of a minimum on one head of a model, at the centre of the zone.

    Attributes
    ----------
    defect, charge, spin
        Whose minimum; ``defect`` is None where a file gave the geometry.
    head
        Head that computed the forces.
    model_hash
        SHA-256 of the model.
    energy
        Static energy of the minimum, eV per cell.
    volume
        Of the cell, Angstrom^3.
    max_force
        Largest residual force, eV/Angstrom.
    moved
        Largest displacement of an atom by the relaxation before, Angstrom; 0 without one.
    followed
        How many imaginary modes the relaxation had to follow downhill.
    step
        Finite displacement, Angstrom.
    n_displacements
        Displaced cells, after symmetry.
    phonon_energies
        Of the 3N - 3 modes without the translations, ascending, eV.
    softest
        Lowest of them as computed; negative if imaginary, eV.
    softened
        Modes below the noise, taken at its limit.
    translation
        Largest energy of a translation before the sum rule was imposed, eV: noise of the forces.
    thermal
        Per temperature.
    structure
        The minimum.
    """

    defect: str | None
    charge: StrictInt
    spin: StrictInt | None = None
    head: str
    model_hash: str
    energy: float
    volume: float
    max_force: float
    moved: float = 0.0
    followed: int = 0
    step: float
    n_displacements: int
    phonon_energies: list[float]
    softest: float
    softened: int = 0
    translation: float
    thermal: list[Thermal]
    structure: PeriodicStructure


class LevelShift(Document):
    """What vibrations do to a transition level.

    Attributes
    ----------
    upper, lower
        The more positive charge, and the other one.
    static
        Level without vibrations, eV above the valence-band maximum; None if it is not known.
    temperatures
        K.
    shifts
        To be added to the level at each temperature, eV; zero-point energies included.
    """

    upper: StrictInt
    lower: StrictInt
    static: float | None
    temperatures: list[float]
    shifts: list[float]


class QuasiHarmonic(Document):
    """Vibrations of one charge state in cells of several volumes.

    Attributes
    ----------
    defect, charge
        Whose.
    strains
        Linear strains of the cell.
    volumes
        Angstrom^3 per cell.
    energies
        Static energies of the minima, eV per cell.
    temperatures
        K.
    free_energies
        Static energy and vibrations at the volume of lowest free energy, eV per cell.
    equilibrium
        That volume per temperature, Angstrom^3.
    expansion
        Volumetric thermal expansion per temperature, 1/K.
    bulk_modulus
        At each temperature, GPa.
    """

    defect: str | None
    charge: StrictInt
    strains: list[float]
    volumes: list[float]
    energies: list[float]
    temperatures: list[float]
    free_energies: list[float]
    equilibrium: list[float]
    expansion: list[float]
    bulk_modulus: list[float]


class VibrationReport(Document):
    """Vibrations of the charge states of one defect.

    Attributes
    ----------
    source
        Campaign or files that model and geometries come from.
    head
        Head that computed the forces of all.
    states
        The more positive charges first.
    shifts
        Of levels between charges that follow on each other.
    quasi_harmonic
        Per charge; empty unless asked for.
    notes
        What the reader must know.
    """

    source: str
    head: str
    states: list[Vibrations]
    shifts: list[LevelShift] = Field(default_factory=list)
    quasi_harmonic: list[QuasiHarmonic] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
