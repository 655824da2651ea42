"""What the last search called one minimum, and how its ranking held at high fidelity."""

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
