"""Reading many structures fast: what pymatgen does per site is done once per element."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from pymatgen.core import Composition, Element, Lattice, Structure


@cache
def _whole(symbol: str) -> Composition:
    """One atom of an element; compositions cannot be changed, so sites may share them."""
    return Composition({Element(symbol): 1})


def stored_structure(content: dict[str, Any]) -> Structure:
    """Rebuild a structure from its dictionary, without pymatgen's detours if it is plain.

    Parameters
    ----------
    content
        What ``Structure.as_dict`` gave.

    Returns
    -------
    Structure
        Equal to that of ``Structure.from_dict``, charge and properties included.
    """
    sites = content["sites"]
    lattice = content["lattice"]
    plain = set(lattice.get("pbc", (True,))) == {True} and all(_is_plain(site) for site in sites)
    if not plain:
        return Structure.from_dict(content)
    return Structure(
        Lattice(lattice["matrix"]),
        [_whole(site["species"][0]["element"]) for site in sites],
        np.array([site["abc"] for site in sites]),
        charge=content.get("charge"),
        properties=content.get("properties"),
    )


def _is_plain(site: dict[str, Any]) -> bool:
    """One whole element without oxidation state, label or properties of its own."""
    species = site["species"]
    if len(species) != 1 or site.get("properties"):
        return False
    element = species[0].get("element")
    return (
        element in Element.__members__
        and species[0].keys() <= {"element", "occu"}
        and species[0].get("occu", 1) == 1
        and site.get("label", element) == element
    )


def symbols_of(structure: Structure) -> list[str]:
    """Chemical symbols of the sites.

    Parameters
    ----------
    structure
        An ordered structure; oxidation states are left out.

    Returns
    -------
    list of str
        In the order of the sites.

    Raises
    ------
    AttributeError
        If a site is disordered, as pymatgen says it.
    """
    known: dict[int, str] = {}
    symbols = []
    for site in structure:
        species = id(site.species)
        if species not in known:
            known[species] = site.specie.symbol
        symbols.append(known[species])
    return symbols
