"""An ordered supercell of a disordered alloy."""

from __future__ import annotations

from typing import Any

import numpy as np
from pymatgen.core import Structure


def ordered_alloy(structure: Structure, supercell: Any, *, seed: int) -> Structure:
    """Put whole atoms on the shared sites of an alloy, at random.

    Parameters
    ----------
    structure
        Cell with partial occupancies; every site must be full.
    supercell
        Three repeats or a 3x3 matrix.
    seed
        Campaign seed; the same gives the same order.

    Returns
    -------
    Structure
        Ordered supercell. Sites with the same occupancies share its atoms in their proportions,
        rounded to whole atoms.

    Raises
    ------
    ValueError
        If a site is not full.
    """
    repeated = structure.copy()
    repeated.make_supercell(supercell)
    rng = np.random.default_rng(seed)
    kinds: dict[str, list[int]] = {}
    for index, site in enumerate(repeated):
        kinds.setdefault(str(sorted(site.species.items(), key=str)), []).append(index)
    symbols = [""] * len(repeated)
    for members in kinds.values():
        species = repeated[members[0]].species
        shares = {item.symbol: float(share) for item, share in species.items()}
        if abs(sum(shares.values()) - 1) > 1e-3:
            raise ValueError(f"the site of {species} is not full")
        atoms = _whole(shares, len(members))
        for index, symbol in zip(members, rng.permutation(atoms).tolist(), strict=True):
            symbols[index] = symbol
    ordered = Structure(repeated.lattice, symbols, repeated.frac_coords)
    return ordered.get_sorted_structure()


def _whole(shares: dict[str, float], n: int) -> list[str]:
    """Atoms in the proportions of shares, by largest remainder."""
    counts = {symbol: int(share * n + 1e-6) for symbol, share in shares.items()}
    by_remainder = sorted(shares, key=lambda s: (counts[s] - shares[s] * n, s))
    for symbol in by_remainder[: n - sum(counts.values())]:
        counts[symbol] += 1
    return [symbol for symbol in sorted(counts) for _ in range(counts[symbol])]
