"""From a host crystal to its supercell and defects, through doped."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from monty.json import MontyEncoder
from pymatgen.core import Structure

from defect_mf_flows.campaign import DefectSettings, HostSettings
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.core.notation import charge_text
from defect_mf_flows.errors import CampaignError
from defect_mf_flows.schemas.defect import Defect, DefectSet, Host
from defect_mf_flows.schemas.frame import content_hash, structure_key

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the tables, progress bars and warnings that doped and ShakeNBreak print."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def make_supercell(structure: Structure, supercell: Any) -> Structure:
    """Repeat the conventional or given cell as the campaign says.

    Parameters
    ----------
    structure
        Cell as read from the host file.
    supercell
        Three repeats or a 3x3 matrix.

    Returns
    -------
    Structure
        The pristine supercell.
    """
    repeated = structure.copy()
    repeated.make_supercell(supercell)
    return repeated.get_sorted_structure()


def generate_defects(
    structure: Structure, *, host: HostSettings, defects: DefectSettings
) -> DefectSet:
    """Build the supercell and its defects with doped.

    Parameters
    ----------
    structure
        Host cell as read from the campaign's structure file.
    host
        Supercell settings.
    defects
        Which defects and charges.

    Returns
    -------
    DefectSet
        Host and defects; charges are the campaign's where it lists them, else doped's guess.

    Raises
    ------
    CampaignError
        If doped does not generate a defect that the campaign names.
    """
    from doped.generation import DefectsGenerator

    options: dict[str, Any] = {"extrinsic": defects.extrinsic or None}
    options["interstitial_gen_kwargs"] = {} if defects.interstitials else False
    if host.supercell == "auto":
        options["supercell_gen_kwargs"] = {"min_image_distance": host.min_image_distance}
        cell = structure
    else:
        options["generate_supercell"] = False
        cell = make_supercell(structure, host.supercell)
    plain = cell.copy()
    plain.remove_oxidation_states()
    with quiet():
        generator = DefectsGenerator(plain, **options)
    supercell = with_charge(generator.bulk_supercell, 0)
    description = Host(
        formula=supercell.composition.reduced_formula,
        primitive=with_charge(plain, 0),
        supercell=supercell,
        structure_hash=content_hash(structure_key(supercell)),
    )
    chosen = [
        _defect(name, entries, supercell=supercell, charges=defects.charges.get(name))
        for name, entries in _choose(generator.defect_entries, defects, supercell).items()
    ]
    return DefectSet(host=description, defects=chosen)


def _choose(
    entries: dict[str, Any], wanted: DefectSettings, supercell: Structure
) -> dict[str, list[Any]]:
    """Group doped's entries (one per charge) by defect and keep those that are asked for."""
    groups: dict[str, list[Any]] = {}
    for key, entry in entries.items():
        groups.setdefault(key.rsplit("_", 1)[0], []).append(entry)
    if wanted.environments:
        unique: dict[str, list[Any]] = {}
        for found in groups.values():
            site = np.asarray(found[0].sc_defect_frac_coords, dtype=float)
            name = f"{found[0].defect.name}_{environment(supercell, site)}"
            unique.setdefault(name, found)
        groups = unique
    for field in ("include", "charges", "spin"):
        missing = [name for name in getattr(wanted, field) if name not in groups]
        if missing:
            raise CampaignError(
                f"defects.{field}: doped generates no {', '.join(missing)} in this host; "
                f"choose from {', '.join(sorted(groups))}."
            )
    return {name: groups[name] for name in (wanted.include or groups)}


def environment(supercell: Structure, site: np.ndarray, *, tolerance: float = 1.2) -> str:
    """Nearest neighbours of a place in the pristine cell, for example ``"S3Se1"``.

    Parameters
    ----------
    supercell
        The pristine cell.
    site
        Fractional coordinates, shape (3,).
    tolerance
        Atoms up to this factor times the shortest distance are neighbours: bonds of an alloy
        differ.
    """
    found = supercell.get_sites_in_sphere(supercell.lattice.get_cartesian_coords(site), 6.0)
    near = sorted((s for s in found if s.nn_distance > 0.3), key=lambda s: s.nn_distance)
    shell = [s for s in near if s.nn_distance <= tolerance * near[0].nn_distance]
    counts = Counter(s.specie.symbol for s in shell)
    return "".join(f"{symbol}{n}" for symbol, n in sorted(counts.items()))


def _defect(
    name: str, entries: list[Any], *, supercell: Structure, charges: list[int] | None
) -> Defect:
    entry = entries[0]
    guessed = sorted({int(item.charge_state) for item in entries}, reverse=True)
    cell = entry.defect_supercell
    distances = supercell.distance_matrix
    nearest = float(np.min(distances[distances > 1e-3]))
    return Defect(
        name=name,
        charges=list(charges) if charges else guessed,
        site=np.asarray(entry.sc_defect_frac_coords, dtype=float),
        supercell=with_charge(cell, 0),
        neighbour_distance=nearest,
        entry=json.dumps(entry, cls=MontyEncoder),
    )


def doped_entry(defect: Defect, *, charge: int) -> Any:
    """Rebuild doped's ``DefectEntry`` for one charge state.

    Parameters
    ----------
    defect
        A defect whose ``entry`` was loaded.
    charge
        Charge state.

    Returns
    -------
    doped.core.DefectEntry
        Without energies.
    """
    from doped.core import DefectEntry

    entry = DefectEntry.from_dict(json.loads(defect.entry))
    entry.charge_state = charge
    entry.name = f"{defect.name}_{charge_text(charge)}"
    return entry
