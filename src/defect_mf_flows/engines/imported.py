"""Taking imported calculations for those that a campaign asks for."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
from jobflow import JobStore
from pymatgen.core import Structure
from scipy.optimize import linear_sum_assignment

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.core.charge import charged_structure
from defect_mf_flows.engines.contradictions import contradictions
from defect_mf_flows.engines.reuse import read_whole
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.frame import Frame
from defect_mf_flows.schemas.structures import symbols_of

logger = logging.getLogger(__name__)

#: Geometries are the same if no atom is farther off than this, Angstrom; OUTCARs have 5 decimals.
SAME_PLACE = 1e-3


def find_imported(
    store: JobStore,
    start: StartStructure,
    *,
    fidelity: str,
    kind: CalculationKind,
    settings: FidelitySettings,
) -> Calculation | None:
    """Find an imported calculation that is the one asked for.

    Parameters
    ----------
    store
        A connected job store.
    start
        Geometry, charge and spin that are asked for.
    fidelity
        Its name; what was imported under another is never taken.
    kind
        A relaxation must begin at the geometry and end below the campaign's force threshold. For
        a single point any imported frame of that geometry does.
    settings
        Of the campaign's fidelity; imported settings that contradict them keep a calculation out.

    Returns
    -------
    Calculation or None
        With its frames in the start's order of atoms.
    """
    for found in _candidates(store, start, fidelity):
        record = found.imported
        if record is None or (why := contradictions(found, record, settings, start)):
            if record is not None:
                logger.warning("%s is not taken for %s: %s", record.path, fidelity, "; ".join(why))
            continue
        if kind is CalculationKind.STATIC:
            matching = (_in_order(frame, start) for frame in found.frames)
            frame = next((frame for frame in matching if frame is not None), None)
            if frame is not None:
                return _single_point(found, frame)
        elif _has_relaxed(found, settings):
            frames = _all_in_order(found, start)
            if frames is not None:
                return found.model_copy(
                    update={
                        "kind": CalculationKind.RELAX,
                        "converged": True,
                        "frames": frames,
                        "final_structure": frames[-1].structure,
                    }
                )
    return None


def _candidates(store: JobStore, start: StartStructure, fidelity: str) -> Iterator[Calculation]:
    """Imported calculations of the charge and the number of atoms, one in memory at a time."""
    criteria = {
        "output.@class": "Calculation",
        "output.imported": {"$ne": None},
        "output.fidelity": fidelity,
        "output.charge": start.charge,
        "output.n_atoms": len(start.structure),
    }
    uuids = [row["uuid"] for row in store.docs_store.query(criteria, properties=["uuid"])]
    for uuid in uuids:
        found = read_whole(store, uuid)
        if found is not None:
            yield found


def _has_relaxed(found: Calculation, settings: FidelitySettings) -> bool:
    """Whether it ended, at forces that the campaign accepts."""
    if not found.frames or found.failure is not None or found.frames[-1].forces is None:
        return False
    largest = float(np.linalg.norm(found.frames[-1].forces, axis=1).max())
    return largest <= settings.fmax * 1.001 + 1e-4 and found.frames[0].lineage.step == 0


def _all_in_order(found: Calculation, start: StartStructure) -> list[Frame] | None:
    order = _order(found.frames[0].structure, start.structure)
    if order is None or not _spins_agree(found.frames[0], start):
        return None
    return [_reordered(frame, order) for frame in found.frames]


def _in_order(frame: Frame, start: StartStructure) -> Frame | None:
    """The frame in the start's order of atoms, or None if it is another geometry."""
    if not _spins_agree(frame, start):
        return None
    order = _order(frame.structure, start.structure)
    return None if order is None else _reordered(frame, order)


def _spins_agree(frame: Frame, start: StartStructure) -> bool:
    return frame.spin is None or start.spin is None or frame.spin == start.spin


def _order(found: Structure, asked: Structure) -> list[int] | None:
    """For every atom that is asked for, its number in the other cell."""
    if not np.allclose(found.lattice.matrix, asked.lattice.matrix, atol=SAME_PLACE):
        return None
    have, want = (np.array(symbols_of(one)) for one in (found, asked))
    if sorted(have) != sorted(want):
        return None
    distances = asked.lattice.get_all_distances(asked.frac_coords, found.frac_coords)
    distances[want[:, None] != have[None, :]] = np.inf
    if (distances.min(axis=1) > SAME_PLACE).any():
        return None
    _, order = linear_sum_assignment(np.where(np.isfinite(distances), distances, 1e6))
    return [int(i) for i in order]


def _reordered(frame: Frame, order: list[int]) -> Frame:
    """The frame with its atoms in another order; building it checks the charge again."""
    symbols = [frame.structure[i].specie.symbol for i in order]
    structure = charged_structure(
        frame.structure.lattice.matrix, symbols, frame.structure.cart_coords[order], frame.charge
    )
    return Frame(
        structure=structure,
        charge=frame.charge,
        spin=frame.spin,
        fidelity=frame.fidelity,
        energy=frame.energy,
        forces=None if frame.forces is None else np.array(frame.forces)[order],
        stress=frame.stress,
        lineage=frame.lineage,
    )


def _single_point(found: Calculation, frame: Frame) -> Calculation:
    return found.model_copy(
        update={
            "kind": CalculationKind.STATIC,
            "converged": True,
            "frames": [frame],
            "n_frames": 1,
            "final_energy": frame.energy,
            "lowest_energy": frame.energy,
            "final_structure": frame.structure,
        }
    )
