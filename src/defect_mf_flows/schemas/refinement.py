"""What the last search called one minimum, what verification tried, and how the ranking held."""

from __future__ import annotations

from pydantic import StrictInt

from defect_mf_flows.schemas.base import Document
from defect_mf_flows.schemas.search import Threshold


class SearchThreshold(Document):
    """When the last search took two ends of one charge state for one minimum.

    Attributes
    ----------
    defect, charge
        Which charge state.
    threshold
        Limit on the SOAP distance, and whether the data chose it.
    """

    defect: str
    charge: StrictInt
    threshold: Threshold


class Refinement(Document):
    """How well the model's order of minima holds at high fidelity, and what is left to do there.

    Attributes
    ----------
    n_states
        Charge states with a verified ground state.
    success
        For k = 1, 2, ...: share of them whose lowest verified energy is reached, within
        ``tolerance``, from one of the first k minima of the model's last search.
    tolerance
        eV per cell.
    steps
        Median number of steps that high fidelity takes from a minimum of the model, in all
        rounds, to its own; None if no such relaxation converged.
    n_relaxed
        Relaxations that this is the median of.
    """

    n_states: int
    success: list[float]
    tolerance: float
    steps: float | None
    n_relaxed: int


class TriedCandidate(Document):
    """One candidate of a verification, and what the two fidelities said of it.

    Attributes
    ----------
    defect, charge, round
        Whose, and in which round of the loop it was a candidate.
    origin, rank, start
        As those of the candidate.
    energy_model
        Of the model's high head, above the verified ground state, eV per cell. Like the other two,
        None where the charge state has no verified ground state.
    low_error
        Model minus low fidelity at its geometry, eV per cell; None where that was not asked.
    energy_single_point
        High fidelity at its geometry, above the verified ground state, eV per cell; None where it
        was not asked, or failed.
    energy_relaxed
        High fidelity after relaxation, above the verified ground state, eV per cell; None where
        there was no relaxation, or it failed.
    calls
        High-fidelity calls that it took.
    outcome
        Why it was not relaxed, or what became of the relaxation.
    """

    defect: str
    charge: StrictInt
    round: int
    origin: str
    rank: int
    start: str
    energy_model: float | None
    low_error: float | None = None
    energy_single_point: float | None = None
    energy_relaxed: float | None = None
    calls: int = 0
    outcome: str = ""
