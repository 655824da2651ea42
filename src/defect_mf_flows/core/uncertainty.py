"""Uncertainty of energies within one charge, from the spread of a committee."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from defect_mf_flows.schemas.search import Minimum

#: Nominal shares that are reported.
LEVELS = (0.68, 0.95)


def relative_spread(energies: np.ndarray, anchor: np.ndarray | int) -> np.ndarray:
    """Spread of energies relative to an anchor.

    Parameters
    ----------
    energies
        Shape (n_members, n_structures), eV.
    anchor
        Index of the structure from which energies count, or the members' energies of it,
        shape (n_members,). A constant by which members differ is no uncertainty of an order.

    Returns
    -------
    numpy.ndarray
        Standard deviation over members (n - 1), shape (n_structures,), eV.
    """
    zero = energies[:, anchor] if isinstance(anchor, int) else np.asarray(anchor)
    relative = energies - zero[:, None]
    return np.asarray(relative.std(axis=0, ddof=1))


def force_spread(forces: np.ndarray) -> float:
    """Largest disagreement of a committee on the force on one atom.

    Parameters
    ----------
    forces
        Shape (n_members, n_atoms, 3), eV/Angstrom.

    Returns
    -------
    float
        Largest over atoms of the standard deviation (n - 1) of the force vector, eV/Angstrom,
        as FINETUNA watches it (Musielewicz et al., Mach. Learn.: Sci. Technol. 3, 03LT01 (2022)).
    """
    deviations = ((forces - forces.mean(axis=0)) ** 2).sum(axis=2).sum(axis=0)
    return float(np.sqrt(deviations.max() / (len(forces) - 1)))


def fit_scale(errors: np.ndarray, spreads: np.ndarray) -> float:
    """Factor that makes standard deviations of spreads.

    Parameters
    ----------
    errors
        Model minus label, eV, shape (n,).
    spreads
        Of the same, shape (n,).

    Returns
    -------
    float
        That puts the first of ``LEVELS`` of the errors within its interval, as in conformal
        prediction: a few errors far outside, which a fit by likelihood would follow, show
        in the coverage of the second.
    """
    usable = spreads > 0
    if not usable.any():
        return 1.0
    ratios = np.abs(errors[usable]) / spreads[usable]
    return max(float(np.quantile(ratios, LEVELS[0])) / normal_width(LEVELS[0]), 1e-6)


def coverage(errors: np.ndarray, sigmas: np.ndarray) -> dict[str, float]:
    """Share of errors within the intervals of a normal distribution.

    Parameters
    ----------
    errors, sigmas
        eV, shape (n,).

    Returns
    -------
    dict
        Nominal share -> found share.
    """
    found = {}
    for level in LEVELS:
        width = normal_width(level)
        found[f"{level:g}"] = float(np.mean(np.abs(errors) <= width * sigmas + 1e-12))
    return found


def normal_width(level: float) -> float:
    """Half width, in standard deviations, of the interval that holds a share ``level``."""
    from scipy.special import erfinv

    return math.sqrt(2) * float(erfinv(level))


def with_spread(
    minima: list[Minimum], members: Mapping[str, list[float]], scale: float
) -> list[Minimum]:
    """Attach the committee's spread to minima.

    Parameters
    ----------
    minima
        Of one charge state, the lowest first.
    members
        Start -> energies of its end by every member, eV per cell; may be empty.
    scale
        From the calibration.

    Returns
    -------
    list of Minimum
        ``spread`` is that of the energy above the lowest minimum, hence 0 for the lowest;
        None where a member's energy is missing. ``members`` keeps their energies.
    """
    zero = members.get(minima[0].starts[0]) if minima else None
    if not zero:
        return minima
    found = []
    for minimum in minima:
        own = members.get(minimum.starts[0])
        if own:
            spread = float(relative_spread(np.array([own]).T, np.array(zero))[0])
            minimum = minimum.model_copy(update={"spread": scale * spread, "members": own})
        found.append(minimum)
    return found
