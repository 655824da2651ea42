"""Corrections of charged cells, and levels made of energies with them."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, StrictInt

from defect_mf_flows.schemas.base import Document, Matrix, StoredDocument, Vector
from defect_mf_flows.schemas.calculation import BandEdges


class CorrectionMethod(StrEnum):
    """How the energy of a charged cell was corrected for its finite size."""

    EFNV = "eFNV"
    FNV = "FNV"
    POINT_CHARGE = "point charge"
    NONE = "none"


class Correction(StoredDocument):
    """Finite-size correction of one charged cell, to be added to its energy.

    Attributes
    ----------
    method
        ``point charge`` leaves the potential alignment out and is often no better than none.
    defect, charge
        Which defect.
    energy
        eV per cell; the sum of ``point_charge`` and ``alignment``.
    point_charge, alignment
        Interaction with the images, and the potential far from the defect, eV per cell.
    far_potential
        Mean difference of the cores' potentials from the host's far from the defect, V, as felt
        by a positive charge; None where there are none. Known for neutral cells too, whose
        energy needs no correction.
    spread
        Standard deviation of the potential among the atoms it was averaged over, V; large if the
        charge is not localised at the site. None where there was no average.
    n_sites
        Number of those atoms.
    site
        Fractional coordinates that were taken for the charge's centre, shape (3,).
    dielectric
        Shape (3, 3).
    key
        SHA-256 of geometry, charge, method and dielectric tensor: the same minimum is not
        corrected twice.
    source
        Files that the potentials came from.
    """

    method: CorrectionMethod
    defect: str | None = None
    charge: StrictInt
    energy: float
    point_charge: float = 0.0
    alignment: float = 0.0
    far_potential: float | None = None
    spread: float | None = None
    n_sites: int = 0
    site: Vector | None = None
    dielectric: Matrix | None = None
    key: str = ""
    source: list[str] = Field(default_factory=list)


class ChargeState(Document):
    """A minimum of one charge state with its corrected energy.

    Attributes
    ----------
    defect, charge
        Which defect.
    label
        Where the minimum comes from.
    energy
        eV per cell, without correction.
    correction
        Of its finite cell; None for a neutral cell.
    formation
        Corrected formation energy with the Fermi level at the valence-band maximum, eV; relative
        to the neutral host and to ``mu`` of the report.
    ground
        Whether it is the lowest of its charge.
    above
        eV above the lowest of its charge, corrections included.
    perturbed_host
        Why its carriers seem to lie in the host's bands, or None if nothing points to it.
    """

    defect: str
    charge: StrictInt
    label: str
    energy: float
    correction: Correction | None = None
    formation: float
    ground: bool
    above: float
    perturbed_host: str | None = None


class LevelPair(Document):
    """A transition level.

    Attributes
    ----------
    defect, from_charge, to_charge
        ``from_charge`` is the more positive one, stable below the level.
    energy
        eV above the valence-band maximum.
    stable
        False if one of the two charges is nowhere the most stable: a metastable level.
    in_gap
        Whether it lies between the band edges.
    perturbed_host
        Charges of the two whose carriers seem to lie in the host's bands: the level is none of
        the defect, and an artefact of the cell's size.
    """

    defect: str
    from_charge: StrictInt
    to_charge: StrictInt
    energy: float
    stable: bool
    in_gap: bool
    perturbed_host: list[StrictInt] = Field(default_factory=list)


class NegativeU(Document):
    """A charge state that is skipped: the next two levels are in inverted order.

    Attributes
    ----------
    defect, charge
        The charge that is nowhere stable.
    upper, lower
        The levels (charge+1/charge) and (charge/charge-1), eV above the valence-band maximum.
    u
        Effective U, eV: the second minus the first; negative.
    """

    defect: str
    charge: StrictInt
    upper: float
    lower: float
    u: float


class LevelSpread(Document):
    """A level with the uncertainty that a committee gives it.

    Attributes
    ----------
    from_charge, to_charge
        As in :class:`LevelPair`.
    energy
        From the source's own energies, eV above the valence-band maximum.
    mean, sd
        Over the draws, eV.
    interval
        2.5 and 97.5 % of the draws, eV.
    stable
        Share of the draws in which both charges are the most stable at the level.
    """

    from_charge: StrictInt
    to_charge: StrictInt
    energy: float
    mean: float
    sd: float
    interval: tuple[float, float]
    stable: float


class LevelOrder(Document):
    """Which of two levels of a defect lies below the other.

    Attributes
    ----------
    lower, upper
        Charges of the level that lies lower in most draws, and of the other.
    probability
        Share of the draws in which it does.
    """

    lower: tuple[StrictInt, StrictInt]
    upper: tuple[StrictInt, StrictInt]
    probability: float


class ChargeShare(Document):
    """How often a charge state is stable.

    Attributes
    ----------
    charge
        The charge.
    ever
        Share of the draws in which it is the most stable for some Fermi level.
    in_gap
        The same for a Fermi level between the band edges.
    """

    charge: StrictInt
    ever: float
    in_gap: float


class LevelUncertainty(Document):
    """What a committee says of the levels of one defect and of their order.

    Attributes
    ----------
    defect
        Which defect.
    source
        ``"model"``: energies of the model's minima; ``"hf"``: verified energies, lowered where
        the committee holds it possible that a minimum that was not verified lies deeper.
    members
        Size of the committee.
    scale
        Factor on the members' spread, from the calibration.
    draws
        Number of draws.
    levels, orders, charges
        The levels, the order of every two of them, and the charges.
    """

    defect: str
    source: str
    members: int
    scale: float
    draws: int
    levels: list[LevelSpread]
    orders: list[LevelOrder]
    charges: list[ChargeShare]


class DefectConcentration(Document):
    """Concentration of one charge state.

    Attributes
    ----------
    defect, charge
        Which charge state.
    concentration
        cm^-3.
    formation
        Formation energy at the Fermi level, eV.
    degeneracy
        Product of spin and orientational degeneracy and of the equivalent sites per host site.
    """

    defect: str
    charge: StrictInt
    concentration: float
    formation: float
    degeneracy: float


class Concentrations(Document):
    """Equilibrium of charges between defects and bands.

    Attributes
    ----------
    temperature
        K.
    frozen_from
        K: defects equilibrate at this temperature, and only their charges at ``temperature``.
        None: defects equilibrate at ``temperature`` too.
    fermi_level
        eV above the valence-band maximum.
    electrons, holes
        cm^-3.
    dopant
        Fixed charge of an extrinsic dopant, cm^-3: donors positive.
    defects
        One per charge state.
    dos
        Where the density of states of the host comes from.
    """

    temperature: float
    frozen_from: float | None
    fermi_level: float
    electrons: float
    holes: float
    dopant: float
    defects: list[DefectConcentration]
    dos: str


class LimitEnergy(Document):
    """Formation energy of one minimum at a limit of the chemical potentials.

    Attributes
    ----------
    defect, charge, label
        Which minimum.
    energy
        Corrected formation energy with the Fermi level at the valence-band maximum, eV.
    ground
        Whether it is the lowest of its charge.
    """

    defect: str
    charge: StrictInt
    label: str
    energy: float
    ground: bool


class ChemicalLimit(Document):
    """A limit of the chemical potentials, for example Zn-rich; levels do not depend on it.

    Attributes
    ----------
    name
        As it was given.
    mu
        Chemical potential per element, eV per atom.
    formation
        One per state of the report, in its order.
    concentrations
        One per temperature, where they were asked for.
    """

    name: str
    mu: dict[str, float]
    formation: list[LimitEnergy]
    concentrations: list[Concentrations] = Field(default_factory=list)


class LevelReport(Document):
    """Formation energies and transition levels of one fidelity.

    Attributes
    ----------
    fidelity
        Method of all energies.
    host
        Formula of the host.
    band_edges
        Of the host, eV on the energies' scale.
    edges_from
        Where they come from.
    dielectric
        Shape (3, 3), or None if nothing was corrected.
    mu
        Chemical potential per element, eV per atom, that formation energies are relative to.
        Those of elements that are missing count as 0, so that only differences have a meaning.
    states, levels, negative_u
        The science.
    limits
        Formation energies and concentrations at limits of the chemical potentials, where they
        were given; ``mu`` then holds the elements that no limit names.
    concentrations
        One per temperature, where they were asked for and no limits were given.
    notes
        What the reader must know before using a number.
    """

    fidelity: str
    host: str
    band_edges: BandEdges
    edges_from: str
    dielectric: Matrix | None
    mu: dict[str, float] = Field(default_factory=dict)
    states: list[ChargeState]
    levels: list[LevelPair]
    negative_u: list[NegativeU]
    limits: list[ChemicalLimit] = Field(default_factory=list)
    concentrations: list[Concentrations] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)
