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

RELEASE = "POTCARs of"


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
    known = campaign.host.supercell != "auto"
    lines = ["", f"inputs      {names[0]} relaxation against {names[1]} single point"]
    for charge in charges:
        charged = with_charge(cell, charge)
        spin = campaign.defects.spin_of(defect, charge)
        low, high = (
            _tags(fidelity, charged, spin, relax=relax, supercell_known=known)
            for fidelity, relax in zip(fidelities, (True, False), strict=True)
        )
        sign = "" if charge == 0 else f" {'-' if charge > 0 else '+'} {abs(charge)}"
        lines.append(f"  {defect} {charge_text(charge)}")
        one_library = all(low[tag] == high[tag] for tag in ("POTCAR", RELEASE))
        whose = "(both)" if one_library else "(each of its own)"
        lines.append(f"    {'NELECT':<12}{f'valence electrons of the POTCARs{sign} {whose}'}")
        lines += [
            f"    {tag:<12}{_shown(low[tag])} (both)"
            for tag in ("ISPIN", "NUPDOWN", "KPOINTS")
            if tag in low and low[tag] == high.get(tag)
        ]
        for tag in sorted({*low, *high}):
            if low.get(tag) != high.get(tag):
                here, there = (_shown(tags.get(tag)) for tags in (low, high))
                lines.append(f"    {tag:<12}{here:<23} {there}")
    lines += _remarks(campaign, names)
    return lines


def _remarks(campaign: Campaign, names: tuple[str, str]) -> list[str]:
    """Tags that are allowed and cost accuracy, whether or not the fidelities differ in them."""
    found = []
    for name in names:
        settings = VaspSettings.model_validate(campaign.fidelities[name].settings)
        tags = {tag.upper(): value for tag, value in settings.incar.items()}
        if tags.get("LREAL", False) is not False:
            found.append(
                f"  {name}: LREAL = {tags['LREAL']}: projection in real space puts noise on "
                "energies and forces"
            )
        if any(tag.startswith("NKRED") for tag in tags):
            found.append(f"  {name}: NKRED thins out exact exchange; compare with the whole grid")
    return found


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
    fidelity: FidelitySettings,
    cell: Structure,
    spin: int | None,
    *,
    relax: bool,
    supercell_known: bool,
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
        tags = {**inputs.incar, "KPOINTS": _grid(inputs, supercell_known=supercell_known)}
    tags["POTCAR"] = " ".join(sorted(set(inputs.potcar_symbols)))
    return {**tags, RELEASE: str(inputs.user_potcar_functional)}


def _grid(inputs: ChargedCellSet, *, supercell_known: bool) -> str:
    assert inputs.settings is not None
    density = inputs.settings.kpoint_density
    if density is not None and not supercell_known:
        return f"{density:g} per A^-3"
    grid = "Gamma " + " ".join(str(int(n)) for n in inputs.kpoints.kpts[0])
    return grid if density is None else f"{grid}, {density:g} per A^-3"


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):  # a moment per atom
        return str(value)[:22]
    return f"{value:g}" if isinstance(value, float) else str(value)
