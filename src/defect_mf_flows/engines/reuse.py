"""Finding a finished calculation with the same input, and taking it over."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from jobflow import JobStore
from monty.json import MontyDecoder

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.errors import ChargeError, EngineError
from defect_mf_flows.schemas.calculation import (
    Calculation,
    CalculationKind,
    EngineRecord,
    FailureReason,
    Guide,
)
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.frame import Frame, Lineage, content_hash
from defect_mf_flows.schemas.structures import symbols_of

logger = logging.getLogger(__name__)

#: Raised whenever the Makers make something else of the same input.
INPUT_VERSION = 1
#: Atoms of one start that was written and read again are at most this far apart, Angstrom.
SAME_START = 1e-4
#: Programs whose version is not known may have changed between two calculations.
UNKNOWN_VERSION = "unknown"


def input_hash(
    start: StartStructure,
    kind: CalculationKind,
    settings: FidelitySettings,
    engine: EngineRecord,
    *,
    guide: EngineRecord | None = None,
) -> str | None:
    """SHA-256 of everything that decides the outcome of a calculation.

    Parameters
    ----------
    start
        Geometry (positions count to 1e-6 Angstrom, in their order), charge and spin. Its
        defect and label do not count: they only say what it is called.
    kind
        Relaxation or single point.
    settings
        Force threshold and step limit; they count for relaxations.
    engine
        Program, version and settings.
    guide
        Those of the method that guides the relaxation.

    Returns
    -------
    str or None
        None if the engine does not know its version: such calculations are never reused.
    """
    if UNKNOWN_VERSION in (engine.version, guide and guide.version):
        return None
    guided = {} if guide is None else {"guide": [guide.name, guide.version, guide.settings]}
    return content_hash(
        {
            **guided,
            "version": INPUT_VERSION,
            "species": symbols_of(start.structure),
            "cell": _rounded(start.structure.lattice.matrix),
            "positions": _rounded(start.structure.cart_coords),
            "charge": start.charge,
            "spin": start.spin,
            "kind": kind.value,
            "relaxation": [settings.fmax, settings.steps] if kind is CalculationKind.RELAX else [],
            "engine": [settings.engine, engine.name, engine.version, engine.settings],
        }
    )


def _rounded(values: Any) -> list[list[float]]:
    rounded: list[list[float]] = (np.round(values, 6) + 0.0).tolist()
    return rounded


def find_finished(store: JobStore, key: str, *, but: str) -> Calculation | None:
    """Find the first finished calculation with an input hash.

    Parameters
    ----------
    store
        A connected job store.
    key
        Hash of :func:`input_hash`.
    but
        uuid of the job that asks: its own earlier run does not count.

    Returns
    -------
    Calculation or None
        With its frames; failed ones do not count, because the failure may have been the
        machine's.
    """
    criteria = {
        "output.@class": "Calculation",
        "output.input_hash": key,
        "output.failure": None,
        "uuid": {"$ne": but},
    }
    rows = store.docs_store.query(criteria, properties=["uuid"], sort={"completed_at": 1})
    every = (read_whole(store, uuid) for uuid in dict.fromkeys(row["uuid"] for row in rows))
    return next((found for found in every if found is not None), None)


def read_whole(store: JobStore, uuid: str) -> Calculation | None:
    """Read a calculation with its frames.

    Parameters
    ----------
    store
        A connected job store.
    uuid
        Of the calculation.

    Returns
    -------
    Calculation or None
        None where it, or a frame of it, is not there, or not yet.
    """
    try:
        content = store.query_one({"uuid": uuid}, properties=["output"], load=True)
    except KeyError:  # jobflow writes a document before its frames
        logger.info("calculation %s is being stored and is not reused", uuid)
        return None
    if content is None:
        return None
    found: Calculation = MontyDecoder().process_decoded(content["output"])
    if len(found.frames) != found.n_frames:
        logger.warning("calculation %s has lost frames and is not reused", uuid)
        return None
    return found


def read_single_point(store: JobStore, uuid: str, start: StartStructure) -> Calculation:
    """Read the calculation that is the first step of a relaxation.

    Parameters
    ----------
    store
        Of the running job.
    uuid
        Of the calculation.
    start
        Geometry, charge and spin that it should be of.

    Returns
    -------
    Calculation
        With its frames.

    Raises
    ------
    ChargeError
        If it is of another charge or spin.
    EngineError
        If it is not there, has failed, or is of another geometry.
    """
    found = read_whole(store, uuid)
    where = f"start {start.label}: the single point {uuid} at its geometry"
    if found is None or found.failure is not None:
        raise EngineError(f"{where} is not there, or has failed; compute it first.")
    if (found.charge, found.spin) != (start.charge, start.spin):
        raise ChargeError(
            f"{where} is of charge {found.charge:+d} and spin {found.spin}, the start of "
            f"{start.charge:+d} and {start.spin}."
        )
    if not _same_start(found, start):
        raise EngineError(f"{where} is of another geometry.")
    return found


def find_begun(
    store: JobStore,
    start: StartStructure,
    engine: EngineRecord,
    *,
    but: str,
    same_method: Callable[[Calculation], bool],
) -> Calculation | None:
    """Find a relaxation that went the same way and stopped too early.

    Parameters
    ----------
    store
        A connected job store.
    start
        Geometry, charge and spin that are asked for.
    engine
        Program, version and settings that would compute it.
    but
        uuid of the job that asks.
    same_method
        Whether a relaxation of the same charge has this one's method and spin.

    Returns
    -------
    Calculation or None
        The longest, with its frames: another campaign allowed it fewer steps, or larger forces.
    """
    if engine.version == UNKNOWN_VERSION:
        return None
    criteria = {
        "output.@class": "Calculation",
        "output.kind": CalculationKind.RELAX.value,
        "output.charge": start.charge,
        "output.n_atoms": len(start.structure),
        "output.engine.name": engine.name,
        "output.imported": None,
        "$or": [
            {"output.failure": None},
            {"output.failure.reason": FailureReason.STEPS.value},
        ],
        "uuid": {"$ne": but},
    }
    rows = store.docs_store.query(criteria, properties=["uuid", "output.n_frames"])
    longest = sorted(rows, key=lambda row: (-row["output"]["n_frames"], row["uuid"]))
    for uuid in dict.fromkeys(row["uuid"] for row in longest):
        found = read_whole(store, uuid)
        if found is not None and _same_start(found, start) and same_method(found):
            return found
    return None


def _same_start(found: Calculation, start: StartStructure) -> bool:
    """Whether a relaxation began where another would."""
    if not found.frames or found.frames[0].lineage.step != 0:
        return False
    first, asked = found.frames[0].structure, start.structure
    if symbols_of(first) != symbols_of(asked):
        return False
    if not np.allclose(first.lattice.matrix, asked.lattice.matrix, rtol=0, atol=SAME_START):
        return False
    apart = first.frac_coords - asked.frac_coords  # a program may print it in another cell
    moved = asked.lattice.get_cartesian_coords(apart - np.round(apart))
    return bool(np.linalg.norm(moved, axis=1).max() < SAME_START)


def _saved(guide: Guide | None) -> Guide | None:
    """Guide whose calls were all made for another calculation."""
    if guide is None:
        return None
    saved = guide.calls + guide.calls_saved
    return guide.model_copy(update={"calls": 0, "calls_saved": saved})


def take_over(
    found: Calculation, start: StartStructure, *, fidelity: str, uuid: str
) -> Calculation:
    """Make another campaign's calculation one of this campaign, at no cost.

    Parameters
    ----------
    found
        The finished calculation, with its frames.
    start
        What is asked for now.
    fidelity
        Name of the fidelity here; the other campaign may call the same method otherwise.
    uuid
        uuid of the calculation that takes over.

    Returns
    -------
    Calculation
        Its frames say that they come from this start and this calculation; ``reused_from``
        says who computed them. Building the frames checks the charge of each again.
    """
    frames = [
        Frame(
            structure=frame.structure,
            charge=start.charge,
            spin=frame.spin if start.spin is None else start.spin,
            fidelity=fidelity,
            energy=frame.energy,
            forces=frame.forces,
            stress=frame.stress,
            lineage=Lineage(
                defect=start.defect,
                charge=start.charge,
                start=start.label,
                calculation=uuid,
                step=frame.lineage.step,
            ),
        )
        for frame in found.frames
    ]
    return found.model_copy(
        update={
            "job_uuid": uuid,
            "fidelity": fidelity,
            "defect": start.defect,
            "start": start.label,
            "n_calls": 0,
            "seconds": 0.0,
            "calls_saved": found.n_calls + found.calls_saved,
            "guide": _saved(found.guide),
            "reused_from": found.reused_from or found.job_uuid,
            "imported": None,
            "frames": frames,
        }
    )
