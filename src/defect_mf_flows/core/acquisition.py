"""Which geometries are worth a high-fidelity label: where a committee disagrees and it matters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pymatgen.core import Structure
from pymatgen.util.coord import pbc_shortest_vectors

from defect_mf_flows.core.charge import charge_of, with_charge
from defect_mf_flows.core.groups import fingerprint
from defect_mf_flows.schemas.frame import Frame
from defect_mf_flows.schemas.structures import symbols_of

#: Where between two minima geometries are taken.
PLACES = (0.25, 0.5, 0.75)

#: Geometries whose distances all agree to this teach the same, Angstrom.
ALIKE = 0.1

#: Charge, and interatomic distances as ``fingerprint`` sorts them.
Geometry = tuple[int, np.ndarray]


@dataclass(frozen=True)
class Query:
    """A geometry that could be labelled.

    Attributes
    ----------
    defect, charge
        What it is of.
    kind
        ``"minimum"``, ``"crossing"`` or ``"relaxation"``.
    label
        Where it comes from.
    structure
        With its charge.
    energy
        Above the lowest minimum of its charge, by the model, eV per cell.
    spread
        Committee's spread of that energy, eV per cell.
    """

    defect: str
    charge: int
    kind: str
    label: str
    structure: Structure
    energy: float
    spread: float

    def score(self, width: float) -> float:
        """Expected gain: spread, less the further above the lowest minimum, eV."""
        return float(self.spread * np.exp(-max(self.energy, 0.0) / width))


def between(one: Structure, other: Structure) -> list[Structure]:
    """Geometries on the straight line between two minima of one cell.

    Parameters
    ----------
    one, other
        Same atoms in the same order, with charge.

    Returns
    -------
    list of Structure
        With the charge of ``one``; each atom moves along its shortest way.
    """
    moves = np.array(
        [
            pbc_shortest_vectors(one.lattice, a, b)[0][0]
            for a, b in zip(one.frac_coords, other.frac_coords, strict=True)
        ]
    )
    moves -= moves.mean(axis=0)
    symbols = symbols_of(one)
    return [
        with_charge(
            Structure(
                one.lattice, symbols, one.cart_coords + place * moves, coords_are_cartesian=True
            ),
            charge_of(one),
        )
        for place in PLACES
    ]


def choose(queries: list[Query], count: int, *, width: float) -> list[Query]:
    """Choose the queries of highest score that differ from each other.

    Parameters
    ----------
    queries
        All that could be labelled.
    count
        Labels that can be paid for.
    width
        Energy above the lowest minimum at which a query is worth 1/e, eV per cell.

    Returns
    -------
    list of Query
        The best first; fewer where there are no more that differ, or none has a spread.
    """
    chosen: list[Query] = []
    vectors: list[np.ndarray] = []
    for query in sorted(queries, key=lambda q: (-q.score(width), q.label)):
        if len(chosen) >= count or query.score(width) <= 0:
            break
        own = fingerprint(query.structure)
        known = any(
            (other.defect, other.charge) == (query.defect, query.charge) and _alike(own, vector)
            for other, vector in zip(chosen, vectors, strict=True)
        )
        if not known:
            chosen.append(query)
            vectors.append(own)
    return chosen


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two fingerprints are those of one geometry, as far as a label is concerned."""
    return len(one) == len(other) and float(np.abs(one - other).max(initial=0.0)) <= ALIKE


def unlabelled(queries: list[Query], labels: list[Frame]) -> list[Query]:
    """Leave out queries whose geometry has a label of its charge already.

    Parameters
    ----------
    queries
        All that could be labelled.
    labels
        High-fidelity frames that are known.

    Returns
    -------
    list of Query
        The others, in their order.
    """
    known = [_geometry(frame.structure) for frame in labels]
    return [query for query in queries if not _among(query.structure, known)]


def is_known(structure: Structure, known: list[Structure]) -> bool:
    """Whether a geometry is among others, with its charge.

    Parameters
    ----------
    structure
        With its charge; where its atoms stand in the list does not matter.
    known
        With their charges.

    Returns
    -------
    bool
        True if the charge and, to ``ALIKE``, all interatomic distances of one of them agree.
    """
    return _among(structure, [_geometry(other) for other in known])


def _geometry(structure: Structure) -> Geometry:
    return charge_of(structure), fingerprint(structure)


def _among(structure: Structure, known: list[Geometry]) -> bool:
    charge, vector = _geometry(structure)
    return any(other == charge and _alike(vector, its) for other, its in known)
