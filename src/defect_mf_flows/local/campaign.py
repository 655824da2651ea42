"""Run a campaign on this machine, follow it and read its results."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobflow import JobStore, run_locally

from defect_mf_flows.campaign import Campaign, campaign_hash, load_campaign
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.flows.campaign import CampaignMaker
from defect_mf_flows.launchpad.progress import Progress, workflow_progress
from defect_mf_flows.local.connection import connect
from defect_mf_flows.local.layout import Layout
from defect_mf_flows.local.locks import FolderLock
from defect_mf_flows.local.printer import ProgressPrinter
from defect_mf_flows.local.runner import LocalRunner
from defect_mf_flows.local.store import disk_job_store
from defect_mf_flows.report.csv_tables import table_folder, write_tables
from defect_mf_flows.report.html import write_report
from defect_mf_flows.report.methods import methods, write_references
from defect_mf_flows.results import CampaignResults, write_results
from defect_mf_flows.results.spent import Spent, spent
from defect_mf_flows.schemas.results import Results
from defect_mf_flows.settings import available_cores, get_settings

logger = logging.getLogger(__name__)

SERIAL_STORE = "job_store.sqlite"
SCRATCH = "DEFECT_MF_SCRATCH"
SEARCH_PROCESSES = "DEFECT_MF_SEARCH_PROCESSES"


def campaign_folder(path: Path, folder: Path | None) -> Path:
    """Folder of a campaign: the one given, or ``campaigns/NAME`` here.

    Parameters
    ----------
    path
        Campaign file.
    folder
        Explicit folder, or None.

    Returns
    -------
    Path
        Absolute path; it need not exist.
    """
    if folder is None:
        folder = Path("campaigns") / load_campaign(path)[0].name
    return folder.expanduser().resolve()


def run_campaign(
    path: Path, *, folder: Path | None, workers: int | None, serial: bool
) -> tuple[Results, Path]:
    """Compute a campaign, or what is left of it, and write results and report.

    Parameters
    ----------
    path
        Campaign file.
    folder
        Folder of database, logs and results; None: ``campaigns/NAME``.
    workers
        Worker processes; None: the machine's setting, else one per core.
    serial
        One process and an on-disk store instead of mongod and workers.

    Returns
    -------
    results, folder
        What was found, and where it lies.
    """
    campaign, structure = load_campaign(path)
    where = campaign_folder(path, folder)
    key = campaign_hash(campaign, structure)
    where.mkdir(parents=True, exist_ok=True)
    (where / "campaign.yaml").write_bytes(path.read_bytes())
    _check_machine(campaign)
    maker = CampaignMaker.from_campaign(campaign)
    if serial:
        _run_serial(maker, structure, where, key)
    else:
        machine = get_settings()
        scratch = os.environ.get(SCRATCH) or str(where / "scratch")
        n_workers = workers or machine.workers or available_cores()
        share = machine.search_processes or max(1, available_cores() // n_workers)
        runner = LocalRunner(
            where,
            n_workers,
            machine.mongod,
            extra_env={SCRATCH: scratch, SEARCH_PROCESSES: str(share)},
        )
        metadata = {"campaign": campaign.name, "campaign_hash": key}
        with ProgressPrinter() as printer:
            runner.run(lambda: maker.make(structure), metadata, printer)
    results = read_results(path, folder=where)
    write_results(results, where / "results.json")
    fireworks = not ran_serially(where)
    page = write_report(results, where / "report.html", fireworks=fireworks)
    write_tables(results, table_folder(page))
    write_references(methods(results, fireworks=fireworks), table_folder(page))
    return results, where


def _check_machine(campaign: Campaign) -> None:
    """Ask for GPU and foundation model now, not after hours of labels."""
    training = campaign.training
    if training.device == "cpu" and training.foundation is None:
        return  # and spare the import of torch
    from defect_mf_flows.learning.training import check_machine

    check_machine(training, [campaign.roles.low, campaign.roles.high])


def read_results(path: Path, *, folder: Path | None) -> Results:
    """Read the results of a finished campaign from its database.

    Parameters
    ----------
    path
        Campaign file.
    folder
        Its folder; None: ``campaigns/NAME``.

    Returns
    -------
    Results
        The newest.

    Raises
    ------
    ResultsError
        If nothing was run there, or it has not finished.
    """
    key = _hash_of(path)
    with open_store(campaign_folder(path, folder)) as store:
        return CampaignResults(store, campaign_hash=key).results()


def campaign_status(path: Path, *, folder: Path | None) -> tuple[Progress, tuple[Spent, ...]]:
    """Count a campaign's jobs, per stage and state, and its calculations, per fidelity.

    Parameters
    ----------
    path, folder
        As for :func:`read_results`.

    Returns
    -------
    Progress
        Of the running or the interrupted campaign.
    tuple of Spent
        What its reference calculations cost, and how many failed.

    Raises
    ------
    ResultsError
        If nothing was run there, or it was run with ``--serial``, which keeps no list of jobs.
    """
    key, where = _hash_of(path), campaign_folder(path, folder)
    if ran_serially(where):
        raise ResultsError(
            f"{where} was run with --serial, which keeps no list of jobs; "
            "use `defect-mf results` when it has finished."
        )
    with connect(where, get_settings().mongod) as (launchpad, store):
        return workflow_progress(launchpad, key), spent(store, key)


def ran_serially(folder: Path) -> bool:
    """Tell whether a campaign's folder was filled by ``run --serial``.

    Parameters
    ----------
    folder
        The campaign's folder.
    """
    return (folder / SERIAL_STORE).exists() and not Layout.of(folder).data.is_dir()


def _hash_of(path: Path) -> str:
    return campaign_hash(*load_campaign(path))


@contextmanager
def open_store(folder: Path) -> Iterator[JobStore]:
    """Open the job store of a campaign's folder, whichever way it was run.

    Parameters
    ----------
    folder
        The campaign's folder.

    Yields
    ------
    JobStore
        Connected.
    """
    if ran_serially(folder):
        store = disk_job_store(folder)
        store.connect()
        try:
            yield store
        finally:
            store.close()
        return
    with connect(folder, get_settings().mongod) as (_, store):
        yield store


def _run_serial(maker: CampaignMaker, structure: object, where: Path, key: str) -> None:
    """Run in this process. What a kill loses: every reference calculation of this run."""
    os.environ.setdefault(SCRATCH, str(where / "scratch"))
    get_settings.cache_clear()
    layout = Layout.of(where)
    layout.make()
    logger.warning(
        "--serial: one process and no database server. An interrupted run computes its "
        "reference calculations again; only trainings continue."
    )
    with FolderLock(layout.folder_lock, "run"):
        store = disk_job_store(where)
        store.connect()
        try:
            if CampaignResults(store, campaign_hash=key).count(Results):
                return
            flow = maker.make(structure)  # type: ignore[arg-type]
            run_locally(flow, store=store, ensure_success=True, raise_immediately=True)
        finally:
            store.close()
