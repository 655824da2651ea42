"""Settings of a fidelity that CP2K computes, checked without CP2K."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from defect_mf_flows.campaign.explaining import checked_settings
from defect_mf_flows.campaign.sections import Section
from defect_mf_flows.errors import CampaignError

#: What CP2K or another engine knows under these names, and why it is not set here.
REFUSED: dict[str, str] = {
    "charge": "set per defect, in defects.charges",
    "multiplicity": "write spin: low or none, and unpaired electrons in defects.spin",
    "uks": "write spin: low or none",
    "xc": "write functional: PBE",
    "encut": "write cutoff and rel_cutoff, in Rydberg: CP2K's grid, not a basis of plane waves",
    "basis_set": "write basis, and bases for single elements",
    "pseudo_potential": "write potential, and potentials for single elements",
    "kpoints": "this engine computes at the Gamma point alone",
    "gamma_only": "this engine computes at the Gamma point alone",
    "smearing": "orbital transformation needs whole occupations",
    "dispersion": "this engine has no D3; use vasp for it",
    "inp": "the input is written from the other settings",
    "command": "set DEFECT_MF_CP2K_CMD on the machine that computes",
}


class Cp2kSettings(Section):
    """What a campaign file may say of a CP2K fidelity."""

    functional: Literal["PBE"] = Field(
        description="PBE. CP2K's hybrids are too slow here to be offered."
    )
    cutoff: float = Field(400.0, ge=100, le=3000, description="Of the finest grid, Rydberg.")
    rel_cutoff: float = Field(
        60.0, ge=20, le=400, description="Of the grid that a Gaussian is mapped to, Rydberg."
    )
    basis: str = Field("DZVP-MOLOPT-SR-GTH", min_length=1, description="Of every element.")
    bases: dict[str, str] = Field(
        default_factory=dict, description="Of single elements, instead of basis."
    )
    basis_file: str = Field(
        "BASIS_MOLOPT", min_length=1, description="Where they stand, in CP2K's folder of data."
    )
    potential: str = Field("GTH-PBE", min_length=1, description="Of every element.")
    potentials: dict[str, str] = Field(
        default_factory=dict,
        description="Of single elements, instead of potential: Ga: GTH-PBE-q3 leaves 3d in the "
        "core.",
    )
    potential_file: str = Field("GTH_POTENTIALS", min_length=1, description="Where they stand.")
    spin: Literal["low", "none"] = Field(
        "low",
        description="low: 0 or 1 unpaired electrons, by parity. none: no spin polarisation; odd "
        "numbers of electrons are refused. defects.spin goes before it.",
    )
    threshold: float = Field(1e-6, gt=0, le=1e-3, description="SCF threshold (CP2K's EPS_SCF).")
    max_iterations: int = Field(200, ge=5, le=2000, description="SCF steps of one attempt.")

    def basis_of(self, symbol: str) -> str:
        """Name of the basis of one element."""
        return self.bases.get(symbol, self.basis)

    def potential_of(self, symbol: str) -> str:
        """Name of the pseudopotential of one element."""
        return self.potentials.get(symbol, self.potential)


def check_cp2k(
    where: str, settings: dict[str, Any], elements: set[str], *, data: Path | None = None
) -> Cp2kSettings:
    """Check the settings of a CP2K fidelity.

    Parameters
    ----------
    where
        File and field, for the message.
    settings
        As they stand in the campaign file.
    elements
        Symbols that the cells hold.
    data
        CP2K's folder of data; None: this machine's. Without one, basis sets and potentials are
        not looked up: the machine that reads the file need not be the one that computes.

    Returns
    -------
    Cp2kSettings
        With defaults filled in.

    Raises
    ------
    CampaignError
        Naming field, fault and remedy.
    """
    checked = checked_settings(where, settings, Cp2kSettings, refused=REFUSED)
    for field in ("bases", "potentials"):
        unused = sorted(set(getattr(checked, field)) - elements)
        if unused:
            raise CampaignError(
                f"{where}.{field}: no cell of this campaign holds {', '.join(unused)}; they hold "
                f"{', '.join(sorted(elements))}."
            )
    folder = data or data_folder()
    if folder is not None:
        _check_data(where, checked, elements, folder)
    return checked


def _check_data(where: str, settings: Cp2kSettings, elements: set[str], folder: Path) -> None:
    for field, file, named in (
        ("basis", settings.basis_file, settings.basis_of),
        ("potential", settings.potential_file, settings.potential_of),
    ):
        path = folder / file
        if not path.is_file():
            raise CampaignError(
                f"{where}.{field}_file: {path} does not exist; give a file of that folder, or set "
                "CP2K_DATA_DIR to the folder that has it."
            )
        text = path.read_text(errors="replace")
        for symbol in sorted(elements):
            names = entries(text, symbol)
            if named(symbol) not in names:
                raise CampaignError(
                    f"{where}.{field}: {path} has no {named(symbol)} for {symbol}; it has "
                    f"{', '.join(names) or 'nothing for that element'}."
                )


def entries(text: str, symbol: str) -> list[str]:
    """Names under which a file of basis sets or potentials holds an element.

    Parameters
    ----------
    text
        Content of the file: every entry begins with a line of symbol and names.
    symbol
        The element.
    """
    lines = re.findall(rf"^\s*{symbol}[ \t]+(\S.*)$", text, flags=re.MULTILINE)
    return [name for line in lines for name in line.partition("#")[0].split()]


def data_folder() -> Path | None:
    """CP2K's folder of basis sets and potentials on this machine, or None.

    ``CP2K_DATA_DIR`` names it; without it, the folder beside the executable on PATH.
    """
    named = os.environ.get("CP2K_DATA_DIR")
    places = [Path(named)] if named else []
    executable = shutil.which("cp2k.psmp") or shutil.which("cp2k.ssmp") or shutil.which("cp2k")
    if not named and executable:
        share = Path(executable).parent.parent / "share" / "cp2k"
        places = [share / "data", share]
    return next((place for place in places if (place / "GTH_POTENTIALS").is_file()), None)
