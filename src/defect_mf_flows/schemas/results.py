"""The campaign's result: what ``results.json`` holds and the report shows."""

from __future__ import annotations

from typing import Any

from pydantic import Field, StrictInt

from defect_mf_flows.schemas.base import Document, PeriodicStructure
from defect_mf_flows.schemas.calculation import BandEdges, Failure
from defect_mf_flows.schemas.defect import Environment
from defect_mf_flows.schemas.levels import Correction, LevelUncertainty
from defect_mf_flows.schemas.loop import Acquisition, RoundSummary, StopVerdict
from defect_mf_flows.schemas.model import (
    Calibration,
    DescriptorMap,
    EpochRecord,
    HeadMetrics,
    ParityPoint,
)
from defect_mf_flows.schemas.refinement import Refinement, SearchThreshold, TriedCandidate
from defect_mf_flows.schemas.search import Deviation, Fate, Verdict


class GroundState(Document):
    """The verified ground state of one charge state.

    Attributes
    ----------
    defect, charge
        Which defect.
    verdict, reason
        What high fidelity says of the model's ground state, with its numbers.
    energy_model
        Model energy of the model's ground state, high head, eV per cell; None if no end
        on the model was believed.
    energy_hf
        Lowest verified high-fidelity energy, eV per cell.
    residual_force
        Largest force left at the verified geometry, eV/Angstrom, where its relaxation ran out of
        steps: ``energy_hf`` is then an upper bound. None if it ended.
    lower_start, lower_by
        Candidate that lies below ``energy_hf`` by its high-fidelity single point and of which no
        relaxation ended, and by how much, eV per cell: ``energy_hf`` is then an upper bound. None
        if there is none, and in documents older than this.
    energy_error
        Model minus high fidelity at the model's ground state, eV per cell.
    rmsd, local_rmsd, max_displacement
        Model's ground state against the verified one, Angstrom; None if it failed.
    start
        Start structure that found the verified ground state.
    found_by
        ``"model"`` or ``"low"``: whose search found it; ``"label"``: neither's, it was relaxed
        from a high-fidelity label that lay below what both had found; ``"rattled"``: neither's,
        it is where a high-fidelity relaxation before the first round ended.
    starts
        Every start of the surrogate search that ended in the model's ground state.
    n_minima
        Unique minima of the surrogate search.
    low_start
        Start that found the low-fidelity search's ground state.
    low_is_ground_state
        True if the low-fidelity search's ground state survives high fidelity as the lowest.
    low_excess
        High-fidelity energy of the low-fidelity ground state's geometry above the verified
        ground state, eV per cell; None if it failed.
    low_unfinished
        Starts whose low-fidelity relaxations ran out of steps below ``low_start``'s: whether
        high fidelity upholds the low-fidelity ground state is then open. Empty in documents
        older than this.
    low_deviation
        Low-fidelity ground state against its own high-fidelity relaxation.
    next_energy, next_spread
        The model's second minimum above its lowest, eV per cell, and the committee's calibrated
        spread of that; None where there is no second minimum, or no committee.
    shortest_bonds
        The shortest distances between the defect's neighbours in the verified ground state
        and in the low-fidelity ground state, Angstrom.
    fate
        What became of the defect in the verified ground state; None in documents older than
        this.
    perturbed_host
        Why the carriers of the verified cell seem to lie in the host's bands; None if nothing
        points to it, or the engine gives no eigenvalues.
    environments
        Distances at the defect in the ``"verified"`` ground state, in the ``"model"``'s and the
        ``"low"``-fidelity one, and ``"unrelaxed"``; empty in documents older than this.
    structure
        Verified geometry (kept in the additional store ``data``).
    """

    defect: str
    charge: StrictInt
    verdict: Verdict
    reason: str
    energy_model: float | None
    energy_hf: float
    energy_error: float | None
    rmsd: float | None
    local_rmsd: float | None
    max_displacement: float | None
    start: str
    found_by: str
    starts: list[str]
    n_minima: int
    low_start: str
    low_is_ground_state: bool
    low_excess: float | None
    low_deviation: Deviation | None
    shortest_bonds: dict[str, float]
    structure: PeriodicStructure
    next_energy: float | None = None
    next_spread: float | None = None
    fate: Fate | None = None
    perturbed_host: str | None = None
    residual_force: float | None = None
    lower_start: str | None = None
    lower_by: float | None = None
    low_unfinished: list[str] = Field(default_factory=list)
    environments: dict[str, Environment] = Field(default_factory=dict)

    @property
    def is_upper_bound(self) -> bool:
        """Whether the true ground state is known to lie lower, or may by its forces."""
        return self.residual_force is not None or self.lower_by is not None

    @property
    def low_is_open(self) -> bool:
        """Whether nobody knows if high fidelity upholds the low-fidelity ground state.

        Either that is not known itself, or it lies lowest at high fidelity and no relaxation of it
        ended there.
        """
        below = self.low_excess is not None and self.low_excess < 0 and self.lower_by is not None
        return bool(self.low_unfinished) or (below and not self.low_is_ground_state)


class FoundMinimum(Document):
    """A minimum of the last search, with its rank and what the committee says of it.

    Attributes
    ----------
    defect, charge, rank
        Which minimum; the lowest has rank 0.
    energy
        Above the lowest by the model, eV per cell.
    spread
        Committee's calibrated spread of that, eV per cell; None without a committee.
    share
        Probability that it is the lowest, by the committee; None without one.
    contender
        Whether it lies within its spread of the lowest, and so may be the lowest.
    fate
        What the relaxation made of the defect; None in documents older than this.
    n_starts, start
        How many starts ended here, and the lowest of them.
    verified
        High-fidelity energy after relaxation, above the verified ground state, eV per cell;
        None if it was not verified, or that failed.
    """

    defect: str
    charge: StrictInt
    rank: int
    energy: float
    spread: float | None = None
    share: float | None = None
    contender: bool = False
    fate: Fate | None = None
    n_starts: int
    start: str
    verified: float | None = None


class TransitionLevel(Document):
    """A charge transition level, from the model's and from the verified energies.

    Attributes
    ----------
    defect, from_charge, to_charge
        ``from_charge`` is stable below the level, ``to_charge`` above it.
    model, hf, low
        eV above the valence-band maximum; ``low`` is the low-fidelity search alone.
    thermodynamic
        True if both charges are stable on either side of it (high fidelity), False for a
        level between charge states one of which is never the most stable.
    perturbed_host
        Charges of the two whose carriers seem to lie in the host's bands: the level is none of
        the defect, and an artefact of the cell's size. Empty where the engine gives no
        eigenvalues.
    unfinished
        Charges of the two whose verified energy is an upper bound: the high-fidelity relaxation
        ran out of steps, or that of a lower geometry failed.
    """

    defect: str
    from_charge: StrictInt
    to_charge: StrictInt
    model: float | None
    hf: float | None
    low: float | None = None
    thermodynamic: bool
    perturbed_host: list[StrictInt] = Field(default_factory=list)
    unfinished: list[StrictInt] = Field(default_factory=list)


class FormationEnergies(Document):
    """Formation energies of one defect from one source.

    Attributes
    ----------
    defect
        Which defect.
    source
        ``"hf"`` (verified), ``"model"`` or ``"low"`` (the low-fidelity search alone).
    charges, energies
        Energy per charge with the Fermi level at the valence-band maximum, corrections included,
        eV, counted from the least charged state: no chemical potentials enter.
    """

    defect: str
    source: str
    charges: list[StrictInt]
    energies: list[float]


class SkippedCharge(Document):
    """A charge that negative U makes unstable everywhere, according to one source.

    Attributes
    ----------
    defect, charge, source
        Which charge, and who says so.
    upper, lower
        The levels (charge+1/charge) and (charge/charge-1), eV above the valence-band maximum;
        the second lies below the first.
    """

    defect: str
    charge: StrictInt
    source: str
    upper: float
    lower: float


class StageCost(Document):
    """What one stage cost.

    Attributes
    ----------
    stage
        Stage of the campaign.
    fidelity
        Fidelity computed, or None for stages without reference calls.
    jobs
        Number of calculations.
    calls
        Energy-and-force evaluations of the reference method, or of the model in the search.
    seconds
        Sum of the wall times of its calculations; 0 for calls that guide relaxations, which are
        part of those.
    reused
        How many of the calculations were taken over from earlier ones, at no cost.
    calls_saved
        Evaluations that earlier calculations made for them.
    """

    stage: str
    fidelity: str | None
    jobs: int
    calls: int
    seconds: float
    reused: int = 0
    calls_saved: int = 0


class PesPoint(Document):
    """End of one relaxation, for energy-against-distortion figures.

    Attributes
    ----------
    defect, charge
        Which defect.
    source
        ``"low"`` or ``"model"``.
    start
        Start structure.
    energy
        eV per cell above the lowest of its source and charge.
    rmsd
        Local RMSD to the verified ground state turned into its nearest symmetry copy, Angstrom.
    """

    defect: str
    charge: StrictInt
    source: str
    start: str
    energy: float
    rmsd: float


class Results(Document):
    """Everything a campaign found.

    Attributes
    ----------
    campaign
        Name of the campaign.
    campaign_hash
        SHA-256 of what it computes.
    disclaimer
        What these numbers must not be taken for, or None.
    host
        Formula, number of atoms and cell of the pristine supercell.
    fidelities
        Role -> fidelity name; engines and settings under ``engines``.
    stop, stop_reason
        Why the loop ended.
    ground_states, transition_levels
        The science.
    correction
        Which finite-size correction the levels carry.
    corrections
        What was added to the energies of charged cells; empty if nothing was.
    formation, skipped
        Formation energies and inverted levels per source; empty in documents that were written
        before they were recorded.
    band_edges
        Of the host at high fidelity; None if the engine gives none.
    metrics, parity, history
        The last model's errors, parity points and learning curve.
    best_epoch
        Epoch of the learning curve whose weights the last model has; None in documents that
        were written before this was recorded.
    descriptors
        Maps of the last model's descriptors, per defect (kept in the additional store
        ``data``); empty in documents older than this.
    descriptors_missing
        Why they could not be made; empty if they were.
    calibration
        Of the last committee's spread; None without a committee.
    acquired
        Labels that the committee asked for.
    ranked_minima
        Minima of the last search, ranked (kept in the additional store ``data``).
    thresholds
        Of the last search, per charge state; empty in documents older than this.
    refinement
        From the model's minima to verified ones; None in documents older than this, and where
        no charge state has a verified ground state.
    tried
        What verification asked of every candidate, and the answers (kept in the additional store
        ``data``); empty in documents older than this.
    uncertainty
        Of levels and of their order, per defect and source; empty without a committee.
    rounds
        One summary per round.
    counts
        Frames and labels per fidelity, failures by reason.
    failures
        Each failure (kept in the additional store ``data``).
    cost
        Per stage.
    pes
        Relaxation end points (kept in the additional store ``data``).
    seeds, versions
        What makes the campaign repeatable.
    settings
        Sections of the campaign file other than host and fidelities; empty in documents older
        than this.
    """

    campaign: str
    campaign_hash: str
    disclaimer: str | None
    host: dict[str, Any]
    fidelities: dict[str, str]
    engines: dict[str, Any]
    stop: StopVerdict
    stop_reason: str
    ground_states: list[GroundState]
    transition_levels: list[TransitionLevel]
    correction: str
    corrections: list[Correction] = Field(default_factory=list)
    formation: list[FormationEnergies] = Field(default_factory=list)
    skipped: list[SkippedCharge] = Field(default_factory=list)
    band_edges: BandEdges | None
    metrics: list[HeadMetrics]
    parity: list[ParityPoint]
    history: list[EpochRecord]
    best_epoch: int | None = None
    descriptors: list[DescriptorMap] = Field(default_factory=list)
    descriptors_missing: str = ""
    calibration: Calibration | None = None
    acquired: list[Acquisition] = Field(default_factory=list)
    ranked_minima: list[FoundMinimum] = Field(default_factory=list)
    thresholds: list[SearchThreshold] = Field(default_factory=list)
    refinement: Refinement | None = None
    tried: list[TriedCandidate] = Field(default_factory=list)
    uncertainty: list[LevelUncertainty] = Field(default_factory=list)
    rounds: list[RoundSummary]
    counts: dict[str, Any]
    failures: list[Failure]
    cost: list[StageCost]
    pes: list[PesPoint]
    seeds: dict[str, int]
    versions: dict[str, str] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
