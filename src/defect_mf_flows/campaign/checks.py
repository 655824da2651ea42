"""Physics that can be checked without computing anything."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from pymatgen.core import Element, Lattice, Structure

from defect_mf_flows.campaign.calculators import check_fidelity
from defect_mf_flows.campaign.sections import Campaign
from defect_mf_flows.errors import CampaignError

DEFECT_NAME = re.compile(
    r"^(?:v_(?P<removed>[A-Z][a-z]?)(?:_[\w.]+)?|(?P<new>[A-Z][a-z]?)_(?P<site>[\w.]+))$",
    re.ASCII,
)

MAX_NAME = 100


def check_physics(path: Path, campaign: Campaign, structure: Structure) -> None:
    """Refuse what cannot be computed, before anything is computed.

    Raises
    ------
    CampaignError
        Unknown species, impossible charge, repeated charge, cell too small, engine settings
        that do not say how the charge is passed.
    """
    elements = {element.symbol for element in structure.composition.elements}
    _check_cell(f"{path}: host.supercell", structure, campaign)
    for symbol in campaign.defects.extrinsic:
        if not Element.is_valid_symbol(symbol):
            raise CampaignError(
                f"{path}: defects.extrinsic: {symbol!r} is no element; write symbols such as Mg."
            )
    for field in ("include", "charges", "spin"):
        for name in getattr(campaign.defects, field):
            _check_defect_name(f"{path}: defects.{field}", name, elements, campaign)
    for name, charges in campaign.defects.charges.items():
        _check_charges(f"{path}: defects.charges.{name}", charges, structure, campaign)
    for name, fidelity in campaign.fidelities.items():
        known = elements | set(campaign.defects.extrinsic)
        check_fidelity(f"{path}: fidelities.{name}", fidelity, known)


def _check_defect_name(where: str, name: str, elements: set[str], campaign: Campaign) -> None:
    match = DEFECT_NAME.fullmatch(name)
    if match is None or len(name) > MAX_NAME:
        raise CampaignError(f"{where}: {name!r} is no defect name; write v_Zn, S_Zn or Zn_i.")
    known = elements | set(campaign.defects.extrinsic)
    symbols = [s for s in (match["removed"], match["new"]) if s]
    if match["site"] and not match["site"].startswith("i"):
        symbols.append(match["site"].split("_")[0])
    for symbol in symbols:
        if not Element.is_valid_symbol(symbol):
            raise CampaignError(f"{where}: {name!r} names {symbol!r}, which is no element.")
        if symbol not in known:
            raise CampaignError(
                f"{where}: {name!r} names {symbol}, but the host has {sorted(elements)}; "
                "list dopants in defects.extrinsic."
            )
    chosen = campaign.defects.include
    if chosen and name not in chosen:
        raise CampaignError(f"{where}: {name!r} is not in defects.include; add it there.")


def _check_charges(
    where: str, charges: list[int], structure: Structure, campaign: Campaign
) -> None:
    if len(set(charges)) != len(charges):
        raise CampaignError(f"{where}: {charges} repeats a charge; list each once.")
    repeats = n_cells(campaign)
    electrons = repeats * sum(site.specie.Z for site in structure)
    limit = min(electrons, 12)
    for charge in charges:
        if charge >= electrons:
            raise CampaignError(
                f"{where}: charge {charge:+d} leaves no electrons in a cell with {electrons}; "
                "charges are in elementary charges, positive for missing electrons."
            )
        if abs(charge) > limit:
            raise CampaignError(
                f"{where}: charge {charge:+d} is beyond +-{limit}; no point defect has it."
            )


def n_cells(campaign: Campaign) -> int:
    """Number of the host's cells in the supercell; 1 where doped is to choose it."""
    if campaign.host.supercell == "auto":
        return 1
    matrix = np.array(campaign.host.supercell)
    return round(abs(np.prod(matrix) if matrix.ndim == 1 else np.linalg.det(matrix)))


def _check_cell(where: str, structure: Structure, campaign: Campaign) -> None:
    """No atom may see its own image within the model's cutoff."""
    if campaign.host.supercell == "auto":
        shortest = campaign.host.min_image_distance
    else:
        if n_cells(campaign) < 1:
            raise CampaignError(
                f"{where}: {campaign.host.supercell} has no volume; give three repeats of at "
                "least 1, or a 3x3 matrix."
            )
        repeats = np.array(campaign.host.supercell)
        matrix = np.diag(repeats) if repeats.ndim == 1 else repeats
        # The lattice alone: the atoms of an absurdly large cell would fill the memory.
        lattice = Lattice(matrix @ structure.lattice.matrix)
        shortest = min(lattice.get_lll_reduced_lattice().abc)
    if campaign.training.foundation is None and shortest <= campaign.training.r_max:
        raise CampaignError(
            f"{where}: images of the defect are {shortest:.2f} A apart, within the model's "
            f"cutoff training.r_max = {campaign.training.r_max} A; enlarge the supercell."
        )
