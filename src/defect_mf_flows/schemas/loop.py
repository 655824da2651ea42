"""The state that the active-learning loop carries from round to round."""

from __future__ import annotations

from enum import StrEnum

from pydantic import AliasChoices, Field, StrictInt

from defect_mf_flows.schemas.base import Document
from defect_mf_flows.schemas.calculation import Failure
from defect_mf_flows.schemas.dataset import Picks
from defect_mf_flows.schemas.search import Verdict


class StopVerdict(StrEnum):
    """Why the loop ended."""

    CONVERGED = "converged"
    BUDGET = "budget"
    STALLED = "stalled"


class RoundSummary(Document):
    """What one round did.

    Attributes
    ----------
    round
        From 1.
    model
        uuid of the training job.
    dataset
        uuid of the dataset job.
    searches, verifications
        uuids of the gathering jobs.
    verdicts
        Per ``"defect|charge"``.
    ground_energies
        Lowest high-fidelity energy known per ``"defect|charge"``, eV per cell.
    energy_errors
        Absolute model error at the model's ground state per ``"defect|charge"``, eV per cell.
    new_labels
        High-fidelity labels gained by the verification.
    refuted
        Charge states whose predicted ground state the low fidelity refuted, so that the high one
        was not asked.
    """

    round: int
    model: str
    dataset: str
    searches: str
    verifications: str
    verdicts: dict[str, Verdict]
    ground_energies: dict[str, float]
    energy_errors: dict[str, float]
    new_labels: int
    refuted: list[str] = Field(default_factory=list)


class Acquisition(Document):
    """A label that the committee asked for.

    Attributes
    ----------
    round
        After which it was asked.
    defect, charge
        Of what.
    kind
        ``"minimum"`` (predicted, not verified), ``"crossing"`` (between two minima) or
        ``"relaxation"`` (on the way of a relaxation on the model).
    label
        Where the geometry comes from.
    energy
        Above the lowest minimum of its charge, by the model, eV per cell.
    spread
        Calibrated spread of that energy, eV per cell.
    calculation
        uuid of the single point.
    """

    round: int
    defect: str
    charge: StrictInt
    kind: str
    label: str
    energy: float
    spread: float
    calculation: str


class Imports(Document):
    """Imported calculations of a campaign's defects, charges and fidelities.

    Attributes
    ----------
    imported
        uuids of those whose frames train.
    refused
        Why others do not.
    """

    imported: list[str] = Field(default_factory=list)
    refused: list[Failure] = Field(default_factory=list)


class FirstRelaxations(Document):
    """What high fidelity relaxed before there was a model: rattled starts, low-fidelity minima.

    Attributes
    ----------
    calculations
        uuids of the relaxations.
    candidates
        uuid of the job that made candidates of them; None where there are none.
    unmade
        Starts that could not be made.
    """

    calculations: list[str] = Field(default_factory=list)
    candidates: str | None = None
    unmade: list[Failure] = Field(default_factory=list)


class LoopState(Document):
    """The one document the loop carries; its configuration stays on the Maker.

    Attributes
    ----------
    low
        uuids of the low-fidelity relaxations.
    labels
        uuids of all higher-fidelity calculations, in the order in which they were made.
    origins
        For a single point on a picked frame: its uuid -> key of the relaxation of the frame.
    imports
        Imported calculations that train too.
    first_relaxations
        What high fidelity relaxed before the first round. Earlier versions called it ``rattled``.
    picks
        Frames chosen for the first labels.
    label_counts
        Number of first labels per fidelity.
    rounds
        One summary per finished round.
    hosts
        uuids of the pristine host's single points, per fidelity.
    acquired
        What the committee asked for between rounds.
    checks
        uuids of low-fidelity single points on what the searches predicted.
    high_calls
        High-fidelity force calls spent so far.
    stop
        Set when the loop has ended.
    stop_reason
        The numbers behind it.
    """

    low: list[str]
    labels: list[str]
    origins: dict[str, str]
    imports: Imports = Field(default_factory=Imports)
    first_relaxations: FirstRelaxations = Field(
        default_factory=FirstRelaxations,
        validation_alias=AliasChoices("first_relaxations", "rattled"),
    )
    picks: Picks
    label_counts: dict[str, int] = Field(default_factory=dict)
    rounds: list[RoundSummary] = Field(default_factory=list)
    hosts: dict[str, str] = Field(default_factory=dict)
    acquired: list[Acquisition] = Field(default_factory=list)
    checks: list[str] = Field(default_factory=list)
    high_calls: int = 0
    stop: StopVerdict | None = None
    stop_reason: str = ""
