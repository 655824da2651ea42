"""Finding a batch of relaxations that the same model has made of the same starts."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from jobflow import JobStore

from defect_mf_flows.campaign import SearchSettings
from defect_mf_flows.jobs.common import read_output
from defect_mf_flows.schemas.calculation import FailureReason
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.frame import content_hash, structure_key
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.search import RelaxationBatch

logger = logging.getLogger(__name__)

#: Raised whenever batches make something else of the same input.
BATCH_VERSION = 1
#: Settings of a search that do not change what becomes of a batch: which starts there are,
#: how many share a job, and how fast.
ELSEWHERE = {
    "distortions",
    "pair_distortions",
    "rattles",
    "split_vacancies",
    "exchanges",
    "from_low",
    "batch",
    "compile",
}


def batch_hash(
    starts: Sequence[StartStructure], model: Model, search: SearchSettings, *, device: str
) -> str:
    """SHA-256 of everything that decides what becomes of a batch of starts.

    Parameters
    ----------
    starts
        Their geometries (fractional coordinates count to 1e-9, in their order), charges, spins
        and labels.
    model
        Every network of a committee counts, the labels that it learned from, and its calibration.
    search
        Thresholds and limits.
    device
        torch device.

    Returns
    -------
    str
    """
    return content_hash(
        {
            "version": BATCH_VERSION,
            "starts": [
                {
                    "label": start.label,
                    "defect": start.defect,
                    "charge": start.charge,
                    "spin": start.spin,
                    "geometry": structure_key(start.structure),
                }
                for start in starts
            ],
            "models": [[m.model_hash, m.dataset_hash] for m in (model, *model.members)],
            "head": model.heads[-1],
            "scale": None if model.calibration is None else model.calibration.scale,
            "search": search.model_dump(mode="json", exclude=ELSEWHERE),
            "device": device.partition(":")[0],
        }
    )


def find_batch(store: JobStore, key: str, *, but: str) -> RelaxationBatch | None:
    """Find the first batch with a hash.

    Parameters
    ----------
    store
        A connected job store.
    key
        Hash of :func:`batch_hash`.
    but
        uuid of the job that asks: its own earlier run does not count.

    Returns
    -------
    RelaxationBatch or None
        With its geometries. Its seconds are those of whoever relaxed it, whom
        ``reused_from`` names. One that lost a process does not count: that was the machine's.
    """
    criteria = {
        "output.@class": RelaxationBatch.__name__,
        "output.input_hash": key,
        "uuid": {"$ne": but},
    }
    rows = store.docs_store.query(criteria, properties=["uuid"], sort={"completed_at": 1})
    for uuid in dict.fromkeys(row["uuid"] for row in rows):
        try:
            found = read_output(store, uuid, RelaxationBatch, load=True)
        except KeyError:  # jobflow writes a document before its geometries
            logger.info("batch %s is being stored and is not reused", uuid)
            continue
        whole = len(found.structures) == len(found.starts)
        if whole and FailureReason.LOST not in found.reasons:
            return found.model_copy(update={"reused_from": found.reused_from or uuid})
    return None
