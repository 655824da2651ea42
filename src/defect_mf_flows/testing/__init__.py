"""Helpers for tests, of this package and of packages that extend it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pymatgen.core import Structure

#: A campaign of seconds: 7 atoms, real tight binding, a real but tiny MACE.
TINY: dict[str, Any] = {
    "name": "tiny",
    "seed": 1,
    "disclaimer": "A test: these numbers mean nothing.",
    "host": {"structure": "host.cif", "supercell": [1, 1, 1]},
    "defects": {"include": ["v_Zn"], "charges": {"v_Zn": [0, -1]}},
    "fidelities": {
        "gfn1": {
            "engine": "xtb",
            "settings": {"method": "GFN1-xTB"},
            "fmax": 0.3,
            "steps": 15,
        },
        "gfn2": {
            "engine": "xtb",
            "settings": {"method": "GFN2-xTB"},
            "fmax": 0.1,
            "steps": 40,
        },
    },
    "roles": {"low": "gfn1", "high": "gfn2"},
    "starts": {"distortions": [-0.3, 0.0]},
    "frames": {"per_relaxation": 5},
    "picks": {"fraction": 0.3},
    "training": {
        "r_max": 3.5,
        "hidden_irreps": "8x0e + 8x1o",
        "num_interactions": 1,
        "max_epochs": 6,
        "validate_every": 1,
        "checkpoint_every": 1,
    },
    "search": {
        "distortions": [-0.3],
        "pair_distortions": [],
        "rattles": [0.05],
        "steps": 10,
    },
    "verification": {"minima": 1},
    "loop": {"max_rounds": 1},
}


def zinc_blende() -> Structure:
    """Conventional cell of zinc-blende ZnS, 8 atoms."""
    from pymatgen.core import Lattice, Structure  # the stand-in for VASP does without

    return Structure.from_spacegroup(
        "F-43m", Lattice.cubic(5.4093), ["Zn", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]]
    )


def write_campaign(folder: Path, changes: dict[str, Any] | None = None) -> Path:
    """Write a tiny campaign and its host into a folder.

    Parameters
    ----------
    folder
        Existing folder.
    changes
        Dotted keys and their new values, for example ``{"training.r_max": 3.0}``; the value
        None removes the key.

    Returns
    -------
    Path
        The campaign file.
    """
    content = copy.deepcopy(TINY)
    for key, value in (changes or {}).items():
        *sections, last = key.split(".")
        target = content
        for section in sections:
            target = target.setdefault(section, {})
        if value is None:
            target.pop(last, None)
        else:
            target[last] = copy.deepcopy(value)  # a later key may reach into it
    zinc_blende().to(filename=str(folder / "host.cif"))
    path = folder / "campaign.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
