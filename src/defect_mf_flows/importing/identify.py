"""Which cell is the host, which defect a cell holds, and what its folder's name claims."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Element, Structure

from defect_mf_flows.errors import ImportingError
from defect_mf_flows.schemas.structures import symbols_of

SYMPREC = 0.01
#: Cells whose vectors differ by less are the same cell, Angstrom.
SAME_CELL = 2e-3


@dataclass
class Host:
    """The pristine cell that defects are told from.

    Attributes
    ----------
    structure
        Pristine cell.
    zval
        Valence electrons per element, where known.
    source
        Where it comes from, for messages.
    """

    structure: Structure
    zval: dict[str, float]
    source: str

    @cached_property
    def orbits(self) -> list[int]:
        """Number of the symmetry-equivalent set of every site."""
        return symmetry(self.structure)[1]

    def fits(self, cell: np.ndarray) -> bool:
        """Tell whether a cell is the host's."""
        return bool(np.allclose(cell, self.structure.lattice.matrix, atol=SAME_CELL))


@dataclass(frozen=True)
class Identity:
    """What a cell is.

    Attributes
    ----------
    defect
        Name as doped gives it, or None for the host.
    site
        Fractional coordinates in the host's cell, or None.
    note
        What the user should know, or empty.
    """

    defect: str | None
    site: list[float] | None = None
    note: str = ""


def symmetry(structure: Structure) -> tuple[int, list[int]]:
    """Number of symmetry operations, and the set of equivalent sites of every site."""
    import spglib

    cell: Any = (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)
    found: Any = spglib.get_symmetry_dataset(cell, symprec=SYMPREC)
    if found is None:
        return 1, list(range(len(structure)))
    return len(found.rotations), [int(i) for i in found.equivalent_atoms]


def translations(structure: Structure) -> int:
    """Number of pure translations; above 1 in a cell that repeats a smaller one."""
    import spglib

    cell: Any = (structure.lattice.matrix, structure.frac_coords, structure.atomic_numbers)
    found: Any = spglib.get_symmetry_dataset(cell, symprec=SYMPREC)
    if found is None:
        return 1
    return int(sum(np.array_equal(r, np.eye(3, dtype=int)) for r in found.rotations))


def choose_host(candidates: list[tuple[str, Structure]]) -> int | None:
    """Choose the pristine one among neutral cells on one lattice.

    Parameters
    ----------
    candidates
        Formula and first geometry, one per composition.

    Returns
    -------
    int or None
        Index of the one with the most symmetry operations. None if that does not single one
        out: a cell that stands alone must repeat a smaller one.
    """
    if not candidates:
        return None
    counts = [symmetry(structure)[0] for _, structure in candidates]
    best = int(np.argmax(counts))
    alone = len(candidates) == 1 or sorted(counts)[-2] == counts[best]
    if alone and translations(candidates[best][1]) == 1:
        return None
    return best


def identify(structure: Structure, host: Host) -> Identity:
    """Name the defect of a cell.

    Parameters
    ----------
    structure
        First geometry of the calculation.
    host
        Pristine cell with the same lattice.

    Returns
    -------
    Identity
        doped's short name (``v_Zn``, ``Al_Zn``, ``Al_i``) where the host's sites of that element
        are all equivalent; doped's long name, with the site's symmetry, otherwise.

    Raises
    ------
    ImportingError
        If the site of a single defect cannot be found.
    """
    difference = Counter(symbols_of(structure))
    difference.subtract(symbols_of(host.structure))
    more = {s: n for s, n in difference.items() if n > 0}
    less = {s: -n for s, n in difference.items() if n < 0}
    if not more and not less:
        return _same_composition(structure, host)
    if max(sum(more.values()), sum(less.values())) > 1:
        name = "+".join(
            [f"v_{s}" if n == 1 else f"v_{s}x{n}" for s, n in sorted(less.items())]
            + [f"{s}_i" if n == 1 else f"{s}_ix{n}" for s, n in sorted(more.items())]
        )
        name = f"complex_{name.replace('+', '_')}"
        return Identity(name, None, "more than one point defect: named by its composition")
    return _single(structure, host, next(iter(more), None), next(iter(less), None))


def _same_composition(structure: Structure, host: Host) -> Identity:
    """The host, or a defect that keeps the composition (an antisite pair, a Frenkel pair)."""
    moved = _largest_move(structure, host.structure)
    if moved < 1.0:
        return Identity(None)
    return Identity(
        None, None, f"the host's composition, but an atom is {moved:.1f} A off its sites"
    )


def _largest_move(structure: Structure, host: Structure) -> float:
    largest = 0.0
    for symbol in set(symbols_of(host)):
        mine = [s.frac_coords for s in structure if s.specie.symbol == symbol]
        sites = [s.frac_coords for s in host if s.specie.symbol == symbol]
        distances = host.lattice.get_all_distances(sites, mine)
        largest = max(largest, float(distances.min(axis=1).max()))
    return largest


def _single(structure: Structure, host: Host, added: str | None, lost: str | None) -> Identity:
    """A vacancy, a substitution or an interstitial."""
    extra = None if added is None else _unmatched(host.structure, structure, added)
    if lost is None:
        if added is None or extra is None:
            raise ImportingError("neither more nor fewer atoms than the host.")
        return Identity(f"{added}_i", _wrapped(extra))
    if extra is None:
        site = _unmatched(structure, host.structure, lost)
        name = f"v_{lost}"
    else:
        site, name = _nearest(host.structure, lost, extra), f"{added}_{lost}"
    index = int(np.argmin(_distances(host.structure, host.structure.frac_coords, [site])[:, 0]))
    orbits = {o for o, s in zip(host.orbits, symbols_of(host.structure), strict=True) if s == lost}
    if len(orbits) > 1:
        name = _long_name(host, index, added)
    return Identity(name, _wrapped(site))


def _distances(structure: Structure, one: Any, other: Any) -> np.ndarray:
    found: np.ndarray = structure.lattice.get_all_distances(one, other)
    return found


def _unmatched(fewer: Structure, more: Structure, symbol: str) -> np.ndarray:
    """Coordinates of the one atom of an element that the other cell lacks.

    Every other atom is given its partner such that the squared distances are least in sum, so
    that a relaxed neighbour is not taken for the missing one.
    """
    from scipy.optimize import linear_sum_assignment

    few = np.array([s.frac_coords for s in fewer if s.specie.symbol == symbol]).reshape(-1, 3)
    many = np.array([s.frac_coords for s in more if s.specie.symbol == symbol])
    if not len(few):
        return np.array(many[0])
    _, taken = linear_sum_assignment(_distances(fewer, few, many) ** 2)
    rest = sorted(set(range(len(many))) - {int(i) for i in taken})
    return np.array(many[rest[0]])


def _nearest(host: Structure, symbol: str, place: np.ndarray) -> np.ndarray:
    sites = np.array([s.frac_coords for s in host if s.specie.symbol == symbol])
    return np.array(sites[int(np.argmin(_distances(host, sites, [place])[:, 0]))])


def _wrapped(coords: np.ndarray) -> list[float]:
    return [float(x) for x in np.round(np.asarray(coords) % 1.0, 6)]


def _long_name(host: Host, index: int, added: str | None) -> str:
    """Doped's name with the site's symmetry, for hosts with several sites of an element."""
    from doped.analysis import defect_name_from_structures

    from defect_mf_flows.core.defects import quiet

    unrelaxed = host.structure.copy()
    if added is None:
        unrelaxed.remove_sites([index])
    else:
        unrelaxed.replace(index, added)
    with quiet():
        return str(defect_name_from_structures(host.structure, unrelaxed))


# -- folder names ----------------------------------------------------------------------------

#: v_Zn_-2, Al_i_C3v_+1 (doped); vac_1_Zn_-2, sub_1_Al_on_Zn_0, inter_26_Al_3 (older trees).
_OLDER = re.compile(r"^(?:vac_\d+_(?P<v>[A-Z][a-z]?)|(?:sub|as)_\d+_(?P<s>[A-Z][a-z]?)_on_"
                    r"(?P<on>[A-Z][a-z]?)|int(?:er)?_\d+_(?P<i>[A-Z][a-z]?))")  # fmt: skip
_DOPED = re.compile(r"^(?P<a>v|V|[A-Z][a-z]?)_(?P<b>i|[A-Z][a-z]?)(?=_|$)")
_CHARGE = re.compile(r"_([+-]?\d+)$")


@dataclass(frozen=True)
class Claim:
    """What a folder's name says.

    Attributes
    ----------
    folder
        The name.
    defect
        Start of doped's name of the defect, or None if it says none.
    charge
        Charge, or None if it says none.
    """

    folder: str
    defect: str | None
    charge: int | None


def folder_claim(path: Path, levels: int = 4) -> Claim | None:
    """Read the name of the nearest folder that is named like a defect.

    Parameters
    ----------
    path
        File of a calculation.
    levels
        Folders to look at, from the file up.

    Returns
    -------
    Claim or None
        None if no folder is named so.
    """
    for folder in list(path.parents)[:levels]:
        defect = _claimed_defect(folder.name)
        if defect is not None:
            match = _CHARGE.search(folder.name)
            return Claim(folder.name, defect, int(match[1]) if match else None)
    return None


def _claimed_defect(name: str) -> str | None:
    if match := _OLDER.match(name):
        if match["v"]:
            return f"v_{match['v']}"
        return f"{match['s']}_{match['on']}" if match["s"] else f"{match['i']}_i"
    match = _DOPED.match(name)
    if match is None:
        return None
    first, second = match["a"], match["b"]
    known = all(Element.is_valid_symbol(x) for x in {first, second} - {"v", "V", "i"})
    vacancy = first in "vV"
    return f"{'v' if vacancy else first}_{second}" if known and second != "" else None


def contradictions(claim: Claim | None, defect: str | None, charge: int) -> list[str]:
    """Compare a folder's name with what the files tell.

    Returns
    -------
    list of str
        One message per contradiction; the files are right.
    """
    found: list[str] = []
    if claim is None:
        return found
    if claim.charge is not None and claim.charge != charge:
        found.append(
            f"folder {claim.folder!r} says charge {claim.charge:+d}, the file's electrons say "
            f"{charge:+d}; the file counts"
        )
    if claim.defect is not None and not _same_defect(claim.defect, defect):
        found.append(
            f"folder {claim.folder!r} says {claim.defect}, the atoms say {defect or 'host'}; the "
            "atoms count"
        )
    return found


def _same_defect(claimed: str, found: str | None) -> bool:
    return found is not None and (found == claimed or found.startswith(f"{claimed}_"))
