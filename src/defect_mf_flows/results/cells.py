"""Charged cells and the model that moves their atoms: of a campaign, or from files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from pymatgen.core import Structure

from defect_mf_flows.core.charge import (
    CHARGE,
    TOTAL_CHARGE,
    atoms_charge,
    charge_of,
    from_atoms,
    spin_of,
    with_charge,
    with_spin,
)
from defect_mf_flows.core.starts import nearest_neighbours
from defect_mf_flows.errors import ChargeError, ResultsError
from defect_mf_flows.results.campaign import CampaignResults
from defect_mf_flows.schemas.defect import Defect
from defect_mf_flows.schemas.model import Model

#: An atom this near to the defect's site sits on it, Angstrom.
ON_SITE = 0.3
#: Neighbours in a relaxed cell: up to this factor times the shortest distance from the site.
RELAXED_SHELL = 1.3


@dataclass(frozen=True)
class Cell:
    """One charged cell.

    Attributes
    ----------
    defect
        Its name, or None for a file's.
    structure
        Charged geometry.
    pairs
        Atoms whose distances describe the defect.
    """

    defect: str | None
    structure: Structure
    pairs: list[tuple[int, int]]


@dataclass(frozen=True)
class ModelCells:
    """Cells, and the model to compute them with.

    Attributes
    ----------
    source
        Where they come from.
    model
        With its weights.
    head
        Head to compute on.
    cells
        The more positive charges first.
    levels
        Transition levels by (upper, lower) charge, eV above the valence-band maximum.
    notes
        What the reader must know.
    """

    source: str
    model: Model
    head: str
    cells: list[Cell]
    levels: dict[tuple[int, int], float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def campaign_cells(
    campaign: CampaignResults,
    defect: str | None,
    charges: Sequence[int] = (),
    *,
    head: str | None = None,
) -> ModelCells:
    """Verified ground states of one defect, and the last model, of a finished campaign.

    Parameters
    ----------
    campaign
        Finished.
    defect
        Its name; None for the only one.
    charges
        Charges; all of them if none is given.
    head
        Head; None for the high fidelity's.

    Returns
    -------
    ModelCells

    Raises
    ------
    ResultsError
        If the campaign has no such ground state, or no model.
    """
    results = campaign.results()
    names = list(dict.fromkeys(g.defect for g in results.ground_states))
    if defect is None and len(names) == 1:
        (defect,) = names
    if defect not in names:
        raise ResultsError(
            f"defect {defect or 'not given'}: choose one of {', '.join(names) or 'none'} "
            "(--defect)."
        )
    grounds = {g.charge: g for g in results.ground_states if g.defect == defect}
    if missing := [q for q in charges if q not in grounds]:
        known = ", ".join(f"{q:+d}" for q in grounds)
        raise ResultsError(
            f"{defect} {missing[0]:+d}: the campaign has no ground state of it; there are "
            f"{known} (--charge)."
        )
    models = campaign.models()
    if not models:
        raise ResultsError(f"campaign {results.campaign} has no trained model.")
    document = campaign.defects().get(defect)
    pairs = defect_pairs(document, nearest_neighbours(document))
    levels = {
        (level.from_charge, level.to_charge): value
        for level in results.transition_levels
        if level.defect == defect
        and (value := level.hf if level.hf is not None else level.model) is not None
    }
    return ModelCells(
        source=f"campaign {results.campaign}",
        model=models[-1],
        head=head or results.fidelities["high"],
        cells=[
            Cell(defect, grounds[q].structure, pairs)
            for q in sorted(charges or grounds, reverse=True)
        ],
        levels=levels,
        notes=[results.disclaimer] if results.disclaimer else [],
    )


def file_cells(
    model: Model,
    path: Path,
    *,
    charge: int | None = None,
    spin: int | None = None,
    head: str | None = None,
    site: Sequence[float] | None = None,
) -> ModelCells:
    """Cell of a structure file, to be computed with a model of a folder.

    Parameters
    ----------
    model
        With its weights.
    path
        Extended XYZ that carries charge (its last image counts), or anything that pymatgen
        reads.
    charge, spin
        Of the cell; a file that carries them must agree.
    head
        Head; None for the model's last, which is its highest fidelity.
    site
        Fractional coordinates of the defect, shape (3,), to follow the bonds about it.

    Returns
    -------
    ModelCells

    Raises
    ------
    ResultsError, ChargeError
        If the file cannot be read, or the charge is missing or contradicts the file.
    """
    structure = _charged(path, charge, spin)
    pairs: list[tuple[int, int]] = []
    if site is not None:
        document = Defect(
            name="file",
            charges=[0],
            site=list(site),
            supercell=structure,
            neighbour_distance=1.0,
        )
        shell = nearest_neighbours(document, tolerance=RELAXED_SHELL)
        pairs = defect_pairs(document, shell)
    return ModelCells(
        source=str(path.name),
        model=model,
        head=head or model.heads[-1],
        cells=[Cell(None, structure, pairs)],
    )


def _charged(path: Path, charge: int | None, spin: int | None) -> Structure:
    if path.suffix.lower() in (".xyz", ".extxyz"):
        found = from_atoms(_last_image(path))
        own = charge_of(found)
        if charge is not None and charge != own:
            raise ChargeError(f"{path}: carries charge {own:+d}, not {charge:+d} (--charge).")
        if spin is not None and spin_of(found) not in (None, spin):
            raise ChargeError(f"{path}: carries spin {spin_of(found)}, not {spin} (--spin).")
        return found if spin is None else with_spin(found, spin)
    if charge is None:
        raise ChargeError(f"{path}: carries no charge; give --charge, 0 included.")
    try:
        structure = Structure.from_file(path)
    except Exception as error:  # of whatever reader pymatgen takes
        raise ResultsError(
            f"{path}: not readable as a structure: {str(error)[:200]}; give a POSCAR, CIF or "
            "extended XYZ file."
        ) from None
    return with_spin(with_charge(structure, charge), spin)


def _last_image(path: Path) -> Atoms:
    """Last image of an extended XYZ file; one of both keys of the charge is enough."""
    try:
        atoms = ase.io.read(path, index=-1, format="extxyz")
        assert isinstance(atoms, Atoms)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ResultsError(f"{path}: not readable as extended XYZ: {str(error)[:200]}") from None
    given = atoms.info.get(CHARGE, atoms.info.get(TOTAL_CHARGE))
    atoms.info.setdefault(CHARGE, given)
    atoms.info.setdefault(TOTAL_CHARGE, given)
    try:
        atoms_charge(atoms)
    except ChargeError as error:
        raise ChargeError(f"{path}, last image: {error}") from None
    return atoms


def defect_pairs(defect: Defect, neighbours: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs of atoms whose distances describe a defect.

    Parameters
    ----------
    defect
        Which.
    neighbours
        Atoms of its first shell.

    Returns
    -------
    list of (int, int)
        From the atom on the site to its neighbours, or, of a vacancy, between these.
    """
    cell = defect.supercell
    distances = cell.lattice.get_all_distances([defect.site], cell.frac_coords)[0]
    centre = int(np.argmin(distances))
    if distances[centre] <= ON_SITE:
        return [(centre, i) for i in neighbours if i != centre]
    return [(i, j) for k, i in enumerate(neighbours) for j in neighbours[k + 1 :]]
