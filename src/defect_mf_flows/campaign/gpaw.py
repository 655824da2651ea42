"""Settings of a fidelity that GPAW computes, checked without GPAW."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from defect_mf_flows.campaign.explaining import checked_settings
from defect_mf_flows.campaign.sections import Section
from defect_mf_flows.campaign.vasp import Divisions
from defect_mf_flows.errors import CampaignError

#: What GPAW or another engine knows under these names, and why it is not set here.
REFUSED: dict[str, str] = {
    "charge": "set per defect, in defects.charges",
    "background_charge": "set per defect, in defects.charges",
    "xc": "write functional: PBE or HSE06",
    "mode": "write encut, in eV; only plane waves are used",
    "kpts": "write kpoints or gamma_only",
    "occupations": "write smearing, the width in eV",
    "convergence": "write density, energy and eigenstates",
    "spinpol": "write spin: low, free or none",
    "magmoms": "write spin, and unpaired electrons in defects.spin",
    "hund": "write spin: low, free or none",
    "symmetry": "defects break it, so it is switched off",
    "txt": "GPAW's log is not kept",
    "dispersion": "this engine has no D3, neither for PBE nor for a hybrid; use vasp for it",
    "soc": "this engine has no spin-orbit coupling; use vasp for it",
    "hubbard": "this engine has no DFT+U; use vasp for it",
    "incar": "these are VASP's tags",
}


class GpawMixer(Section):
    """Pulay mixing of the density."""

    beta: float = Field(0.25, gt=0, le=1, description="Share of the new density.")
    history: int = Field(6, ge=1, le=30, description="Densities remembered.")
    weight: float = Field(1.0, ge=1, description="Damping of long waves; 1: none.")


class GpawSettings(Section):
    """What a campaign file may say of a GPAW fidelity."""

    functional: Literal["PBE", "HSE06"] = Field(
        description="PBE, or HSE06 (a quarter of exact exchange, screened with 0.11/Bohr)."
    )
    encut: float = Field(ge=100, le=2000, description="Plane-wave cutoff, eV.")
    kpoints: Divisions | None = Field(None, description="Gamma-centred grid: three divisions.")
    gamma_only: bool = Field(False, description="Instead of kpoints: Gamma alone.")
    spin: Literal["low", "free", "none"] = Field(
        "low",
        description="low: 0 or 1 unpaired electrons, by parity, kept fixed; an even number is "
        "computed as a closed shell. free: GPAW finds the moment. none: no spin polarisation; "
        "odd numbers of electrons are refused. defects.spin goes before it.",
    )
    smearing: float = Field(
        0.1, gt=0, le=0.5, description="Fermi-Dirac width, eV; energies are for vanishing width."
    )
    mixer: GpawMixer = Field(default=GpawMixer(), description="Mixing of the first attempt.")
    density: float = Field(
        1e-4,
        gt=0,
        le=1e-2,
        description="SCF threshold, electrons/electron; a looser one makes forces noisy.",
    )
    energy: float = Field(1e-4, gt=0, le=1e-2, description="SCF threshold, eV/electron.")
    eigenstates: float = Field(1e-5, gt=0, le=1e-3, description="SCF threshold, eV^2/electron.")
    max_iterations: int = Field(60, ge=5, le=1000, description="SCF steps of one attempt.")

    @model_validator(mode="after")
    def _consistent(self) -> GpawSettings:
        if (self.kpoints is not None) == self.gamma_only:
            raise ValueError("give exactly one of kpoints and gamma_only")
        return self


def check_gpaw(where: str, settings: dict[str, Any], elements: set[str]) -> GpawSettings:
    """Check the settings of a GPAW fidelity.

    Parameters
    ----------
    where
        File and field, for the message.
    settings
        As they stand in the campaign file.
    elements
        Symbols that the cells hold.

    Returns
    -------
    GpawSettings
        With defaults filled in.

    Raises
    ------
    CampaignError
        Naming field, fault and remedy.
    """
    checked = checked_settings(where, settings, GpawSettings, refused=REFUSED)
    folder = setup_folder()
    absent = [] if folder is None else sorted(s for s in elements if not setup_file(folder, s))
    if absent:
        raise CampaignError(f"{where}: GPAW's setups in {folder} have no PBE setup of {absent}.")
    return checked


def setup_folder() -> Path | None:
    """Folder of the setups that the package gpaw-data installed, or None."""
    found = importlib.util.find_spec("gpaw_data")
    places = list(found.submodule_search_locations or []) if found is not None else []
    return next((f for p in places if (f := Path(p) / "setups").is_dir()), None)


def setup_file(folder: Path, symbol: str) -> Path | None:
    """PBE setup of one element, or None."""
    return next(folder.glob(f"{symbol}.PBE*"), None)
