"""Job stores: on the private server, and on disk for one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from jobflow import JobStore
from maggma.stores import GridFSStore, MongoStore

from defect_mf_flows.launchpad.patience import CLIENT_OPTIONS, WORKER_PATIENCE
from defect_mf_flows.local.layout import DATABASE, Layout
from defect_mf_flows.local.sqlite_store import SqliteStore
from defect_mf_flows.results import INDEXES

DOCS = "outputs"
BLOBS = "outputs_blobs"


def local_job_store(port: int, database: str = DATABASE) -> JobStore:
    """Return the job store on the private server.

    Parameters
    ----------
    port
        Port of the server on the loopback address.
    database
        Name of the database.

    Returns
    -------
    JobStore
        Not yet connected; documents in MongoDB, the additional store ``data`` in GridFS.
    """
    return JobStore.from_dict_spec(_store_spec(port, database))


def disk_job_store(folder: Path | str) -> JobStore:
    """Return a job store in an SQLite file, for a run without a server.

    Parameters
    ----------
    folder
        The campaign's folder; the file is ``job_store.sqlite`` in it.

    Returns
    -------
    JobStore
        Not yet connected, with an additional store ``data``. For one writing process at a time.
    """
    path = Path(folder).expanduser().resolve() / "job_store.sqlite"
    docs = SqliteStore(str(path), DOCS, key="uuid")
    blobs = SqliteStore(str(path), BLOBS, key="blob_uuid")
    return JobStore(docs, additional_stores={"data": blobs})


def ensure_indexes(store: JobStore) -> None:
    """Build the indexes that jobflow and maggma search by but do not make.

    Parameters
    ----------
    store
        A connected store from :func:`local_job_store`.
    """
    docs = store.docs_store._collection
    docs.create_index([("uuid", 1), ("index", -1)], unique=True)
    for field in ("output.@class", "name", "metadata.campaign"):
        docs.create_index(field)
    for fields in INDEXES:
        docs.create_index([(field, 1) for field in fields])
    blobs: Any = store.additional_stores["data"]  # type: ignore[has-type]
    files = blobs._files_collection
    for field in ("metadata.blob_uuid", "metadata.job_uuid"):
        files.create_index(field)


def write_jobflow_config(folder: Path | str, port: int) -> Path:
    """Write the jobflow settings that tell the workers where the store is.

    The port changes from run to run, so the store is never written into the Fireworks.

    Parameters
    ----------
    folder
        The campaign's folder.
    port
        Port of the private server.

    Returns
    -------
    Path
        The file, for the environment variable JOBFLOW_CONFIG_FILE.
    """
    path = Layout.of(folder).jobflow_config
    partial = path.with_suffix(".part")
    partial.write_text(yaml.safe_dump({"JOB_STORE": _store_spec(port, DATABASE)}), encoding="utf-8")
    partial.replace(path)
    return path


def _store_spec(port: int, database: str) -> dict[str, Any]:
    docs = _place(MongoStore.__name__, DOCS, port, database)
    blobs = _place(GridFSStore.__name__, BLOBS, port, database)
    return {"docs_store": docs, "additional_stores": {"data": blobs}}


def _place(kind: str, collection: str, port: int, database: str) -> dict[str, Any]:
    options = {**CLIENT_OPTIONS, "serverSelectionTimeoutMS": int(1000 * WORKER_PATIENCE)}
    return {
        "type": kind,
        "database": database,
        "collection_name": collection,
        "host": "127.0.0.1",
        "port": port,
        "mongoclient_kwargs": options,
    }
