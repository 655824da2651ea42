"""Levels next to the gap: band edges, and a defect cell's levels against the host's bands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from defect_mf_flows.schemas.calculation import BandEdges, FrontierLevel

#: A carrier whose level is not farther than this inside the gap counts as one of a band, eV.
SHALLOW = 0.1

KPoint = tuple[float, ...]


@dataclass(frozen=True)
class Frontier:
    """Highest occupied and lowest empty level per k-point, eV on the run's own scale.

    Attributes
    ----------
    occupied, empty
        Per k-point (fractional coordinates), over both spins.
    """

    occupied: dict[KPoint, float] = field(default_factory=dict)
    empty: dict[KPoint, float] = field(default_factory=dict)

    @property
    def vbm(self) -> tuple[KPoint, float]:
        """Where the highest occupied level is, and its energy."""
        return max(self.occupied.items(), key=lambda item: item[1])

    @property
    def cbm(self) -> tuple[KPoint, float]:
        """Where the lowest empty level is, and its energy."""
        return min(self.empty.items(), key=lambda item: item[1])

    @property
    def edges(self) -> BandEdges | None:
        """Band edges, or None where the occupations leave no gap."""
        vbm, cbm = self.vbm[1], self.cbm[1]
        return BandEdges(vbm=vbm, cbm=cbm) if vbm < cbm else None

    @property
    def levels(self) -> list[FrontierLevel]:
        """What a calculation's document keeps; OUTCAR has four decimals of a k-point."""
        return [
            FrontierLevel(
                kpoint=(round(where[0], 4), round(where[1], 4), round(where[2], 4)),
                occupied=_finite(self.occupied.get(where)),
                empty=_finite(self.empty.get(where)),
            )
            for where in sorted({*self.occupied, *self.empty})
        ]

    @classmethod
    def of_levels(cls, levels: Sequence[FrontierLevel] | None) -> Frontier | None:
        """What a document keeps; None where it keeps no occupied or no empty level."""
        occupied: dict[KPoint, float] = {}
        empty: dict[KPoint, float] = {}
        for level in levels or ():
            for found, energy in ((occupied, level.occupied), (empty, level.empty)):
                if energy is not None:
                    found[level.kpoint] = energy
        return cls(occupied, empty) if occupied and empty else None


def _finite(energy: float | None) -> float | None:
    return energy if energy is not None and np.isfinite(energy) else None


def frontier_of(
    levels: Iterable[tuple[KPoint, float, float]], *, filled: float = 0.5
) -> Frontier | None:
    """Find the levels next to the gap.

    Parameters
    ----------
    levels
        K-point, energy (eV) and occupation of every level, the deepest band first.
    filled
        A level counts as occupied above this share of the deepest one's occupation.

    Returns
    -------
    Frontier or None
        None if no level is occupied, or none is empty.
    """
    occupied: dict[KPoint, float] = {}
    empty: dict[KPoint, float] = {}
    full = 0.0
    for where, energy, occupation in levels:
        # The deepest band is full: 1 in a polarised run, 2 in an unpolarised one.
        full = full or occupation
        if occupation > filled * full:
            occupied[where] = max(occupied.get(where, energy), energy)
        else:
            empty[where] = min(empty.get(where, energy), energy)
    return Frontier(occupied, empty) if occupied and empty else None


def perturbed_host(cell: Frontier, host: Frontier, *, shift: float) -> str | None:
    """Say whether a defect cell's electrons or holes sit in the host's bands.

    Levels are compared at the k-point of the host's band edge: a band-like state follows the
    host's band, so that its average over k-points looks deep in a small cell.

    Parameters
    ----------
    cell, host
        Frontier levels of the defect cell and of the pristine one.
    shift
        What an electron's energy far from the defect is higher by than in the host, eV.

    Returns
    -------
    str or None
        What was seen. Such a state is as large as the cell, so that its level and its correction
        mean little; only a larger cell or a model of shallow states tells where it lies.
    """
    at_cbm, cbm = host.cbm
    at_vbm, vbm = host.vbm
    occupied, empty = cell.occupied.get(at_cbm), cell.empty.get(at_vbm)
    if occupied is not None and occupied - shift > cbm - SHALLOW:
        return (
            "electron in the conduction band (highest occupied level "
            f"{occupied - shift - cbm:+.2f} eV from the host's CBM)"
        )
    if empty is not None and empty - shift < vbm + SHALLOW:
        return (
            "hole in the valence band (lowest empty level "
            f"{empty - shift - vbm:+.2f} eV from the host's VBM)"
        )
    return None
