"""Imported calculations in a job store: what is there, and adding what is not."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from jobflow import JobStore
from monty.json import jsanitize

from defect_mf_flows.core.charge import charged_structure
from defect_mf_flows.errors import DefectMFError, ImportingError
from defect_mf_flows.importing.identify import Host
from defect_mf_flows.importing.plan import Plan
from defect_mf_flows.importing.reading import Reading
from defect_mf_flows.importing.rows import Row, State
from defect_mf_flows.importing.sources import read
from defect_mf_flows.importing.walk import Kind
from defect_mf_flows.schemas.calculation import (
    Calculation,
    CalculationKind,
    EngineRecord,
    ImportRecord,
)
from defect_mf_flows.schemas.frame import Frame, Lineage, content_hash, structure_key
from defect_mf_flows.schemas.structures import stored_structure

logger = logging.getLogger(__name__)

#: Hashes of a document's frames, so that no frame is stored twice.
FRAME_HASHES = "metadata.frame_hashes"


@dataclass(frozen=True)
class Settings:
    """Settings of calculations that the store holds, without repeats."""

    label: str
    method: dict[str, Any]
    accuracy: dict[str, Any]
    kpoints: str
    cell: np.ndarray


class StoredImports:
    """What a store holds of earlier imports under one fidelity.

    Parameters
    ----------
    store
        Connected job store.
    fidelity
        Name of the fidelity.
    """

    def __init__(self, store: JobStore, fidelity: str) -> None:
        self.store = store
        self._criteria = {
            "output.@class": "Calculation",
            "output.fidelity": fidelity,
            "output.imported": {"$ne": None},
        }

    def methods(self) -> list[Any]:
        """Settings of the imported calculations, without repeats."""
        found: dict[str, Settings] = {}
        wanted = ["output.imported", "output.start", "output.final_structure.lattice.matrix"]
        for row in self.store.docs_store.query(self._criteria, properties=wanted):
            output = row["output"]
            record = output["imported"]
            cell = output["final_structure"]["lattice"]["matrix"]
            settings = {k: record[k] for k in ("method", "accuracy", "kpoints")}
            key = content_hash([settings, np.round(cell, 2).tolist()])
            found.setdefault(key, Settings(output["start"], cell=np.array(cell), **settings))
        return list(found.values())

    def hosts(self) -> list[Host]:
        """Pristine cells of earlier imports, one per lattice."""
        found: list[Host] = []
        criteria = {**self._criteria, "output.defect": None, "output.charge": 0}
        wanted = ["output.final_structure", "output.imported.path", "output.engine.settings.zval"]
        for row in self.store.docs_store.query(criteria, properties=wanted):
            structure = stored_structure(row["output"]["final_structure"])
            if not any(host.fits(structure.lattice.matrix) for host in found):
                zval = row["output"].get("engine", {}).get("settings", {}).get("zval", {})
                found.append(Host(structure, zval, row["output"]["imported"]["path"]))
        return found

    def has(self, uuid: str) -> bool:
        """Tell whether a calculation is there."""
        return self.store.docs_store.query_one({"uuid": uuid}, properties=["uuid"]) is not None

    def known_frames(self, hashes: list[str]) -> set[str]:
        """Those of some frames that the store holds."""
        found: set[str] = set()
        criteria = {FRAME_HASHES: {"$in": hashes}}
        for row in self.store.docs_store.query(criteria, properties=[FRAME_HASHES]):
            found |= set(row["metadata"]["frame_hashes"]) & set(hashes)
        return found


@dataclass
class ImportOutcome:
    """What an import did.

    Attributes
    ----------
    calculations, frames
        Added to the store.
    messages
        What could not be stored after all.
    """

    calculations: int = 0
    frames: int = 0
    messages: list[str] = field(default_factory=list)


def carry_out(
    plan: Plan, store: JobStore, *, progress: Callable[[Row], None] | None = None
) -> ImportOutcome:
    """Store what is new, one calculation in memory at a time.

    Parameters
    ----------
    plan
        What :func:`~defect_mf_flows.importing.plan.make_plan` decided.
    store
        Connected job store; nothing that it holds is changed.
    progress
        Called with every row that was stored.

    Returns
    -------
    ImportOutcome
        What was added. A kill leaves whole calculations; the next import adds the rest.
    """
    known = StoredImports(store, plan.fidelity)
    store.docs_store.ensure_index("uuid")
    store.docs_store.ensure_index(FRAME_HASHES)
    outcome = ImportOutcome()
    waiting = {(row.source.path, row.part): row for row in plan.of(State.NEW)}
    for source in dict.fromkeys(row.source for row in plan.of(State.NEW)):
        try:
            for reading in read(source):
                row = waiting.get((source.path, reading.part))
                if row is not None:
                    _store(row, reading, plan, store, known, outcome)
                    if progress is not None:
                        progress(row)
        except (DefectMFError, OSError) as error:
            outcome.messages.append(str(error))
    return outcome


def _store(
    row: Row,
    reading: Reading,
    plan: Plan,
    store: JobStore,
    known: StoredImports,
    outcome: ImportOutcome,
) -> None:
    if reading.digest != row.digest:
        raise ImportingError(
            f"{row.source.path}: changed while it was being imported; import it again when the "
            "calculation has stopped."
        )
    host = next((host for host in plan.hosts if host.fits(row.cell)), None)
    made = calculation_of(row, reading, plan.fidelity)
    hashes = [frame.content_hash for frame in made.frames]
    there = known.known_frames(hashes)
    frames = list({f.content_hash: f for f in made.frames if f.content_hash not in there}.values())
    if not frames:
        row.state = State.DUPLICATE
        row.notes.insert(0, "the store holds all its frames already")
        return
    made = made.model_copy(update={"frames": frames, "n_frames": len(frames)})
    document = {
        "uuid": made.job_uuid,
        "index": 1,
        "output": made,
        "completed_at": datetime.now().isoformat(),
        "metadata": _metadata(made, host),
        "hosts": [],
        "name": f"import {row.label}",
    }
    with warnings.catch_warnings():
        # pymatgen compares the charge with oxidation states, which these structures lack.
        warnings.simplefilter("ignore", UserWarning)
        # As jobflow stores outputs: a kind is its value, by which queries find it.
        plain = jsanitize(document, strict=True, enum_values=True)
        store.update(plain, key=["uuid", "index"], save={"data": "frames"})
    outcome.calculations += 1
    outcome.frames += len(frames)
    row.n_frames = len(frames)


def _metadata(made: Calculation, host: Host | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "imported": True,
        "defect": made.defect,
        "charge": made.charge,
        "fidelity": made.fidelity,
        "frame_hashes": [frame.content_hash for frame in made.frames],
    }
    if host is not None:
        found["host"] = host.structure.composition.reduced_formula
        found["host_hash"] = content_hash(structure_key(host.structure))
    return found


def calculation_of(row: Row, reading: Reading, fidelity: str) -> Calculation:
    """Make the document of one imported calculation.

    Parameters
    ----------
    row
        What was decided about it: charge, defect, site.
    reading
        Its steps.
    fidelity
        Name of the fidelity.

    Returns
    -------
    Calculation
        Every usable ionic step is a frame; ``converged`` is false for what was cut off.

    Raises
    ------
    ImportingError
        If its charge is not known.
    """
    if row.charge is None:
        raise ImportingError(f"{row.source.path}: charge not known; it was not to be imported.")
    uuid = row.uuid(fidelity)
    usable = reading.usable()
    frames = [
        Frame(
            structure=charged_structure(step.cell, reading.symbols, step.positions, row.charge),
            charge=row.charge,
            spin=reading.spin,
            fidelity=fidelity,
            energy=step.energy,
            forces=step.forces,
            stress=step.stress,
            lineage=Lineage(
                defect=row.defect,
                charge=row.charge,
                start=row.label,
                calculation=uuid,
                step=number,
            ),
        )
        for number, step in usable
    ]
    kind = CalculationKind.RELAX if reading.relaxation else CalculationKind.STATIC
    # The end of a relaxation whose last step was left out is no minimum.
    whole = reading.ended and usable[-1][1] is reading.steps[-1]
    return Calculation(
        job_uuid=uuid,
        kind=kind,
        fidelity=fidelity,
        defect=row.defect,
        charge=row.charge,
        spin=reading.spin,
        start=row.label,
        n_atoms=len(reading.symbols),
        converged=whole and (reading.relaxed or kind is CalculationKind.STATIC),
        n_calls=len(reading.steps),
        seconds=reading.seconds,
        engine=EngineRecord(
            name=reading.program,
            version=reading.version,
            settings={**reading.settings, "charge": row.charge, "zval": reading.zval},
        ),
        band_edges=_edges(row),
        final_energy=frames[-1].energy,
        final_structure=frames[-1].structure,
        n_frames=len(frames),
        lowest_energy=min(frame.energy for frame in frames),
        imported=ImportRecord(
            path=str(row.source.path),
            digest=row.digest,
            part=row.part,
            method=row.method,
            accuracy=row.accuracy,
            kpoints=row.kpoints,
            site=row.site,
            magnetization=reading.magnetization,
            relaxed=reading.relaxed,
            notes=row.notes,
        ),
        frames=frames,
    )


def _edges(row: Row) -> Any:
    """Band edges of the host, which levels are measured from."""
    if row.defect is not None or row.source.kind not in (Kind.OUTCAR, Kind.VASPRUN):
        return None
    from defect_mf_flows.importing.vasp import band_edges

    return band_edges(row.source)
