"""A campaign file to change, and what the tests of this folder do with it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from pymatgen.core import Structure

from defect_mf_flows.campaign import Campaign, Section

BASE: dict[str, Any] = {
    "name": "test",
    "host": {"structure": "ZnS.cif", "supercell": [2, 2, 1]},
    "defects": {"include": ["v_Zn"], "charges": {"v_Zn": [0, -1]}},
    "fidelities": {
        "pbe": {"engine": "xtb", "settings": {"method": "GFN1-xTB"}},
        "hse": {"engine": "xtb", "settings": {"method": "GFN2-xTB"}},
    },
    "roles": {"low": "pbe", "high": "hse"},
    "training": {"r_max": 4.0},
}

REMOVED = object()
XTB = {"engine": "xtb", "settings": {"method": "GFN2-xTB"}}
ASE = {"calculator": "tblite.ase.TBLite", "charge_keyword": "charge"}

Load = Callable[[Any], tuple[Campaign, Structure]]


def changed(path: str, value: Any) -> dict[str, Any]:
    """The base campaign with one value, given by its dotted path, replaced."""
    content = deepcopy(BASE)
    *parents, last = path.split(".")
    target = content
    for key in parents:
        target = target.setdefault(key, {})
    if value is REMOVED:
        del target[last]
    else:
        target[last] = value
    return content


def sections(kind: type[Section] = Section) -> list[type[Section]]:
    found = {kind_ for own in kind.__subclasses__() for kind_ in (own, *sections(own))}
    return sorted(found, key=lambda item: item.__name__)
