"""What a VASP calculation notes for its next execution, and for other calculations."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.frame import content_hash
from defect_mf_flows.settings import get_settings

SPIN = "spin.json"


@dataclass(frozen=True)
class ChosenSpin:
    """Which of two guesses of the spin was the lower.

    Attributes
    ----------
    unpaired
        Electrons.
    energies
        Unpaired electrons -> eV per cell; empty where another campaign has guessed.
    calls
        What the guesses have cost.
    """

    unpaired: int
    energies: dict[int, float] = field(default_factory=dict)
    calls: int = 0

    def write(self, folder: Path) -> None:
        """Note it in the folder of the calculation."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {"unpaired": self.unpaired, "energies": self.energies, "calls": self.calls}
        (folder / SPIN).write_text(json.dumps(content))

    @classmethod
    def read(cls, folder: Path) -> ChosenSpin | None:
        """What was noted; None if nothing was."""
        if not (folder / SPIN).is_file():
            return None
        content = json.loads((folder / SPIN).read_text())
        energies = {int(unpaired): energy for unpaired, energy in content["energies"].items()}
        return cls(int(content["unpaired"]), energies, int(content["calls"]))


def unperturbed_note(start: StartStructure, settings: FidelitySettings) -> Path:
    """Where the unperturbed start's run notes its energy for the distorted ones.

    Parameters
    ----------
    start
        Either of them.
    settings
        Of the fidelity.

    Returns
    -------
    Path
        Named after method, defect, charge, spin, lattice and formula; need not exist.
    """
    key = content_hash(
        {
            "settings": settings.settings,
            "defect": start.defect,
            "charge": start.charge,
            "spin": start.spin,
            "lattice": np.round(start.structure.lattice.matrix, 5).tolist(),
            "formula": start.structure.composition.formula,
        }
    )
    return get_settings().scratch.resolve() / "vasp" / "unperturbed" / f"{key}.json"
