"""What a campaign will tell VASP, shown before anything runs and without POTCARs."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.campaign import Campaign, FidelitySettings
from defect_mf_flows.campaign.checks import DEFECT_NAME
from defect_mf_flows.campaign.vasp import VaspSettings
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.core.notation import charge_text
from defect_mf_flows.engines.vasp.sets import ChargedCellSet
from defect_mf_flows.schemas.structures import symbols_of


def describe_vasp(campaign: Campaign, structure: Structure) -> list[str]:
    """Every INCAR and KPOINTS difference between low and high fidelity, for two cells.

    Parameters
    ----------
    campaign, structure
        From ``load_campaign``.

    Returns
    -------
    list of str
        Lines for a terminal; empty unless VASP computes both fidelities.
    """
    names = campaign.roles.low, campaign.roles.high
    fidelities = [campaign.fidelities[name] for name in names]
    if any(fidelity.engine != "vasp" for fidelity in fidelities):
        return []
    defect, charges = _chosen(campaign, structure)
    cell = _cell(campaign, structure, defect)
    lines = ["", f"inputs      {names[0]} relaxation against {names[1]} single point"]
    for charge in charges:
        charged = with_charge(cell, charge)
        spin = campaign.defects.spin_of(defect, charge)
        low = _tags(fidelities[0], charged, spin, relax=True)
        high = _tags(fidelities[1], charged, spin, relax=False)
        sign = "" if charge == 0 else f" {'-' if charge > 0 else '+'} {abs(charge)}"
        lines.append(f"  {defect} {charge_text(charge)}")
        lines.append(f"    {'NELECT':<12}{'valence electrons of the POTCARs' + sign} (both)")
        if "NUPDOWN" in low and low["NUPDOWN"] == high.get("NUPDOWN"):
            lines.append(f"    {'NUPDOWN':<12}{low['NUPDOWN']:g} (both)")
        for tag in sorted({*low, *high}):
            if low.get(tag) != high.get(tag):
                here, there = (_shown(tags.get(tag)) for tags in (low, high))
                lines.append(f"    {tag:<12}{here:<24}{there}")
    return lines


def _chosen(campaign: Campaign, structure: Structure) -> tuple[str, list[int]]:
    """A defect of the campaign, and a neutral and a charged state of it."""
    names = [*campaign.defects.charges, *campaign.defects.include]
    defect = names[0] if names else f"v_{structure[0].specie.symbol}"
    charges = campaign.defects.charges.get(defect, [1])
    return defect, [0, next((q for q in charges if q != 0), 1)]


def _cell(campaign: Campaign, structure: Structure, defect: str) -> Structure:
    """A cell with the atoms of a defect; where they sit does not enter the inputs."""
    cell = structure.copy()
    if campaign.host.supercell != "auto":
        cell.make_supercell(np.array(campaign.host.supercell))
    match = DEFECT_NAME.match(defect)
    removed = match["removed"] if match else None
    new, site = (match["new"], match["site"]) if match else (None, None)
    site = site.split("_")[0] if site else None
    symbols = symbols_of(cell)
    if removed in symbols:
        cell.remove_sites([symbols.index(removed)])
    elif new and site in symbols:
        cell.replace(symbols.index(site), new)
    elif new:
        cell.append(new, [0.123, 0.234, 0.345])
    return cell


def _tags(
    fidelity: FidelitySettings, cell: Structure, spin: int | None, *, relax: bool
) -> dict[str, Any]:
    inputs = ChargedCellSet(
        settings=VaspSettings.model_validate(fidelity.settings),
        relax=relax,
        fmax=fidelity.fmax,
        steps=fidelity.steps,
        unpaired=spin,
        with_potcars=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inputs.structure = cell
        grid = inputs.kpoints.kpts[0]
        tags = {**inputs.incar, "KPOINTS": "Gamma " + " ".join(str(int(n)) for n in grid)}
    return {**tags, "POTCAR": " ".join(sorted(set(inputs.potcar_symbols)))}


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)[:22]
