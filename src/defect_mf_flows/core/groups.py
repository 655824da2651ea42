"""What must stay together on one side of a split: duplicates, basins, defects, compositions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.campaign import SplitSettings
from defect_mf_flows.core.references import composition_key
from defect_mf_flows.core.splits import share_side, split_relaxations
from defect_mf_flows.errors import DatasetError
from defect_mf_flows.schemas.dataset import Split
from defect_mf_flows.schemas.frame import Frame, content_hash, structure_key
from defect_mf_flows.schemas.structures import symbols_of

#: Distances beyond this do not tell two geometries apart, Angstrom.
REACH = 6.0

#: Two geometries whose distances agree to this are copies of each other, Angstrom.
COPY = 2e-3

#: Two ends of relaxations are one basin if their distances agree to this (Angstrom) and their
#: energies to the other (eV per cell).
SAME_BASIN = 0.15
SAME_ENERGY = 0.03


@dataclass(frozen=True)
class Ending:
    """One relaxation and where it ended.

    Attributes
    ----------
    key
        Of the relaxation.
    defect, charge
        What was relaxed.
    structure, energy
        Last geometry and its energy, eV per cell, at the fidelity of the relaxation.
    """

    key: str
    defect: str | None
    charge: int
    structure: Structure
    energy: float

    @property
    def stratum(self) -> str:
        """Defect and charge."""
        return f"{self.defect}|{self.charge:+d}"


def fingerprint(structure: Structure) -> np.ndarray:
    """Sorted interatomic distances per pair of elements, Angstrom.

    Parameters
    ----------
    structure
        Any geometry.

    Returns
    -------
    numpy.ndarray
        Shape (n_atoms (n_atoms - 1) / 2,), the same for every translation, rotation and order
        of the atoms; distances beyond ``REACH`` count as ``REACH``.
    """
    symbols = np.array(symbols_of(structure))
    matrix = np.minimum(structure.distance_matrix, REACH)
    parts = []
    names = sorted(set(symbols))
    for k, one in enumerate(names):
        for other in names[k:]:
            block = matrix[np.ix_(symbols == one, symbols == other)]
            if one == other:
                block = block[np.triu_indices(len(block), k=1)]
            parts.append(np.sort(block, axis=None))
    return np.concatenate(parts)


def geometry_key(frame: Frame) -> str:
    """Hash of charge and geometry, the same for every fidelity."""
    return charged_geometry_key(frame.structure, frame.charge)


def charged_geometry_key(structure: Structure, charge: int) -> str:
    """Hash of charge and geometry."""
    return content_hash([charge, structure_key(structure)])


def basins(endings: Iterable[Ending]) -> dict[str, str]:
    """Basin in which each relaxation ended, per defect and charge.

    Parameters
    ----------
    endings
        Ends of relaxations.

    Returns
    -------
    dict
        Key of the relaxation -> name of its basin; no defect site is needed.
    """
    found: dict[str, str] = {}
    known: dict[str, list[tuple[np.ndarray, float]]] = defaultdict(list)
    for ending in sorted(endings, key=lambda item: (item.stratum, item.energy, item.key)):
        cell = f"{ending.stratum}|{composition_key(ending.structure)}"
        vector = fingerprint(ending.structure)
        same = [
            number
            for number, (other, energy) in enumerate(known[cell])
            if float(np.abs(vector - other).max(initial=0.0)) <= SAME_BASIN
            and abs(ending.energy - energy) <= SAME_ENERGY
        ]
        if not same:
            same = [len(known[cell])]
            known[cell].append((vector, ending.energy))
        found[ending.key] = f"{cell}|basin {same[0]}"
    return found


def copied_relaxations(frames: Mapping[str, list[Frame]]) -> list[tuple[str, str]]:
    """Pairs of relaxations of which one is a copy of the other, or of a part of it.

    Parameters
    ----------
    frames
        Relaxation -> its frames.

    Returns
    -------
    list of (str, str)
        Pairs that share a labelled geometry exactly, or half the geometries of the shorter one,
        and at least two, up to ``COPY``, whatever the order of atoms or the origin.
    """
    from sklearn.neighbors import NearestNeighbors

    groups: dict[tuple[int, str], list[tuple[str, Frame]]] = defaultdict(list)
    for key, members in frames.items():
        for frame in members:
            groups[frame.charge, composition_key(frame.structure)].append((key, frame))
    shared: dict[tuple[str, str], set[str]] = defaultdict(set)
    exact: set[tuple[str, str]] = set()
    for rows in groups.values():
        vectors = np.array([fingerprint(frame.structure) for _, frame in rows])
        search = NearestNeighbors(radius=COPY, metric="chebyshev").fit(vectors)
        for i, found in enumerate(search.radius_neighbors(vectors, return_distance=False)):
            for j in (int(k) for k in found):
                one, other = rows[i][0], rows[j][0]
                if one == other:
                    continue
                pair = (min(one, other), max(one, other))
                shared[pair].add(f"{one}|{geometry_key(rows[i][1])}")
                if geometry_key(rows[i][1]) == geometry_key(rows[j][1]):
                    exact.add(pair)
    sizes = {key: len({geometry_key(f) for f in members}) for key, members in frames.items()}
    copies = set(exact)
    for pair, geometries in shared.items():
        shorter = min(pair, key=lambda key: (sizes[key], key))
        own = sum(item.startswith(f"{shorter}|") for item in geometries)
        if own >= max(2, sizes[shorter] / 2):
            copies.add(pair)
    return sorted(copies)


def merged(keys: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Name of the group of every key once paired keys are one group.

    Parameters
    ----------
    keys
        All keys.
    pairs
        Keys that belong together.

    Returns
    -------
    dict
        Key -> the first key, in alphabetical order, of its group.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ordered = sorted(keys)
    if not ordered:
        return {}
    place = {key: i for i, key in enumerate(ordered)}
    links = [(place[a], place[b]) for a, b in pairs]
    rows, columns = zip(*links, strict=True) if links else ((), ())
    graph = coo_matrix((np.ones(len(links)), (rows, columns)), shape=(len(ordered), len(ordered)))
    _, labels = connected_components(graph, directed=False)
    first: dict[int, str] = {}
    for key in ordered:
        first.setdefault(int(labels[place[key]]), key)
    return {key: first[int(labels[place[key]])] for key in ordered}


def group_relaxations(
    endings: list[Ending], by: str, copies: Iterable[tuple[str, str]] = ()
) -> dict[str, str]:
    """Group of every relaxation that must be on one side.

    Parameters
    ----------
    endings
        All relaxations.
    by
        As ``split.by`` in the campaign file; not ``"frame"``.
    copies
        Relaxations that are copies of each other.

    Returns
    -------
    dict
        Relaxation -> group.
    """
    if by == "basin":
        named = basins(endings)
    elif by == "defect":
        named = {item.key: str(item.defect) for item in endings}
    elif by == "composition":
        named = {item.key: composition_key(item.structure) for item in endings}
    else:
        named = {item.key: item.key for item in endings}
    first = {name: key for key, name in sorted(named.items(), reverse=True)}
    links = [(key, first[name]) for key, name in named.items()]
    return merged(named, [*links, *copies])


def split_groups(
    endings: list[Ending],
    *,
    settings: SplitSettings,
    seed: int,
    labels: Mapping[str, int] | None = None,
    copies: Iterable[tuple[str, str]] = (),
) -> dict[str, Split]:
    """Side of every relaxation, so that no group is on two sides.

    Parameters
    ----------
    endings
        All relaxations.
    settings
        Shares, and what stays together.
    seed
        Campaign seed.
    labels
        High-fidelity labels per relaxation.
    copies
        Relaxations that are copies of each other.

    Returns
    -------
    dict
        Relaxation -> side.

    Raises
    ------
    DatasetError
        If there are too few groups to hold any out.
    """
    groups = group_relaxations(endings, settings.by, copies)
    by_defect = settings.by in ("defect", "composition")
    strata: dict[str, str] = {}
    counts: dict[str, int] = defaultdict(int)
    for item in sorted(endings, key=lambda ending: ending.key):
        group = groups[item.key]
        strata.setdefault(group, "all" if by_defect else item.stratum)
        counts[group] += (labels or {}).get(item.key, 0)
    sides = split_relaxations(strata, settings=settings, seed=seed, labels=counts)
    held_out = {side for side in sides.values() if side is not Split.TRAIN}
    if settings.by != "relaxation" and len(held_out) < 2:
        raise DatasetError(
            f"split.by {settings.by!r} finds {len(sides)} groups in {len(endings)} relaxations: "
            "too few to validate and test; choose another split.by, or add data."
        )
    return {key: sides[group] for key, group in groups.items()}


def frame_side(frame: Frame, *, settings: SplitSettings, seed: int) -> Split:
    """Side of one geometry in the frame-random split, the same at every fidelity.

    Neighbours along a relaxation end on different sides: errors come out too small.
    """
    return share_side(geometry_key(frame), settings=settings, seed=seed)
