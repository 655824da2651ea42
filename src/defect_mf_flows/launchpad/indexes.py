"""Indexes of a LaunchPad and a job store, the same on one machine and on a site's server.

Queries that need an index of their own add a line to a tuple below; ``defect-mf run`` and
``defect-mf setup`` build what is missing.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from fireworks import LaunchPad
from jobflow import JobStore
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from defect_mf_flows.results import INDEXES as RESULT_INDEXES

#: Where FireWorks puts what is too large for a document.
LARGE = "fw_gridfs"

#: Fields of one index each; ``-`` sorts downwards.
Indexes = tuple[tuple[str, ...], ...]

FIREWORKS: Indexes = (
    ("spec.campaign_hash", "state"),
    ("spec.stage",),
)
WORKFLOWS: Indexes = (
    ("metadata.campaign_hash",),
    ("metadata.campaign",),
)
OUTPUTS: Indexes = (
    ("name",),
    ("completed_at",),
    ("output.@class", "output.defect", "output.charge"),
    *RESULT_INDEXES,
)
#: jobflow and maggma search by these but make no index; two outputs of one run are refused.
UNIQUE_OUTPUTS: Indexes = (("uuid", "-index"),)
BLOBS: Indexes = (
    ("metadata.blob_uuid",),
    ("metadata.job_uuid",),
    ("filename", "uploadDate"),
)
UNIQUE_CHUNKS: Indexes = (("files_id", "n"),)


def initialize(launchpad: LaunchPad) -> list[str]:
    """Set a LaunchPad's counters up and build its indexes; all of it harmless when they exist.

    ``LaunchPad.reset`` would empty the database, so it is never used.

    Parameters
    ----------
    launchpad
        Any LaunchPad.

    Returns
    -------
    list of str
        Names of the indexes that were missing.
    """
    if launchpad.fw_id_assigner.find_one({}) is None:
        counters = {"_id": "counters", "next_fw_id": 1, "next_launch_id": 1}
        with suppress(DuplicateKeyError):  # another process did the same at the same time
            launchpad.fw_id_assigner.insert_one(counters)
    places = (launchpad.fireworks, launchpad.workflows, launchpad.launches)
    before = {name for place in places for name in _names(place)}
    launchpad.tuneup()
    _build(launchpad.fireworks, FIREWORKS)
    _build(launchpad.workflows, WORKFLOWS)
    # pymongo makes these at the first write of a large document, which a worker may not.
    _build(launchpad.db[f"{LARGE}.files"], (("filename", "uploadDate"),))
    _build(launchpad.db[f"{LARGE}.chunks"], UNIQUE_CHUNKS, unique=True)
    return sorted({name for place in places for name in _names(place)} - before)


def ensure_indexes(store: JobStore) -> list[str]:
    """Build the indexes of a job store in MongoDB.

    Parameters
    ----------
    store
        A connected store whose documents and additional store ``data`` lie in MongoDB.

    Returns
    -------
    list of str
        Names of the indexes that were missing.
    """
    docs: Any = store.docs_store
    blobs: Any = store.additional_stores["data"]  # type: ignore[has-type]
    files, chunks = blobs._files_collection, blobs._chunks_collection
    return [
        *_build(docs._collection, UNIQUE_OUTPUTS, unique=True),
        *_build(docs._collection, OUTPUTS),
        *_build(files, BLOBS),
        *_build(chunks, UNIQUE_CHUNKS, unique=True),
    ]


def _names(collection: Collection[dict[str, Any]]) -> set[str]:
    return {f"{collection.name}: {name}" for name in collection.index_information()}


def _build(
    collection: Collection[dict[str, Any]], indexes: Indexes, *, unique: bool = False
) -> list[str]:
    before = _names(collection)
    for fields in indexes:
        keys = [(field.removeprefix("-"), -1 if field.startswith("-") else 1) for field in fields]
        collection.create_index(keys, unique=unique)
    return sorted(_names(collection) - before)
