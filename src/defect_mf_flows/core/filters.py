"""Which frames are physical enough to learn from; everything dropped is counted."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from pymatgen.core import Structure

from defect_mf_flows.campaign import FilterSettings
from defect_mf_flows.schemas.calculation import Failure, FailureReason
from defect_mf_flows.schemas.frame import Frame
from defect_mf_flows.schemas.structures import symbols_of

#: Lattices are the same if no component differs by more, Angstrom; files round them.
SAME_LATTICE = 1e-3


def closest_approach(structure: Structure) -> float:
    """Smallest interatomic distance as a fraction of the sum of covalent radii."""
    radii = covalent_radii[[atomic_numbers[symbol] for symbol in symbols_of(structure)]]
    ratios = structure.distance_matrix / (radii[:, None] + radii[None, :])
    np.fill_diagonal(ratios, np.inf)
    return float(ratios.min())


def shortest_distances(structure: Structure) -> dict[str, float]:
    """Shortest distance of every pair of elements, Angstrom, keyed ``"S-Zn"``."""
    symbols = np.array(symbols_of(structure))
    matrix = structure.distance_matrix.copy()
    np.fill_diagonal(matrix, np.inf)
    shortest: dict[str, float] = {}
    for one in sorted(set(symbols)):
        for other in sorted(s for s in set(symbols) if s >= one):
            block = matrix[np.ix_(symbols == one, symbols == other)]
            if np.isfinite(block).any():
                shortest[f"{one}-{other}"] = float(block.min())
    return shortest


def extrapolation(structure: Structure, known: dict[str, float], *, tolerance: float) -> str | None:
    """Say where a geometry is closer than anything a model has seen.

    Parameters
    ----------
    structure
        End of a relaxation on the model.
    known
        Shortest distances of the training set, from :func:`shortest_distances`.
    tolerance
        Fraction by which a distance may fall short of the training set's shortest.

    Returns
    -------
    str or None
        What was seen; None if every distance lies in the model's domain. Surrogates have
        false minima where they were never told of the repulsion between two atoms.
    """
    contacts = shortest_distances(structure)
    shared = [pair for pair in contacts if pair in known]
    if not shared:
        return None
    worst = min(shared, key=lambda pair: contacts[pair] / known[pair])
    if contacts[worst] >= (1.0 - tolerance) * known[worst]:
        return None
    return f"{worst} at {contacts[worst]:.2f} A, never below {known[worst]:.2f} A in training"


def implausible(energy: float, lowest: float | None, *, max_gain: float) -> str | None:
    """Say by how much an energy is too good to be true.

    Parameters
    ----------
    energy
        Model energy of a relaxed structure, eV per cell.
    lowest
        Lowest label of its head, charge and composition, or of another head shifted to it; None if
        unknown.
    max_gain
        Gain over the lowest label that is still believed, eV per cell.

    Returns
    -------
    str or None
        What was seen; None if the energy is plausible.
    """
    if lowest is None or energy >= lowest - max_gain:
        return None
    return f"{lowest - energy:.2f} eV below every label of its charge"


def filter_frames(
    frames: Iterable[Frame],
    *,
    settings: FilterSettings,
    lattice_of: Structure | None,
    floor: float | None = None,
) -> tuple[list[Frame], list[Failure]]:
    """Separate physical frames from the others.

    Parameters
    ----------
    frames
        Frames of one fidelity.
    settings
        Limits.
    lattice_of
        The host's supercell: every frame must have its lattice. None: any lattice will do.
    floor
        Lowest energy known of the same defect and charge, eV; None: the lowest given.

    Returns
    -------
    kept
        Frames in their order; of frames with equal content the first.
    dropped
        One failure per frame left out, with the reason.

    Notes
    -----
    Frames more than 15 eV above the lowest are dropped as in npj Comput. Mater. 10, 121
    (2024). Energies are compared within one defect and charge, because absolute energies
    of two charges have no common zero.
    """
    frames = list(frames)
    lowest: dict[tuple[str | None, int], float] = {}
    for frame in frames:
        key = (frame.lineage.defect, frame.charge)
        lowest[key] = min(lowest.get(key, np.inf), frame.energy)
    kept: list[Frame] = []
    dropped: list[Failure] = []
    seen: set[str] = set()
    for frame in frames:
        own = lowest[frame.lineage.defect, frame.charge]
        problem = _problem(frame, own if floor is None else floor, settings, lattice_of)
        if problem is None and frame.content_hash in seen:
            problem = (FailureReason.DUPLICATE, "same content as an earlier frame")
        if problem is None:
            seen.add(frame.content_hash)
            kept.append(frame)
        else:
            dropped.append(_failure(frame, *problem))
    return kept, dropped


def _problem(
    frame: Frame, floor: float, settings: FilterSettings, lattice_of: Structure | None
) -> tuple[FailureReason, str] | None:
    if lattice_of is not None and not np.allclose(
        frame.structure.lattice.matrix, lattice_of.lattice.matrix, atol=SAME_LATTICE
    ):
        return FailureReason.EXPLODED, "lattice differs from the host's supercell"
    excess = frame.energy - floor
    if excess > settings.max_energy:
        return FailureReason.UNPHYSICAL_ENERGY, f"{excess:.1f} eV above the lowest"
    approach = closest_approach(frame.structure)
    if approach < settings.min_distance:
        return FailureReason.ATOMS_TOO_CLOSE, f"bond at {approach:.2f} of the covalent radii"
    if frame.forces is None:
        return None
    force = float(np.linalg.norm(frame.forces, axis=1).max())
    if force > settings.max_force:
        return FailureReason.EXPLODED, f"force of {force:.0f} eV/A"
    return None


def _failure(frame: Frame, reason: FailureReason, message: str) -> Failure:
    return Failure(
        stage="frames",
        reason=reason,
        message=f"step {frame.lineage.step}: {message}",
        fidelity=frame.fidelity,
        defect=frame.lineage.defect,
        charge=frame.charge,
        start=frame.lineage.start,
    )
