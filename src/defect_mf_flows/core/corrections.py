"""Finite-size corrections of charged cells through pydefect and doped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.core.defects import quiet
from defect_mf_flows.core.ewald import AnisotropicEwald, dielectric_tensor
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.schemas.frame import content_hash, structure_key
from defect_mf_flows.schemas.levels import Correction, CorrectionMethod

#: Elements of a dielectric tensor that differ by less, in units of its mean, are numerical noise.
ISOTROPIC = 0.01


def correction_key(
    structure: Structure, charge: int, method: CorrectionMethod, dielectric: np.ndarray
) -> str:
    """SHA-256 of what decides a correction.

    Parameters
    ----------
    structure
        The minimum.
    charge
        Charge state.
    method
        Method.
    dielectric
        Shape (3, 3).
    """
    tensor = np.round(dielectric_tensor(dielectric), 8).tolist()
    return content_hash(
        {
            "structure": structure_key(structure),
            "charge": charge,
            "method": method.value,
            "dielectric": tensor,
        }
    )


def point_charge(
    structure: Structure, charge: int, dielectric: Any, *, defect: str | None = None
) -> Correction:
    """Correct for the images of a point charge alone.

    Parameters
    ----------
    structure
        The charged cell.
    charge
        Its charge.
    dielectric
        A number, three or nine.
    defect
        Name of the defect.

    Returns
    -------
    Correction
        Without potential alignment, which its method says.
    """
    tensor = dielectric_tensor(dielectric)
    energy = _images(structure, charge, tensor)
    method = CorrectionMethod.POINT_CHARGE
    return Correction(
        method=method,
        defect=defect,
        charge=charge,
        energy=energy,
        point_charge=energy,
        dielectric=tensor,
        key=correction_key(structure, charge, method, tensor),
    )


def _images(structure: Structure, charge: int, tensor: np.ndarray) -> float:
    if not charge:
        return 0.0
    return -AnisotropicEwald(structure.lattice.matrix, tensor).energy() * charge**2


def efnv(
    structure: Structure,
    host: Structure,
    charge: int,
    dielectric: Any,
    *,
    potentials: np.ndarray,
    host_potentials: np.ndarray,
    defect: str | None = None,
    sources: list[str] | None = None,
) -> Correction:
    """Extended FNV correction (Kumagai and Oba, 10.1103/PhysRevB.89.195205).

    Parameters
    ----------
    structure, host
        The charged cell as computed, and the pristine one on the same lattice.
    charge
        Charge of the cell.
    dielectric
        A number, three or nine: static, ionic part included.
    potentials, host_potentials
        Electrostatic potential at the atoms' cores as felt by a positive charge, V, in the order
        of the atoms of either cell.
    defect
        Name of the defect.
    sources
        Files that the potentials came from.

    Returns
    -------
    Correction
        The potential is averaged over the atoms outside the sphere that fits into the cell.

    Raises
    ------
    ResultsError
        If atoms and potentials do not fit, the cells have different lattices, or no atom lies
        outside the sphere.
    """
    from doped.utils.parsing import get_wigner_seitz_radius
    from pydefect.corrections.efnv_correction import ExtendedFnvCorrection, PotentialSite

    tensor = dielectric_tensor(dielectric)
    _check_cells(structure, host, potentials, host_potentials)
    pairs, site = matched(structure, host)
    ewald = AnisotropicEwald(structure.lattice.matrix, tensor)
    radius = float(get_wigner_seitz_radius(structure.lattice))
    sites = []
    for own, other in pairs:
        distance = structure.lattice.get_distance_and_image(site, structure[own].frac_coords)[0]
        outside = distance > radius
        model = ewald.potential(structure[own].frac_coords - site) * charge if outside else 0.0
        difference = float(potentials[own] - host_potentials[other])
        symbol = structure[own].specie.symbol
        sites.append(PotentialSite(symbol, float(distance), difference, model))
    sampled = [s.diff_pot for s in sites if s.distance > radius]
    if not sampled:
        raise ResultsError(
            f"{defect} {charge:+d}: no atom lies {radius:.2f} A or more from the defect; the cell "
            "is too small for a correction from potentials, use a larger one."
        )
    found = ExtendedFnvCorrection(
        charge=charge,
        point_charge_correction=_images(structure, charge, tensor),
        defect_region_radius=radius,
        sites=sites,
        defect_coords=tuple(site),
    )
    return Correction(
        method=CorrectionMethod.EFNV,
        defect=defect,
        charge=charge,
        energy=float(found.correction_energy),
        point_charge=float(found.point_charge_correction),
        alignment=float(found.alignment_correction),
        far_potential=float(np.mean([s.potential for s in sites if s.distance > radius])),
        spread=float(np.std(sampled)),
        n_sites=len(sampled),
        site=site,
        dielectric=tensor,
        key=correction_key(structure, charge, CorrectionMethod.EFNV, tensor),
        source=sources or [],
    )


def far_potential(
    structure: Structure,
    host: Structure,
    *,
    potentials: np.ndarray,
    host_potentials: np.ndarray,
) -> float | None:
    """Mean difference of the cores' potentials from the host's far from the defect.

    Parameters
    ----------
    structure, host, potentials, host_potentials
        As for :func:`efnv`, of a cell of any charge.

    Returns
    -------
    float or None
        V, as felt by a positive charge; None if no atom lies outside the sphere that fits into
        the cell.

    Raises
    ------
    ResultsError
        As :func:`efnv`.
    """
    from doped.utils.parsing import get_wigner_seitz_radius

    _check_cells(structure, host, potentials, host_potentials)
    pairs, site = matched(structure, host)
    own, theirs = np.array(pairs).T
    distances = structure.lattice.get_all_distances([site], structure.frac_coords[own])[0]
    far = distances > float(get_wigner_seitz_radius(structure.lattice))
    differences = potentials[own] - host_potentials[theirs]
    return float(differences[far].mean()) if far.any() else None


def _check_cells(
    structure: Structure, host: Structure, potentials: np.ndarray, host_potentials: np.ndarray
) -> None:
    for cell, values in ((structure, potentials), (host, host_potentials)):
        if len(cell) != len(values):
            raise ResultsError(
                f"{len(values)} site potentials for {len(cell)} atoms of {cell.formula}; the "
                "OUTCAR is not of this calculation."
            )
    if not np.allclose(structure.lattice.matrix, host.lattice.matrix, atol=1e-2):
        raise ResultsError(
            f"{structure.formula}: its lattice is not the host's; corrections need defect and "
            "host in the same cell."
        )


def matched(structure: Structure, host: Structure) -> tuple[list[tuple[int, int]], np.ndarray]:
    """Pair the atoms of a defect cell with the host's, and find the defect.

    Parameters
    ----------
    structure, host
        Cells on the same lattice.

    Returns
    -------
    pairs
        Index in ``structure`` and in ``host`` of every atom that both have; squared distances
        are least in sum.
    site
        Mean fractional coordinates of the atoms that were added, or of the empty sites if none
        was, shape (3,).

    Raises
    ------
    ResultsError
        If the two cells have the same atoms.
    """
    from scipy.optimize import linear_sum_assignment

    pairs: list[tuple[int, int]] = []
    mine, theirs = _by_symbol(structure), _by_symbol(host)
    for symbol in sorted(set(mine) & set(theirs)):
        distances = host.lattice.get_all_distances(
            structure.frac_coords[mine[symbol]], host.frac_coords[theirs[symbol]]
        )
        rows, columns = linear_sum_assignment(distances**2)
        pairs += [(mine[symbol][r], theirs[symbol][c]) for r, c in zip(rows, columns, strict=True)]
    used, taken = ({p[k] for p in pairs} for k in (0, 1))
    added = [structure.frac_coords[i] for i in range(len(structure)) if i not in used]
    empty = [host.frac_coords[i] for i in range(len(host)) if i not in taken]
    places = added or empty
    if not places:
        raise ResultsError(
            f"{structure.formula}: the same atoms as the host, so the defect's site is not known."
        )
    # Images nearest to the first, so that a complex across the boundary has its middle inside.
    near = [p - np.round(np.asarray(p) - places[0]) for p in places]
    return sorted(pairs), np.mean(near, axis=0) % 1.0


def _by_symbol(structure: Structure) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for index, site in enumerate(structure):
        found.setdefault(site.specie.symbol, []).append(index)
    return found


def site_potentials(path: Path) -> np.ndarray:
    """Core potentials of a run of VASP, through pymatgen.

    Parameters
    ----------
    path
        OUTCAR, perhaps gzipped.

    Returns
    -------
    numpy.ndarray
        Of the last geometry, as felt by a positive charge, V.

    Raises
    ------
    ResultsError
        If it has none.
    """
    from doped.utils.parsing import get_core_potentials_from_outcar

    try:
        with quiet():
            found = get_core_potentials_from_outcar(path)
    except Exception as error:  # pymatgen raises whatever the missing part made it raise
        raise ResultsError(
            f"{path}: no core potentials ({type(error).__name__}); run VASP to its end with "
            "ICORELEVEL = 0 (its default)."
        ) from None
    return np.asarray(found, dtype=float)


def fnv(
    structure: Structure,
    host: Structure,
    charge: int,
    dielectric: Any,
    *,
    locpot: Path,
    host_locpot: Path,
    defect: str | None = None,
) -> Correction:
    """FNV correction from planar averages of two LOCPOTs (10.1103/PhysRevLett.102.016402).

    Parameters
    ----------
    structure, host, charge, dielectric, defect
        As for :func:`efnv`.
    locpot, host_locpot
        Electrostatic potentials of the two cells.

    Returns
    -------
    Correction
        Mean of the three axes.

    Raises
    ------
    ResultsError
        If the dielectric tensor is anisotropic.
    """
    from doped.utils.parsing import get_locpot
    from pymatgen.analysis.defects.corrections.freysoldt import get_freysoldt_correction

    tensor = dielectric_tensor(dielectric)
    mean = np.trace(tensor) / 3
    # pymatgen takes the mean of an anisotropic tensor and does not say so.
    if not np.allclose(tensor, mean * np.eye(3), rtol=0.0, atol=ISOTROPIC * mean):
        raise ResultsError(
            f"{defect} {charge:+d}: FNV is for isotropic dielectrics, and the tensor "
            f"{np.round(tensor, 3).tolist()} is not; choose eFNV, which takes it whole."
        )
    _, site = matched(structure, host)
    with quiet():
        found = get_freysoldt_correction(
            q=charge,
            dielectric=tensor,
            defect_locpot=get_locpot(locpot),
            bulk_locpot=get_locpot(host_locpot),
            defect_frac_coords=site,
        )
    metadata: dict[str, Any] = found.metadata
    images = float(metadata["electrostatic"])
    return Correction(
        method=CorrectionMethod.FNV,
        defect=defect,
        charge=charge,
        energy=float(found.correction_energy),
        point_charge=images,
        alignment=float(found.correction_energy) - images,
        site=site,
        dielectric=tensor,
        key=correction_key(structure, charge, CorrectionMethod.FNV, tensor),
        source=[str(locpot), str(host_locpot)],
    )
