"""Which minimum may be the lowest, given that a committee is not sure of their order."""

from __future__ import annotations

import numpy as np

from defect_mf_flows.core.level_uncertainty import DRAWS, MemberEnergies, draw
from defect_mf_flows.schemas.results import FoundMinimum
from defect_mf_flows.schemas.search import Candidate, Minimum, Search, Verification

#: Minima beyond this rank are not drawn: there may be thousands.
DRAWN = 100


def contends(minimum: Minimum, lowest: Minimum) -> bool:
    """Whether a minimum lies within its spread of the lowest one.

    Parameters
    ----------
    minimum, lowest
        Of one charge state.

    Returns
    -------
    bool
        False without a committee.
    """
    above = minimum.energy - lowest.energy
    return minimum is not lowest and minimum.spread is not None and above <= minimum.spread


def worth_verifying(minima: list[Minimum], *, certain: int, uncertain: int) -> list[int]:
    """Ranks of the minima that high fidelity should look at.

    Parameters
    ----------
    minima
        Of one charge state, the lowest first.
    certain
        That many of the lowest, whatever their spread.
    uncertain
        At most that many others within their spread of the lowest, those first that lie fewest
        spreads above it.

    Returns
    -------
    list of int
        In ascending order.
    """
    others = [r for r in range(certain, len(minima)) if contends(minima[r], minima[0])]
    others.sort(key=lambda r: (minima[r].energy - minima[0].energy) / (minima[r].spread or 1.0))
    return sorted([*range(min(certain, len(minima))), *others[:uncertain]])


def lowest_shares(minima: list[Minimum], *, scale: float, seed: int) -> list[float | None]:
    """Probability that each minimum is the lowest, by the committee.

    Parameters
    ----------
    minima
        Of one charge state, the lowest first.
    scale
        Calibration of the spread of relative energies.
    seed
        Of the draws.

    Returns
    -------
    list of float or None
        One per minimum; None where the members' energies are not known.
    """
    known = _known(minima)
    shares: list[float | None] = [None] * len(minima)
    if 0 not in known:
        return shares
    energies = _energies(minima, known)
    drawn = draw(energies, scale=scale, draws=DRAWS, rng=np.random.default_rng(seed))
    counts = np.bincount(drawn.argmin(axis=1), minlength=len(known))
    for column, i in enumerate(known):
        shares[i] = float(counts[column]) / DRAWS
    return shares


def found_minima(
    search: Search, verification: Verification, *, scale: float, seed: int
) -> list[FoundMinimum]:
    """Minima of a search as results list them.

    Parameters
    ----------
    search, verification
        Of one charge state and round.
    scale, seed
        As for :func:`lowest_shares`.

    Returns
    -------
    list of FoundMinimum
        The lowest first.
    """
    if not search.minima:
        return []
    best = verification.ground_state
    zero = None if best is None else verification.candidates[best].energy_relaxed
    relaxed = {rank: c.energy_relaxed for rank, c in _own(verification).items()}
    shares = lowest_shares(search.minima, scale=scale, seed=seed)
    lowest = search.minima[0]
    found = []
    for rank, (minimum, share) in enumerate(zip(search.minima, shares, strict=True)):
        energy = relaxed.get(rank)
        found.append(
            FoundMinimum(
                defect=search.defect,
                charge=search.charge,
                rank=rank,
                energy=minimum.energy - lowest.energy,
                spread=minimum.spread,
                share=share,
                contender=contends(minimum, lowest),
                fate=minimum.fate,
                n_starts=len(minimum.starts),
                start=minimum.starts[0],
                verified=None if energy is None or zero is None else energy - zero,
            )
        )
    return found


def member_energies(
    search: Search, verification: Verification | None, *, shift: float = 0.0
) -> MemberEnergies | None:
    """Energies of a charge state's minima by every member, for the uncertainty of levels.

    Parameters
    ----------
    search
        Of the charge state.
    verification
        Its verdict, for verified energies; None for the model's own.
    shift
        Finite-size correction, eV per cell.

    Returns
    -------
    MemberEnergies or None
        None without a committee, or without a verified energy where one is asked for.
    """
    known = _known(search.minima)
    if 0 not in known:
        return None
    energies = _energies(search.minima, known) + shift
    if verification is None:
        return MemberEnergies(energies)
    best = verification.ground_state
    ground = None if best is None else verification.candidates[best]
    if ground is None or ground.energy_relaxed is None:
        return None
    done = _own(verification)
    same = [r for r, c in done.items() if c.kept and c.basin == ground.basin and r in known]
    return MemberEnergies(
        energies,
        verified=ground.energy_relaxed + shift,
        anchor=known.index(same[0]) if same else None,
        open=tuple(column for column, i in enumerate(known) if i not in done),
    )


def _known(minima: list[Minimum]) -> list[int]:
    """Ranks of the lowest minima whose energies the members gave."""
    return [i for i, minimum in enumerate(minima[:DRAWN]) if len(minimum.members) > 1]


def _energies(minima: list[Minimum], ranks: list[int]) -> np.ndarray:
    """Members' energies, the first row as the search has it, shape (n_members, n_minima)."""
    energies = np.array([minima[i].members for i in ranks]).T
    # A batch of the search rounds otherwise than the members' evaluation does.
    return np.asarray(energies - energies[0] + [minima[i].energy for i in ranks])


def _own(verification: Verification) -> dict[int, Candidate]:
    """Candidates of the model in the judged round whose relaxation ended, by rank."""
    return {
        c.rank: c
        for c in verification.candidates
        if (c.origin, c.round) == ("model", verification.round) and c.energy_relaxed is not None
    }
