"""The host, its defects and their start structures."""

from __future__ import annotations

from itertools import combinations

from pydantic import Field, StrictInt, model_validator

from defect_mf_flows.errors import ChargeError
from defect_mf_flows.schemas.base import Document, PeriodicStructure, StoredDocument, Vector


class Host(Document):
    """The pristine supercell that every calculation shares.

    Attributes
    ----------
    formula
        Reduced formula.
    primitive
        Cell from which the supercell was made: as read from the campaign's structure file, or the
        supercell that the campaign names.
    supercell
        Pristine supercell, charge 0; its lattice is the one of every defect cell.
    structure_hash
        SHA-256 of the supercell.
    """

    formula: str
    primitive: PeriodicStructure
    supercell: PeriodicStructure
    structure_hash: str


class Defect(Document):
    """One defect in the supercell with the charge states to compute.

    Attributes
    ----------
    name
        Name as doped gives it, for example ``"v_Zn"``.
    charges
        Charge states, in elementary charges, without repeats.
    site
        Fractional coordinates of the defect site in ``supercell``, shape (3,).
    supercell
        Unrelaxed defect cell.
    neighbour_distance
        Shortest interatomic distance of the pristine host, Angstrom.
    entry
        doped's ``DefectEntry`` as JSON text (kept in the additional store ``data``). Text,
        because monty would turn a dictionary into the object whenever it reads one.
    """

    name: str
    charges: list[StrictInt] = Field(min_length=1)
    site: Vector
    supercell: PeriodicStructure
    neighbour_distance: float = Field(gt=0)
    entry: str = ""


class DefectSet(StoredDocument):
    """Every defect of a campaign in one host.

    Attributes
    ----------
    host
        The pristine host.
    defects
        The defects.
    """

    host: Host
    defects: list[Defect]

    def get(self, name: str) -> Defect:
        """Return the defect called ``name``."""
        return next(defect for defect in self.defects if defect.name == name)


class Environment(Document):
    """Distances at a defect in one geometry.

    Attributes
    ----------
    neighbours
        Atoms of the unrelaxed defect's first shell, for example ``"S19"``, nearest first.
    centre
        The atom on the defect's site, or None for an empty one.
    to_centre
        From each neighbour to that atom, or to the empty site, Angstrom.
    between
        Between the neighbours, Angstrom, in the order of ``itertools.combinations``.
    """

    neighbours: list[str]
    centre: str | None
    to_centre: list[float]
    between: list[float]

    def pairs(self) -> list[tuple[str, float]]:
        """Names and distances of the pairs of neighbours, in the order of ``between``."""
        names = [f"{a}\u2013{b}" for a, b in combinations(self.neighbours, 2)]
        return list(zip(names, self.between, strict=True))

    def to_site(self) -> list[tuple[str, float]]:
        """Names and distances from the neighbours to the centre, as in ``to_centre``."""
        names = [f"{a}\u2013{self.centre or 'site'}" for a in self.neighbours]
        return list(zip(names, self.to_centre, strict=True))


class StartStructure(Document):
    """A geometry from which a relaxation starts.

    Attributes
    ----------
    defect
        Name of the defect, or None for the host.
    charge, spin
        Charge state and unpaired electrons of the relaxation.
    label
        How the structure was made, for example ``"Bond_Distortion_-40.0%"``.
    structure
        The geometry; its charge equals ``charge``.
    seed
        Seed of its rattle, or None where nothing was random.
    """

    defect: str | None
    charge: StrictInt
    spin: StrictInt | None = None
    label: str
    structure: PeriodicStructure
    seed: int | None = None

    @model_validator(mode="after")
    def _charges_agree(self) -> StartStructure:
        if self.structure._charge != self.charge:
            raise ChargeError(
                f"start {self.label}: structure charge {self.structure._charge} is not the "
                f"charge state {self.charge}; attach it with core.charge.with_charge."
            )
        return self
