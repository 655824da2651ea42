"""The job store of a folder that calculations are imported into."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobflow import JobStore

from defect_mf_flows.errors import ServiceError
from defect_mf_flows.local.campaign import SERIAL_STORE, open_store
from defect_mf_flows.local.layout import Layout
from defect_mf_flows.local.locks import FolderLock
from defect_mf_flows.local.mongod import find_mongod
from defect_mf_flows.local.store import disk_job_store
from defect_mf_flows.settings import get_settings

logger = logging.getLogger(__name__)


def is_new(folder: Path) -> bool:
    """Tell whether a folder holds no store yet."""
    return not (folder / SERIAL_STORE).exists() and not Layout.of(folder).data.is_dir()


@contextmanager
def open_for_import(folder: Path) -> Iterator[JobStore]:
    """Open the job store of a folder, or make one; it can be a campaign's folder.

    Parameters
    ----------
    folder
        New, or one that a campaign or an import has used.

    Yields
    ------
    JobStore
        Connected: on a private mongod, or an SQLite file where there is none. The latter keeps
        all frames in memory.
    """
    layout = Layout.of(folder)
    if is_new(layout.folder):
        layout.make()
        try:
            find_mongod(get_settings().mongod)
            layout.data.mkdir(parents=True, exist_ok=True)
        except ServiceError as error:
            logger.warning("%s The frames go to %s instead.", error, SERIAL_STORE)
    if layout.data.is_dir():
        with open_store(layout.folder) as store:
            yield store
        return
    with FolderLock(layout.folder_lock, "import", wait=5.0):
        store = disk_job_store(layout.folder)
        store.connect()
        try:
            yield store
        finally:
            store.close()
