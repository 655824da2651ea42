"""Formation energies against the Fermi level: which charge is stable where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from defect_mf_flows.schemas.levels import NegativeU


@dataclass(frozen=True)
class Crossing:
    """Two charges of equal formation energy.

    Attributes
    ----------
    upper, lower
        The more positive charge, stable below the level, and the other.
    energy
        eV above the valence-band maximum.
    stable
        Whether both charges are the most stable there.
    """

    upper: int
    lower: int
    energy: float
    stable: bool


def crossing(energies: Mapping[int, float], upper: int, lower: int) -> float:
    """Fermi level at which two charges have the same formation energy.

    Parameters
    ----------
    energies
        Formation energy per charge with the Fermi level at the valence-band maximum, eV.
    upper, lower
        Two charges.

    Returns
    -------
    float
        eV above the valence-band maximum.
    """
    return (energies[lower] - energies[upper]) / (upper - lower)


def stable_charges(energies: Mapping[int, float]) -> list[int]:
    """Charges that are the most stable for some Fermi level, the most positive first.

    Parameters
    ----------
    energies
        As for :func:`crossing`.
    """
    hull: list[int] = []
    for charge in sorted(energies, reverse=True):
        # The last one is skipped if this one takes over before it would have.
        while len(hull) > 1 and crossing(energies, hull[-2], charge) <= crossing(
            energies, hull[-2], hull[-1]
        ):
            hull.pop()
        hull.append(charge)
    return hull


def crossings(energies: Mapping[int, float]) -> list[Crossing]:
    """Levels between stable charges, and those between neighbours that are metastable.

    Parameters
    ----------
    energies
        As for :func:`crossing`.

    Returns
    -------
    list of Crossing
        More positive charges first.
    """
    stable = set(pairwise(stable_charges(energies)))
    every = stable | set(pairwise(sorted(energies, reverse=True)))
    return [
        Crossing(upper, lower, crossing(energies, upper, lower), (upper, lower) in stable)
        for upper, lower in sorted(every, reverse=True)
    ]


def negative_u(defect: str, energies: Mapping[int, float]) -> list[NegativeU]:
    """Charges that two neighbours pass by.

    Parameters
    ----------
    defect
        Name of the defect.
    energies
        As for :func:`crossing`.

    Returns
    -------
    list of NegativeU
        One per charge q with (q+1/q) above (q/q-1).
    """
    found = []
    for charge in sorted(energies, reverse=True):
        if charge + 1 not in energies or charge - 1 not in energies:
            continue
        first = crossing(energies, charge + 1, charge)
        second = crossing(energies, charge, charge - 1)
        if second < first:
            found.append(
                NegativeU(defect=defect, charge=charge, upper=first, lower=second, u=second - first)
            )
    return found
