"""Results of the surrogate search and of its verification."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, StrictInt

from defect_mf_flows.schemas.base import Document, PeriodicStructure, StoredDocument, Vector
from defect_mf_flows.schemas.calculation import Failure, FailureReason

#: Defect and charge.
Owner = tuple[str, int]


class FateKind(StrEnum):
    """What a relaxation made of a defect."""

    AT_SITE = "at site"
    MIGRATED = "migrated"
    REARRANGED = "rearranged"
    DISSOCIATED = "dissociated"


class Fate(Document):
    """Where a defect is after a relaxation, and which defect it is.

    Attributes
    ----------
    kind
        At its site; the same defect at another; other point defects that hang together; or
        point defects that do not.
    name
        Point defects that the geometry consists of, for example ``"S_Zn + v_S"``.
    distance
        Angstrom: how far it moved, or for other point defects how far the outermost are apart.
    equivalent
        Whether symmetry of the host takes a migrated defect back to its own site; None for
        others, and in old documents.
    """

    kind: FateKind
    name: str
    distance: float
    equivalent: bool | None = None


class Threshold(Document):
    """Limit on the SOAP distance of one minimum, and where it comes from.

    Attributes
    ----------
    value
        Cosine distance.
    chosen
        True if a gap of the data chose it; False for the setting, or the default where the
        distances leave no gap.
    below, above
        The distances on both sides of the gap.
    n_pairs
        Pairs of ends, close in energy, whose distances were looked at.
    """

    value: float
    chosen: bool
    below: float | None = None
    above: float | None = None
    n_pairs: int = 0


class Minimum(Document):
    """One unique minimum.

    Attributes
    ----------
    structure
        Relaxed geometry, charge attached.
    energy
        eV per cell on ``source``'s energy scale.
    starts
        Labels of every start that ended here, the lowest first.
    fate
        What the relaxation made of the defect; None in documents older than this.
    soap
        SOAP vector at the defect site (kept in the additional store ``data``).
    spread
        Standard deviation of its energy above the lowest minimum over the members of a
        committee, calibrated, eV per cell; None without a committee.
    members
        Its energy by every member of a committee, the model's own first, eV per cell; empty
        without one.
    """

    structure: PeriodicStructure
    energy: float
    starts: list[str] = Field(min_length=1)
    fate: Fate | None = None
    soap: Vector = Field(default_factory=list)
    spread: float | None = None
    members: list[float] = Field(default_factory=list)


class SearchPoint(Document):
    """What became of one start.

    Attributes
    ----------
    start
        Label of the start structure.
    energy
        eV per cell after relaxation.
    converged
        Forces below the threshold.
    steps
        Force calls.
    minimum
        Index into the search's minima.
    """

    start: str
    energy: float
    converged: bool
    steps: int
    minimum: int


class Doubt(Document):
    """A geometry on the way of a relaxation at which the members of a committee disagree.

    Attributes
    ----------
    start, step
        Relaxation, and force calls before the geometry.
    force_spread
        Largest standard deviation of the force on one atom over the members, eV/Angstrom.
    structure
        With its charge.
    """

    start: str
    step: int
    force_spread: float
    structure: PeriodicStructure


class Search(Document):
    """All minima that one potential, or one fidelity, found for a charge state.

    Attributes
    ----------
    defect, charge
        What was searched.
    source
        Fidelity whose energy surface was searched (the head of a model, or an engine).
    minima
        Unique minima, lowest energy first (kept in the additional store ``data``).
    points
        One per start.
    failures
        Starts that exploded or did not converge.
    threshold
        When two ends counted as one minimum; None in documents older than this.
    doubts
        Geometries on the way at which a label is asked for (kept in the store ``data``).
    wrecks
        Geometries of relaxations that left what the model knows (kept in ``data``).
    n_calls, seconds
        Force calls and wall time.
    """

    defect: str
    charge: StrictInt
    source: str
    minima: list[Minimum] = Field(default_factory=list)
    points: list[SearchPoint]
    failures: list[Failure] = Field(default_factory=list)
    threshold: Threshold | None = None
    doubts: list[Doubt] = Field(default_factory=list)
    wrecks: list[PeriodicStructure] = Field(default_factory=list)
    n_calls: int = 0
    seconds: float = 0.0


class Verdict(StrEnum):
    """What high fidelity says of the model's ground state."""

    CONFIRMED = "confirmed"
    LOWER = "lower"
    WRONG = "wrong"


class Deviation(Document):
    """Distance between two geometries of one cell, Angstrom.

    Attributes
    ----------
    rmsd
        Root mean square displacement over all atoms.
    local_rmsd
        The same within 5 Angstrom of the defect site.
    max_displacement
        Largest displacement of one atom.
    """

    rmsd: float
    local_rmsd: float
    max_displacement: float


#: Origin of candidates that high fidelity relaxed before there was a model.
RATTLED = "rattled"


class Candidate(Document):
    """A minimum and what a high-fidelity relaxation made of it.

    Attributes
    ----------
    origin
        ``"model"``, ``"low"`` (a minimum of the low-fidelity search, by rank), ``"label"`` (a
        high-fidelity label below what the others relaxed to) or ``"rattled"`` (a start that high
        fidelity relaxed before there was a model).
    round
        Round of the loop in which it was relaxed at high fidelity; 0: before the first.
    rank
        Position in its search, from 0.
    start
        Start structure that found it.
    energy_model
        Model energy on the high head, eV per cell.
    energy_low
        Low-fidelity energy, eV per cell, for candidates of the low-fidelity search.
    energy_single_point
        High-fidelity energy at the candidate's geometry, eV per cell; None if it failed.
    energy_relaxed
        High-fidelity energy after relaxation, eV per cell; None if it failed.
    deviation
        Between the candidate and its high-fidelity relaxation.
    residual_force
        Largest force left, eV/Angstrom, where the relaxation ran out of steps: its energy is then
        an upper bound. None if it ended.
    kept
        True if the relaxation stayed in the candidate's basin.
    basin
        Index of the high-fidelity basin in which it ended, lowest first.
    structure
        The candidate before the high-fidelity relaxation.
    relaxed
        High-fidelity relaxed geometry, or None.
    calculations
        uuids of the high-fidelity calculations.
    known_from
        Why it was not relaxed: which verified minimum it is. Its relaxation is then that of the
        other, its single point its own. Empty if it was relaxed.
    led_by
        Starts that were verified minima of the same charge and that the model relaxed into it.
    low_error
        Model minus low fidelity at its geometry, on the model's low head, eV per cell; None where
        the low fidelity was not asked, or failed.
    reserve
        True if it was chosen only to take the place of one that the low fidelity refuses.
    spared
        Why it was not relaxed: what single points said. Empty if it was relaxed.
    """

    origin: str
    round: int
    rank: int
    start: str
    energy_model: float
    energy_low: float | None = None
    energy_single_point: float | None = None
    energy_relaxed: float | None = None
    deviation: Deviation | None = None
    residual_force: float | None = None
    kept: bool = False
    basin: int | None = None
    structure: PeriodicStructure
    relaxed: PeriodicStructure | None = None
    calculations: list[str] = Field(default_factory=list)
    known_from: str = ""
    led_by: list[str] = Field(default_factory=list)
    low_error: float | None = None
    reserve: bool = False
    spared: str = ""


class Verification(Document):
    """The verdict on one charge state.

    Attributes
    ----------
    defect, charge, round
        What was verified, in which round of the loop.
    verdict
        Confirmed, lower than the low-fidelity search's ground state, or wrong.
    reason
        The numbers behind the verdict, in one sentence.
    model_ground
        Index of the model's ground state; None if no end on the model was believed.
    ground_state
        Index of the candidate with the lowest high-fidelity energy; None if all failed.
    energy_error
        Model minus high fidelity at the model's ground state, eV per cell.
    candidates
        All candidates (kept in the additional store ``data``).
    """

    defect: str
    charge: StrictInt
    round: int
    verdict: Verdict
    reason: str
    model_ground: int | None
    ground_state: int | None
    energy_error: float | None
    candidates: list[Candidate] = Field(default_factory=list)


class Exploration(StoredDocument):
    """The low-fidelity search as a whole.

    Attributes
    ----------
    calculations
        uuids of the relaxations, in the order of the start structures.
    hosts
        Fidelity -> uuid of the pristine host's single point.
    searches
        One per defect and charge.
    failures
        Start structures that could not be made and relaxations that failed.
    """

    calculations: list[str]
    hosts: dict[str, str]
    searches: list[Search]
    failures: list[Failure] = Field(default_factory=list)

    def get(self, defect: str, charge: int) -> Search:
        """Return the search of one defect and charge."""
        return next(s for s in self.searches if (s.defect, s.charge) == (defect, charge))


class RelaxationPath(Document):
    """Every step of one relaxation on a model.

    Attributes
    ----------
    positions
        Angstrom, shape (n_steps, n_atoms, 3).
    energies
        eV per cell, one per step.
    """

    positions: list[list[list[float]]]
    energies: list[float]


class RelaxationBatch(Document):
    """Ends of a batch of relaxations on a model.

    Attributes
    ----------
    defect, charge
        What was relaxed.
    starts
        Labels of the starts.
    energies
        eV per cell; None where the relaxation exploded.
    converged, steps
        Per start.
    problems
        Per start why its end is worthless, in a line, or None.
    reasons
        The counted reason of each problem, or None.
    structures
        Final geometries (kept in the additional store ``data``).
    trajectories
        Every step, where ``search.trajectories`` asks for it (kept in the store ``data``).
    doubts
        Where ``search.doubt`` was passed on the way (kept in the store ``data``).
    wrecks
        Of the ends that were refused because the model extrapolates: where the relaxation left
        what the model knows, or the end itself without ``search.trust`` (kept in ``data``).
    seconds
        Wall time of the batch.
    committee
        Per start its energy by every member of a committee, eV per cell; empty without one,
        or where the end is worthless.
    scale
        Calibration of the members' spread.
    input_hash
        Of all that decides what becomes of the starts; batches with the same are the same.
    reused_from
        uuid of the job that relaxed it, where that was another.
    """

    defect: str
    charge: StrictInt
    starts: list[str]
    energies: list[float | None]
    converged: list[bool]
    steps: list[int]
    problems: list[str | None]
    reasons: list[FailureReason | None] = Field(default_factory=list)
    structures: list[PeriodicStructure]
    trajectories: list[RelaxationPath | None] = Field(default_factory=list)
    doubts: list[Doubt] = Field(default_factory=list)
    wrecks: list[PeriodicStructure] = Field(default_factory=list)
    seconds: float
    committee: list[list[float]] = Field(default_factory=list)
    scale: float = 1.0
    input_hash: str | None = None
    reused_from: str | None = None


class SearchSet(StoredDocument):
    """The surrogate searches of one round.

    Attributes
    ----------
    searches
        One per defect and charge.
    """

    searches: list[Search]

    def get(self, defect: str, charge: int) -> Search:
        """Return the search of one defect and charge."""
        return next(s for s in self.searches if (s.defect, s.charge) == (defect, charge))


class CandidateSet(StoredDocument):
    """The candidates of one round, before their relaxation.

    A document of its own: hundreds of structures are too many for a job's inputs.

    Attributes
    ----------
    candidates
        The candidates (kept in the additional store ``data``).
    owners
        Defect and charge of each.
    checks
        uuids of low-fidelity single points on predicted geometries.
    """

    candidates: list[Candidate] = Field(default_factory=list)
    owners: list[tuple[str, StrictInt]]
    checks: list[str] = Field(default_factory=list)


class VerificationSet(StoredDocument):
    """The verdicts of one round.

    Attributes
    ----------
    verifications
        One per defect and charge.
    calculations
        uuids of the high-fidelity relaxations made in this round.
    high_calls
        Force calls they took.
    checks
        uuids of low-fidelity single points on predicted geometries.
    """

    verifications: list[Verification]
    calculations: list[str]
    high_calls: int
    checks: list[str] = Field(default_factory=list)
