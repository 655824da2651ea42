"""Reference calculations: a relaxation or a single point, with its frames or its failure."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import Field, StrictInt, model_validator

from defect_mf_flows.errors import ChargeError, DatasetError, FidelityError
from defect_mf_flows.schemas.base import Document, PeriodicStructure, StoredDocument, Vector
from defect_mf_flows.schemas.frame import Frame


class CalculationKind(StrEnum):
    """What a reference calculation does."""

    RELAX = "relax"
    STATIC = "static"


class FailureReason(StrEnum):
    """Why a calculation, or one of its frames, was left out."""

    SCF = "scf_not_converged"
    EXPLODED = "exploded"
    NOT_FINITE = "not_finite"
    UNPHYSICAL_ENERGY = "unphysical_energy"
    ATOMS_TOO_CLOSE = "atoms_too_close"
    DUPLICATE = "duplicate"
    EXTRAPOLATED = "extrapolated"
    STEPS = "steps_exhausted"
    HIGH_ENERGY = "high_energy"
    WALLTIME = "walltime"
    MEMORY = "memory"
    START = "start_structure"
    LOST = "process_lost"
    OTHER = "other"


class Failure(Document):
    """A failure is a document too: recorded, excluded and counted.

    Attributes
    ----------
    stage
        Stage of the campaign in which it happened.
    reason
        One of the counted reasons.
    message
        What was seen, in one line.
    fidelity, defect, charge, start
        What it happened to.
    """

    stage: str
    reason: FailureReason
    message: str
    fidelity: str | None = None
    defect: str | None = None
    charge: StrictInt
    start: str


class BandEdges(Document):
    """Band edges of the pristine host, eV on the engine's own energy scale.

    Attributes
    ----------
    vbm, cbm
        Valence-band maximum and conduction-band minimum.
    """

    vbm: float
    cbm: float

    @property
    def gap(self) -> float:
        """Band gap, eV."""
        return self.cbm - self.vbm


class FrontierLevel(Document):
    """Levels next to the gap at one k-point, eV on the engine's own energy scale.

    Attributes
    ----------
    kpoint
        Fractional coordinates, to four decimals.
    occupied, empty
        Highest occupied and lowest empty level of both spins; None where the k-point has none.
    """

    kpoint: tuple[float, float, float]
    occupied: float | None
    empty: float | None


class EngineRecord(Document):
    """Which program computed a label, with which settings.

    Attributes
    ----------
    name
        Program or calculator.
    version
        Its version.
    settings
        Everything passed to it, the charge included.
    """

    name: str
    version: str
    settings: dict[str, Any] = Field(default_factory=dict)


class Guide(Document):
    """Cheaper method that guided a relaxation.

    Attributes
    ----------
    fidelity
        Its name.
    engine
        Its program, version and settings, the charge included.
    calls
        Its energy-and-force evaluations.
    calls_saved
        Those that an earlier calculation made for this one.
    """

    fidelity: str
    engine: EngineRecord
    calls: int = Field(ge=0)
    calls_saved: int = Field(0, ge=0)


class ImportRecord(Document):
    """Where an imported calculation comes from, and what its own files tell of it.

    Attributes
    ----------
    path
        File that was read, absolute, as it was then; its OUTCAR has the core potentials that
        finite-size corrections need. For people and for later steps on the same machine.
    digest
        SHA-256 of the file's uncompressed content, which decides whether it is another file.
    part
        Number of the calculation within a file that holds several.
    method
        Settings that must agree within a fidelity.
    accuracy
        Settings that were only compared and reported.
    kpoints
        k-point grid, or the number of k-points.
    site
        Fractional coordinates of the defect in the host's cell, shape (3,); None for the host.
    magnetization
        Total moment, Bohr magnetons, if told.
    relaxed
        Whether the program said that a relaxation had ended.
    notes
        What was reported when it was imported.
    """

    path: str
    digest: str
    part: int = 0
    method: dict[str, Any] = Field(default_factory=dict)
    accuracy: dict[str, Any] = Field(default_factory=dict)
    kpoints: str = ""
    site: Vector | None = None
    magnetization: float | None = None
    relaxed: bool = False
    notes: list[str] = Field(default_factory=list)


class Calculation(StoredDocument):
    """One finished reference calculation.

    Attributes
    ----------
    kind, fidelity
        What was done, with which method.
    defect, charge, spin, start
        To what it was done; ``defect`` is None for the host.
    n_atoms
        Number of atoms of the cell.
    converged
        Forces below the threshold (always True for a single point that ended).
    failure
        Why it stopped early, or None. Frames up to the failure are kept.
    n_calls
        Energy-and-force evaluations spent.
    seconds
        Wall time spent.
    engine
        Program, version, settings.
    band_edges
        Only where the engine gives them.
    frontier
        Levels next to the gap per k-point of the last geometry, which tell whether carriers are
        in the host's bands; None where the engine does not give them.
    final_energy
        eV per cell of the last frame, or None.
    final_structure
        Last geometry, charge attached, or None.
    site_potentials
        Electrostatic potential at the cores of the last geometry as felt by a positive charge, V,
        in its order of atoms, which corrections of charged cells need; None where the engine
        does not give them.
    n_frames
        Number of frames.
    lowest_energy
        Lowest energy of any frame, eV per cell; None without frames, and in documents that
        were written before this was recorded.
    input_hash
        SHA-256 of everything that decides the outcome; None where the engine cannot tell.
    imported
        Where it comes from if no campaign computed it; None otherwise.
    reused_from
        uuid of the calculation whose outcome this one is; None if it was computed. A reused
        calculation cost this campaign nothing: no call, no second.
    calls_saved
        Calls that earlier calculations made for it, so that it did not: all of a reused
        calculation's, and those of a relaxation that stopped where this one goes on (VASP: the
        ionic steps that it takes over). 0 in documents from before this was recorded.
    curvature_from
        uuid of the job that asked a model for the curvature from which the minimiser began; None
        where it began from springs of its own, or from nothing.
    guide
        The cheaper method by which the relaxation was guided, and what that cost; None without.
    notes
        What the engine tried in vain before a step succeeded, one line each.
    frames
        Every ionic step; kept in the additional store ``data``.
    """

    kind: CalculationKind
    fidelity: str
    defect: str | None
    charge: StrictInt
    spin: StrictInt | None = None
    start: str
    n_atoms: int
    converged: bool
    failure: Failure | None = None
    n_calls: int = Field(ge=0)
    seconds: float = Field(ge=0)
    engine: EngineRecord
    band_edges: BandEdges | None = None
    frontier: list[FrontierLevel] | None = None
    final_energy: float | None = None
    final_structure: PeriodicStructure | None = None
    site_potentials: list[float] | None = None
    n_frames: int
    lowest_energy: float | None = None
    input_hash: str | None = None
    imported: ImportRecord | None = None
    reused_from: str | None = None
    calls_saved: int = Field(0, ge=0)
    curvature_from: str | None = None
    guide: Guide | None = None
    notes: list[str] = Field(default_factory=list)
    frames: list[Frame] = Field(default_factory=list)

    @property
    def out_of_steps(self) -> bool:
        """True if it stopped at its limit of steps."""
        return self.failure is not None and self.failure.reason is FailureReason.STEPS

    @model_validator(mode="after")
    def _check(self) -> Calculation:
        where = f"calculation {self.start} {self.job_uuid}"
        if self.site_potentials is not None and len(self.site_potentials) != self.n_atoms:
            raise DatasetError(
                f"{where}: {len(self.site_potentials)} site potentials for {self.n_atoms} atoms; "
                "it was altered, compute it again."
            )
        charges: set[float | None] = {frame.charge for frame in self.frames}
        if self.final_structure is not None:
            charges.add(self.final_structure._charge)
        if self.failure is not None:
            charges.add(self.failure.charge)
        if charges - {self.charge}:
            raise ChargeError(
                f"{where}: its parts have charges {charges}, itself {self.charge}; it was "
                "altered, compute it again."
            )
        if self.guide is not None and self.guide.fidelity == self.fidelity:
            raise FidelityError(
                f"{where}: it is guided by its own fidelity {self.fidelity!r}; it was altered, "
                "compute it again."
            )
        if {frame.fidelity for frame in self.frames} - {self.fidelity}:
            raise FidelityError(
                f"{where}: its frames are not of its fidelity {self.fidelity!r}; it was altered, "
                "compute it again."
            )
        return self
