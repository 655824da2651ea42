"""Configuration coordinate diagrams."""

from __future__ import annotations

from pydantic import Field, StrictInt

from defect_mf_flows.schemas.base import Document


class Anharmonic(Document):
    """A quartic through a whole curve.

    Attributes
    ----------
    coefficients
        Of the powers of the displacement, from the constant one: eV per (amu^(1/2) Angstrom)^n;
        zero at the minimum.
    minimum
        Its displacement, amu^(1/2) Angstrom.
    phonon_energy
        From the curvature at the minimum, eV.
    zero_point, fundamental
        Lowest level above the minimum and distance to the next, eV; None where the sampled
        range does not hold the level.
    fit_rmse
        Over all points, eV.
    """

    coefficients: list[float]
    minimum: float
    phonon_energy: float
    zero_point: float | None
    fundamental: float | None
    fit_rmse: float


class Curve(Document):
    """Energy of one charge state along the configuration coordinate.

    Attributes
    ----------
    charge
        Charge state.
    q, energies
        Displacement in amu^(1/2) Angstrom, and eV above the fitted minimum.
    minimum
        Displacement of the fitted minimum.
    phonon_energy
        Of the effective mode, eV.
    fit_rmse
        Of the parabola within its range, eV.
    lowest
        Lowest sampled energy, eV per cell, on the model's scale.
    anharmonic
        Quartic through all points; None where it has no minimum, and in older documents.
    """

    charge: StrictInt
    q: list[float]
    energies: list[float]
    minimum: float
    phonon_energy: float
    fit_rmse: float
    lowest: float
    anharmonic: Anharmonic | None = None


class Barrier(Document):
    """Capture of a carrier.

    Attributes
    ----------
    carrier
        ``"electron"`` (from the conduction band) or ``"hole"`` (from the valence band).
    initial, final
        Charges before and after.
    energy
        Energy that the capture sets free, eV.
    sampled, harmonic, anharmonic
        Barrier from the sampled curves, from the parabolas and from the quartics, eV; None if
        they do not cross.
    """

    carrier: str
    initial: StrictInt
    final: StrictInt
    energy: float
    sampled: float | None
    harmonic: float | None
    anharmonic: float | None = None


class CheckPoint(Document):
    """High fidelity on a point of a curve.

    Attributes
    ----------
    charge
        Whose curve.
    q
        Displacement, amu^(1/2) Angstrom.
    high, model
        Energies above those of the charge's own verified minimum, eV.
    calculation
        uuid of the high-fidelity calculation, which is in the store.
    """

    charge: StrictInt
    q: float
    high: float
    model: float
    calculation: str


class Capture(Document):
    """Nonradiative capture coefficients of a carrier (harmonic, one coordinate).

    Attributes
    ----------
    carrier, initial, final
        As in the barrier.
    coupling
        Electron-phonon matrix element that was given, eV/(amu^(1/2) Angstrom).
    degeneracy
        Equivalent final geometries.
    volume
        Of the cell, Angstrom^3.
    levels
        Vibrational levels of the initial charge that were summed over.
    smearing
        Width of Gaussians that stood for energy conservation in older documents, eV.
    temperatures
        K.
    coefficients
        cm^3/s at each temperature, without Sommerfeld factor.
    """

    carrier: str
    initial: StrictInt
    final: StrictInt
    coupling: float
    degeneracy: int
    volume: float
    levels: int | None = None
    smearing: float | None = None
    temperatures: list[float]
    coefficients: list[float]


class CoordinateDiagram(Document):
    """Two charge states of a defect along the line between their verified minima.

    Attributes
    ----------
    defect
        Name.
    source
        Whose energies the curves are.
    dq
        Distance of the two minima, amu^(1/2) Angstrom.
    level
        Transition level above the valence-band maximum, eV, that the curves are aligned by, and
        ``level_from`` where it comes from; None if the band edges are not known.
    gap
        Band gap, eV.
    curves
        The more positive charge first.
    huang_rhys
        Per charge: of the transition that ends on its curve.
    barriers
        Of electron and hole capture; empty if the band edges are not known.
    checks
        High fidelity on some points of the curves; empty unless asked for.
    check_rmse
        Per charge: of the model against them, the charge's own minimum left out, eV.
    capture
        Capture coefficients; empty unless asked for.
    notes
        What the reader must know.
    """

    defect: str
    source: str
    dq: float
    level: float | None
    level_from: str = ""
    gap: float | None
    curves: list[Curve]
    huang_rhys: dict[str, float]
    barriers: list[Barrier] = Field(default_factory=list)
    checks: list[CheckPoint] = Field(default_factory=list)
    check_rmse: dict[str, float] = Field(default_factory=dict)
    capture: list[Capture] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
