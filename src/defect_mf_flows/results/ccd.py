"""Configuration coordinate diagrams of a finished campaign, on the model's high head."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.core import ccd
from defect_mf_flows.core.charge import spin_of
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.results.campaign import CampaignResults
from defect_mf_flows.schemas.ccd import Barrier, CoordinateDiagram, Curve
from defect_mf_flows.schemas.results import GroundState, Results

#: Energies (eV per cell) of charged geometries.
Energies = Callable[[list[Structure]], list[float]]
#: The curves reach this far beyond either minimum, in units of their distance.
BEYOND = 0.6
#: A parabola that misses the points by more is no description of the curve, eV.
POOR_FIT = 0.01


def model_energies(campaign: CampaignResults, head: str) -> Energies:
    """Energies of the campaign's last model.

    Parameters
    ----------
    campaign
        A finished campaign.
    head
        Fidelity.

    Returns
    -------
    callable
        It refuses charges and heads that were not trained.
    """
    from defect_mf_flows.learning.potential import Potential

    models = campaign.models()
    if not models:
        raise ResultsError("the campaign has no trained model.")
    potential = Potential(models[-1], head=head)

    def energies(structures: list[Structure]) -> list[float]:
        return [energy for energy, _ in potential.predict(structures)]

    return energies


def coordinate_diagram(
    results: Results,
    defect: str,
    charges: tuple[int, int],
    energies: Energies,
    *,
    source: str = "model",
    points: int = 45,
) -> CoordinateDiagram:
    """Compute two charge states along the line between their verified minima.

    Parameters
    ----------
    results
        Of the campaign.
    defect, charges
        Which; the charges differ by one.
    energies
        Where energies come from.
    source
        Their name.
    points
        Geometries per charge.

    Returns
    -------
    CoordinateDiagram

    Raises
    ------
    ResultsError
        If a ground state is missing, or the geometries are the same.
    """
    upper, lower = sorted(charges, reverse=True)
    if upper - lower != 1:
        raise ResultsError(f"charges {upper:+d} and {lower:+d}: give two that differ by one.")
    high, low = (ground_of(results, defect, q) for q in (upper, lower))
    first, second = high.structure, ccd.oriented(high.structure, low.structure)
    dq = ccd.mass_weighted_distance(first, second)
    if dq < 1e-3:
        raise ResultsError(
            f"{defect} {upper:+d} and {lower:+d} have the same geometry; there is no coordinate."
        )
    fractions = np.linspace(-BEYOND, 1 + BEYOND, points)
    curves = []
    for charge, spin, own in ((upper, spin_of(first), 0.0), (lower, spin_of(second), dq)):
        found = energies(ccd.path(first, second, fractions.tolist(), charge, spin))
        curves.append(ccd.fitted(charge, fractions * dq, np.array(found), own, dq))
    level, origin = _level(results, defect, upper, lower)
    gap = results.band_edges.gap if results.band_edges else None
    return CoordinateDiagram(
        defect=defect,
        source=source,
        dq=dq,
        level=level,
        level_from=origin,
        gap=gap,
        curves=curves,
        huang_rhys={f"{c.charge:+d}": ccd.huang_rhys(c, dq) for c in curves},
        barriers=_barriers(curves, level, gap),
        notes=_notes(curves, dq, results),
    )


def ground_of(results: Results, defect: str, charge: int) -> GroundState:
    """Verified ground state of one charge of a defect.

    Raises
    ------
    ResultsError
        If there is none; the message names those that there are.
    """
    for ground in results.ground_states:
        if (ground.defect, ground.charge) == (defect, charge):
            return ground
    known = ", ".join(f"{g.defect} {g.charge:+d}" for g in results.ground_states)
    raise ResultsError(f"no ground state of {defect} {charge:+d}; there are {known}.")


def _level(results: Results, defect: str, upper: int, lower: int) -> tuple[float | None, str]:
    for level in results.transition_levels:
        if (level.defect, level.from_charge, level.to_charge) == (defect, upper, lower):
            if level.hf is not None:
                return level.hf, f"high fidelity, correction: {results.correction}"
            if level.model is not None:
                return level.model, f"model, correction: {results.correction}"
    return None, ""


def _barriers(curves: list[Curve], level: float | None, gap: float | None) -> list[Barrier]:
    if level is None or gap is None:
        return []
    positive, negative = curves
    return [
        ccd.barrier(positive, negative, gap - level, carrier="electron"),
        ccd.barrier(negative, positive, level, carrier="hole"),
    ]


def _notes(curves: list[Curve], dq: float, results: Results) -> list[str]:
    notes = [results.disclaimer] if results.disclaimer else []
    for curve, own in zip(curves, (0.0, dq), strict=True):
        if curve.fit_rmse > POOR_FIT:
            notes.append(
                f"{_named(curve)}: the parabola misses the points by "
                f"{1000 * curve.fit_rmse:.0f} meV; use the sampled barrier"
            )
        if abs(curve.minimum - own) > 0.2 * dq:
            notes.append(
                f"{_named(curve)}: the model's minimum lies "
                f"{abs(curve.minimum - own) / dq:.0%} of dQ from the verified geometry; its mode "
                "and barriers mean nothing before the model has learned it"
            )
    return notes


def _named(curve: Curve) -> str:
    return f"charge {curve.charge:+d}" if curve.charge else "charge 0"
