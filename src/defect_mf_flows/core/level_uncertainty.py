"""Uncertainty of transition levels, and of their order, from the members of a committee."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from defect_mf_flows.core.formation import crossing, stable_charges
from defect_mf_flows.schemas.levels import (
    ChargeShare,
    LevelOrder,
    LevelSpread,
    LevelUncertainty,
)

#: Draws; a share is then known to half a percent.
DRAWS = 10_000


@dataclass(frozen=True)
class MemberEnergies:
    """Energies of the minima of one charge state by the members of a committee.

    Attributes
    ----------
    energies
        Corrections included, eV per cell, shape (n_members, n_minima). The first row is the
        model that searched.
    verified
        Lowest verified energy, eV per cell; None: the minima's own energies count.
    anchor
        Column of the minimum that was verified as the lowest: other minima then count from it,
        so that an error of the whole charge state drops out. None if the model's search did
        not end there.
    open
        Columns of minima that were not verified.
    """

    energies: np.ndarray
    verified: float | None = None
    anchor: int | None = None
    open: tuple[int, ...] = ()

    def centre(self) -> float:
        """Energy of the charge state as results have it, eV per cell."""
        return float(self.energies[0].min()) if self.verified is None else self.verified

    def lowest(self, drawn: np.ndarray) -> np.ndarray:
        """Energy of the charge state in every draw.

        Parameters
        ----------
        drawn
            Energies of the minima, shape (n_draws, n_minima).

        Returns
        -------
        numpy.ndarray
            Shape (n_draws,).
        """
        if self.verified is None:
            return np.asarray(drawn.min(axis=1))
        if not self.open:
            return np.full(len(drawn), self.verified)
        zero = self.verified if self.anchor is None else drawn[:, [self.anchor]]
        deeper = (drawn[:, list(self.open)] - zero).min(axis=1)
        return np.asarray(self.verified + np.minimum(deeper, 0.0))


def draw(energies: np.ndarray, *, scale: float, draws: int, rng: np.random.Generator) -> np.ndarray:
    """Draw energies from the normal distribution that a committee describes.

    Parameters
    ----------
    energies
        Shape (n_members, n), eV; the first member is the centre.
    scale
        Factor on the members' standard deviations.
    draws
        How many.
    rng
        Random numbers.

    Returns
    -------
    numpy.ndarray
        Shape (draws, n). Their covariance is that of the members (n - 1) times ``scale``
        squared, so that what the members agree on, such as a difference, stays fixed.
    """
    members = len(energies)
    deviations = (energies - energies.mean(axis=0)) / np.sqrt(members - 1)
    return np.asarray(energies[0] + scale * rng.standard_normal((draws, members)) @ deviations)


def level_uncertainty(
    defect: str,
    source: str,
    charges: Mapping[int, MemberEnergies],
    *,
    vbm: float,
    gap: float,
    scale: float,
    seed: int,
    draws: int = DRAWS,
) -> LevelUncertainty | None:
    """Carry the spread of a committee to the levels of one defect and to their order.

    Parameters
    ----------
    defect, source
        Labels of the result.
    charges
        Energies per charge; the rows of all are those of the same members.
    vbm, gap
        Of the host, eV.
    scale
        From the committee's calibration.
    seed
        The same seed gives the same draws.
    draws
        How many.

    Returns
    -------
    LevelUncertainty or None
        None with fewer than two charges or two members.
    """
    members = {len(item.energies) for item in charges.values()}
    if len(charges) < 2 or len(members) != 1 or min(members) < 2:
        return None
    order = sorted(charges, reverse=True)
    joined = np.hstack([charges[q].energies for q in order])
    drawn = draw(joined, scale=scale, draws=draws, rng=np.random.default_rng(seed))
    ends = np.cumsum([charges[q].energies.shape[1] for q in order])[:-1]
    # Formation energies with the Fermi level at the valence-band maximum, up to a constant.
    formation = np.column_stack(
        [
            charges[q].lowest(part) + q * vbm
            for q, part in zip(order, np.split(drawn, ends, 1), strict=True)
        ]
    )
    centre = [charges[q].centre() + q * vbm for q in order]
    found = _Draws(order, formation, dict(zip(order, centre, strict=True)), gap)
    return LevelUncertainty(
        defect=defect,
        source=source,
        members=min(members),
        scale=scale,
        draws=draws,
        levels=found.levels(),
        orders=found.orders(),
        charges=found.shares(),
    )


class _Draws:
    """Formation energies of many draws, and what follows from them."""

    def __init__(
        self, order: list[int], formation: np.ndarray, centre: dict[int, float], gap: float
    ) -> None:
        self.order, self.centre, self.gap = order, centre, gap
        self.energies = {q: formation[:, i] for i, q in enumerate(order)}
        self.hulls = [
            stable_charges(dict(zip(order, row, strict=True))) for row in formation.tolist()
        ]
        middle = set(pairwise(stable_charges(centre)))
        self.pairs = sorted(middle | set(pairwise(order)), reverse=True)

    def of(self, pair: tuple[int, int]) -> np.ndarray:
        """A level in every draw, eV above the valence-band maximum."""
        upper, lower = pair
        return np.asarray((self.energies[lower] - self.energies[upper]) / (upper - lower))

    def levels(self) -> list[LevelSpread]:
        """Mean, width and stability of every level."""
        found = []
        for pair in self.pairs:
            values = self.of(pair)
            low, high = np.percentile(values, [2.5, 97.5])
            stable = np.mean([pair in pairwise(hull) for hull in self.hulls])
            found.append(
                LevelSpread(
                    from_charge=pair[0],
                    to_charge=pair[1],
                    energy=crossing(self.centre, *pair),
                    mean=float(values.mean()),
                    sd=float(values.std(ddof=1)),
                    interval=(float(low), float(high)),
                    stable=float(stable),
                )
            )
        return found

    def orders(self) -> list[LevelOrder]:
        """Which of two levels is the lower one, for every two."""
        found = []
        for one, other in combinations(self.pairs, 2):
            share = float(np.mean(self.of(one) < self.of(other)))
            lower, upper = (one, other) if share >= 0.5 else (other, one)
            found.append(LevelOrder(lower=lower, upper=upper, probability=max(share, 1.0 - share)))
        return found

    def shares(self) -> list[ChargeShare]:
        """How often each charge is stable, anywhere and within the gap."""
        ever = dict.fromkeys(self.order, 0)
        inside = dict.fromkeys(self.order, 0)
        levels = {
            (p, q): self.of((p, q)) for i, p in enumerate(self.order) for q in self.order[i + 1 :]
        }
        for n, hull in enumerate(self.hulls):
            edges = [-np.inf, *(levels[pair][n] for pair in pairwise(hull)), np.inf]
            for charge, (start, end) in zip(hull, pairwise(edges), strict=True):
                ever[charge] += 1
                inside[charge] += bool(start < self.gap and end > 0.0)
        count = len(self.hulls)
        return [
            ChargeShare(charge=q, ever=ever[q] / count, in_gap=inside[q] / count)
            for q in self.order
        ]
