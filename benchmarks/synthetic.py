"""A store full of calculations that were never computed, but would pass every check."""

from __future__ import annotations

import hashlib
import json
import uuid as uuids
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from jobflow import JobStore
from monty.json import jsanitize
from pymatgen.core import Structure

from defect_mf_flows.campaign import DefectSettings, HostSettings
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.core.defects import generate_defects
from defect_mf_flows.jobs.common import read_output
from defect_mf_flows.launchpad.indexes import ensure_indexes
from defect_mf_flows.local.store import local_job_store
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind, EngineRecord
from defect_mf_flows.schemas.defect import DefectSet
from defect_mf_flows.schemas.frame import Frame, Lineage, content_hash
from defect_mf_flows.testing import zinc_blende

CAMPAIGN_HASH = hashlib.sha256(b"benchmark").hexdigest()
CHARGES = (0, -1, -2)
START = datetime(2026, 1, 1)


def vacancy() -> DefectSet:
    """V_Zn in a ZnS cell of 32 atoms."""
    made = generate_defects(
        zinc_blende(),
        host=HostSettings(structure="ZnS.cif", supercell=[2, 2, 1]),
        defects=DefectSettings(include=["v_Zn"], charges={"v_Zn": list(CHARGES)}),
    )
    return made.model_copy(update={"job_uuid": "defects"})


def _structure(cell: Structure, charge: int, rng: np.random.Generator) -> Structure:
    moved = cell.cart_coords + rng.normal(scale=0.05, size=(len(cell), 3))
    symbols = [site.specie.symbol for site in cell]
    plain = Structure(cell.lattice, symbols, moved, coords_are_cartesian=True)
    return with_charge(plain, charge)


def calculation(number: int, n_frames: int, cell: Structure, *, high: bool) -> Calculation:
    """One relaxation with invented labels; the same number gives the same content."""
    rng = np.random.default_rng(number)
    charge, fidelity = CHARGES[number % len(CHARGES)], "high" if high else "low"
    uuid, start = str(uuids.UUID(int=number + 1)), f"start {number}"
    frames = [
        Frame(
            structure=_structure(cell, charge, rng),
            charge=charge,
            fidelity=fidelity,
            energy=-100.0 - 5 * charge + float(rng.normal(scale=0.5)),
            forces=rng.normal(scale=0.5, size=(len(cell), 3)),
            lineage=Lineage(defect="v_Zn", charge=charge, start=start, calculation=uuid, step=step),
        )
        for step in range(n_frames)
    ]
    return Calculation(
        job_uuid=uuid,
        kind=CalculationKind.RELAX,
        fidelity=fidelity,
        defect="v_Zn",
        charge=charge,
        start=start,
        n_atoms=len(cell),
        converged=True,
        n_calls=n_frames,
        seconds=1.0,
        engine=EngineRecord(name="synthetic", version="1", settings={"charge": charge}),
        final_energy=frames[-1].energy,
        final_structure=frames[-1].structure,
        n_frames=n_frames,
        input_hash=hashlib.sha256(uuid.encode()).hexdigest(),
        frames=frames,
    )


def document(made: Any, uuid: str, number: int, **metadata: Any) -> dict[str, Any]:
    """What jobflow stores for a finished job."""
    return {
        "uuid": uuid,
        "index": 1,
        "output": jsanitize(made, strict=True, enum_values=True, allow_bson=True),
        "completed_at": (START + timedelta(minutes=number)).isoformat(),
        "metadata": {
            "campaign": f"campaign{number % 10}" if metadata else "campaign0",
            "campaign_hash": CAMPAIGN_HASH,
            "host": "ZnS",
            "host_hash": "0" * 64,
            **metadata,
        },
        "hosts": [],
        "name": f"synthetic {number}",
    }


def _varied(template: dict[str, Any], number: int, fidelity: str) -> dict[str, Any]:
    """The output of a calculation with other geometries and labels, and hashes that fit."""
    rng = np.random.default_rng(number)
    uuid, start = str(uuids.UUID(int=number + 1)), f"start {number}"
    made = {**template, "job_uuid": uuid, "start": start, "fidelity": fidelity}
    made["input_hash"] = hashlib.sha256(uuid.encode()).hexdigest()
    cell = np.array(template["frames"][0]["structure"]["lattice"]["matrix"])
    inverse = np.linalg.inv(cell)
    made["frames"] = [
        _varied_frame(frame, rng, cell, inverse, uuid, start, fidelity)
        for frame in template["frames"]
    ]
    made["final_energy"] = made["frames"][-1]["energy"]
    made["final_structure"] = made["frames"][-1]["structure"]
    made["lowest_energy"] = min(f["energy"] for f in made["frames"])
    return made


def _varied_frame(
    frame: dict[str, Any],
    rng: np.random.Generator,
    cell: np.ndarray,
    inverse: np.ndarray,
    uuid: str,
    start: str,
    fidelity: str,
) -> dict[str, Any]:
    sites = frame["structure"]["sites"]
    xyz = np.array([site["xyz"] for site in sites]) + rng.normal(scale=0.02, size=(len(sites), 3))
    abc = xyz @ inverse
    labels = {
        "charge": frame["charge"],
        "fidelity": fidelity,
        "energy": frame["energy"] + float(rng.normal(scale=0.1)),
        "forces": rng.normal(scale=0.5, size=xyz.shape).tolist(),
    }
    structure = {
        **frame["structure"],
        "sites": [
            {**site, "abc": a, "xyz": x}
            for site, a, x in zip(sites, abc.tolist(), xyz.tolist(), strict=True)
        ],
    }
    geometry = {
        "species": [site["species"][0]["element"] for site in sites],
        "cell": (np.round(cell, 9) + 0.0).tolist(),
        "frac": (np.round(abc, 9) + 0.0).tolist(),
    }
    return {
        **frame,
        **labels,
        "structure": structure,
        "lineage": {**frame["lineage"], "calculation": uuid, "start": start},
        "content_hash": content_hash({"structure": geometry, **labels}),
    }


def _put(port: int, database: str, numbers: list[int], n_frames: int, first_high: int) -> int:
    """Write calculations as jobflow does, without its checks, which would take an hour."""
    store = connected(port, database)
    cell = with_charge(vacancy().get("v_Zn").supercell, 0)
    templates = [
        jsanitize(
            calculation(n, n_frames, cell, high=False),
            strict=True,
            enum_values=True,
            allow_bson=True,
        )
        for n in range(len(CHARGES))
    ]
    for number in numbers:
        high = number >= first_high
        template = templates[number % len(CHARGES)]
        made = _varied(template, number, "high" if high else "low")
        metadata = {
            "stage": "verification" if high else "low fidelity",
            "defect": made["defect"],
            "charge": made["charge"],
            "fidelity": made["fidelity"],
        }
        frames = made.pop("frames")
        blob = {"@class": "DataObject", "blob_uuid": str(uuids.uuid4()), "store": "data"}
        row = document({**made, "frames": blob}, made["job_uuid"], number, **metadata)
        key = {"blob_uuid": blob["blob_uuid"], "job_uuid": row["uuid"], "job_index": 1}
        data = {**key, "@class": "DataObject", "data": frames}
        store.additional_stores["data"]._collection.put(json.dumps(data).encode(), metadata=key)
        store.docs_store._collection.insert_one(row)
    store.close()
    return len(numbers)


def connected(port: int, database: str) -> JobStore:
    """The store on a local server."""
    store = local_job_store(port, database)
    store.connect()
    return store


def fill(port: int, database: str, n_calculations: int, n_frames: int, workers: int) -> int:
    """Fill a store; every tenth calculation is of the high fidelity.

    Returns
    -------
    int
        Number of the first high-fidelity calculation: all after it are, too.
    """
    first_high = n_calculations - n_calculations // 10
    store = connected(port, database)
    found = vacancy()
    store.update(document(found, found.job_uuid, 0), save={"data": ["entry"]})
    store.close()
    shares = [list(range(i, n_calculations, 4 * workers)) for i in range(4 * workers)]
    with ProcessPoolExecutor(workers) as pool:
        jobs = [pool.submit(_put, port, database, s, n_frames, first_high) for s in shares]
        done = sum(job.result() for job in jobs)
    assert done == n_calculations
    store = connected(port, database)
    ensure_indexes(store)
    for uuid in uuids_of(n_calculations - 2, n_calculations):
        read_output(store, uuid, Calculation, load=True)  # what was written passes every check
    store.close()
    return first_high


def uuids_of(first: int, last: int) -> list[str]:
    """Uuids of a range of calculations."""
    return [str(uuids.UUID(int=n + 1)) for n in range(first, last)]
