"""What a relaxation made of a defect: still there, elsewhere, another defect, or apart."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from pymatgen.core import Structure
from scipy.optimize import linear_sum_assignment

from defect_mf_flows.core.symmetry import shortest_vectors
from defect_mf_flows.schemas.defect import Defect
from defect_mf_flows.schemas.search import Fate, FateKind

# All in units of the host's shortest bond. An atom of a dimer has moved by half a bond, and
# still belongs to its own site rather than to the vacancy that it leans into.
OFF_SITE = 0.65
WRONG_SITE = 0.4
MOVED = 0.6
BOUND = 1.6


@dataclass(frozen=True)
class Part:
    """One point defect of a geometry.

    Attributes
    ----------
    name
        For example ``v_Zn``, ``S_Zn``, ``Zn_i``.
    place
        Fractional coordinates, shape (3,): of the host's site, or of an interstitial itself.
    """

    name: str
    place: np.ndarray


def parts_of(structure: Structure, host: Structure, *, bond: float) -> list[Part]:
    """Point defects that a geometry consists of.

    Every atom is given a site of the host, or none, such that the sum of squared distances is
    the least; an atom on a site of another element, and one on no site, count as if further away.

    Parameters
    ----------
    structure
        Relaxed or unrelaxed geometry.
    host
        The pristine supercell, on the same lattice.
    bond
        Shortest bond of the host, Angstrom.

    Returns
    -------
    list of Part
        Empty for the host itself. Like atoms are exchangeable, so the order of atoms does not
        matter, and a rigid shift is taken out.
    """
    n, sites = len(structure), len(host)
    vectors = -shortest_vectors(host.lattice, structure.frac_coords, host.frac_coords)
    unlike = np.array(structure.atomic_numbers)[:, None] != np.array(host.atomic_numbers)[None, :]
    shift = np.zeros(3)
    for _ in range(2):
        cost = np.full((n, sites + n), (OFF_SITE * bond) ** 2)
        cost[:, :sites] = ((vectors - shift) ** 2).sum(axis=2)
        cost[:, :sites] += unlike * (WRONG_SITE * bond) ** 2
        columns = linear_sum_assignment(cost)[1]
        on = columns < sites
        shift = vectors[np.flatnonzero(on), columns[on]].mean(axis=0)
    found = []
    odd = ~on
    odd[on] = unlike[np.flatnonzero(on), columns[on]]
    for atom in np.flatnonzero(odd).tolist():
        symbol, where = structure[atom].specie.symbol, host[int(min(columns[atom], sites - 1))]
        if on[atom]:
            found.append(Part(f"{symbol}_{where.specie.symbol}", np.array(where.frac_coords)))
        else:
            found.append(Part(f"{symbol}_i", np.array(structure[atom].frac_coords)))
    for index in sorted(set(range(sites)) - set(columns.tolist())):
        found.append(Part(f"v_{host[index].specie.symbol}", np.array(host[index].frac_coords)))
    return found


def fate_of(
    structure: Structure, defect: Defect, host: Structure, before: list[Part] | None = None
) -> tuple[Fate, np.ndarray]:
    """Say what became of a defect.

    Parameters
    ----------
    structure
        Relaxed geometry.
    defect
        The defect, with its unrelaxed cell.
    host
        The pristine supercell.
    before
        Parts of the unrelaxed cell, where they are known already.

    Returns
    -------
    fate
        Kind, name and distance.
    place
        Fractional coordinates where the defect is now, shape (3,): its own site unless it
        migrated as one part.
    """
    bond = defect.neighbour_distance
    before = parts_of(defect.supercell, host, bond=bond) if before is None else before
    now = parts_of(structure, host, bond=bond)
    site = np.array(defect.site)
    name = _name(now)
    if _name(before) != name:
        kind = FateKind.REARRANGED if _bound(now, host, bond) else FateKind.DISSOCIATED
        return Fate(kind=kind, name=name, distance=_extent(now, host)), site
    moved, pairs = _moved(before, now, host)
    if moved <= MOVED * bond:
        return Fate(kind=FateKind.AT_SITE, name=name, distance=moved), site
    if _bound(before, host, bond) and not _bound(now, host, bond):
        return Fate(kind=FateKind.DISSOCIATED, name=name, distance=_extent(now, host)), site
    place = site + pairs[0][1].place - pairs[0][0].place if len(now) == 1 else site
    return Fate(kind=FateKind.MIGRATED, name=name, distance=moved), place


def _name(parts: list[Part]) -> str:
    counts = Counter(part.name for part in parts)
    names = [f"{n} {name}" if n > 1 else name for name, n in sorted(counts.items())]
    return " + ".join(names) or "host"


def _lengths(one: list[Part], other: list[Part], host: Structure) -> np.ndarray:
    places = [np.array([part.place for part in parts]) for parts in (one, other)]
    return np.asarray(host.lattice.get_all_distances(*places))


def _moved(
    before: list[Part], now: list[Part], host: Structure
) -> tuple[float, list[tuple[Part, Part]]]:
    """Largest distance that a part has moved, and which became which."""
    if not before:
        return 0.0, []
    lengths = _lengths(before, now, host)
    unlike = np.array([[a.name != b.name for b in now] for a in before])
    rows, columns = linear_sum_assignment(np.where(unlike, 1e6, lengths**2))
    pairs = [(before[i], now[j]) for i, j in zip(rows, columns, strict=True)]
    return float(lengths[rows, columns].max()), pairs


def _extent(parts: list[Part], host: Structure) -> float:
    """Largest distance between two parts."""
    return float(_lengths(parts, parts, host).max()) if parts else 0.0


def _bound(parts: list[Part], host: Structure, bond: float) -> bool:
    """Whether the parts hang together, each within a bond or so of another."""
    if not parts:
        return True
    near = _lengths(parts, parts, host) <= BOUND * bond
    reached = {0}
    while True:
        more = {j for i in reached for j in np.flatnonzero(near[i]).tolist()}
        if more <= reached:
            return len(reached) == len(parts)
        reached |= more
