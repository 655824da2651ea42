"""The files of a site: what `defect-mf init` writes, and what lies at the repository's top."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from defect_mf_flows.errors import SiteError
from defect_mf_flows.launchpad.indexes import FIREWORKS, WORKFLOWS
from defect_mf_flows.schemas.routing import Resources, Routing
from defect_mf_flows.site.connection import (
    FIREWORKS_FILE,
    FWORKER_FILE,
    GPU_FWORKER_FILE,
    GPU_QADAPTER_FILE,
    JOBFLOW_FILE,
    LAUNCHPAD_FILE,
    QADAPTER_FILE,
    SETTINGS_FILE,
)

DOCS = "outputs"
BLOBS = "outputs_blobs"
PRIVATE, PUBLIC = 0o600, 0o644

#: FW_config.yaml is not among them: FireWorks reads one from the folder it is started in.
TOP_LEVEL = (
    LAUNCHPAD_FILE,
    FWORKER_FILE,
    GPU_FWORKER_FILE,
    QADAPTER_FILE,
    GPU_QADAPTER_FILE,
    JOBFLOW_FILE,
    SETTINGS_FILE,
)


@dataclass(frozen=True)
class SiteValues:
    """What a site's files are filled in with.

    Attributes
    ----------
    folder
        Absolute path of the site's folder, as the cluster's nodes see it.
    command
        ``defect-mf`` as the cluster's nodes find it.
    host, port, database
        The MongoDB server, and the database for workflows and documents.
    user, password, source
        User, password to store (None: from the environment), and the database that holds the
        user (None: ``database``).
    tls, tls_ca_file
        Whether the connection is encrypted, and the certificate authority to trust.
    cpu_queue, gpu_queue, account
        Slurm's partitions and account.
    """

    folder: Path = Path("/path/to/site")
    command: str = "defect-mf"
    host: str = "localhost"
    port: int = 27017
    database: str = "defect_mf"
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    source: str | None = None
    tls: bool = False
    tls_ca_file: Path | None = None
    cpu_queue: str = "cpu"
    gpu_queue: str = "gpu"
    account: str | None = None


def own_command() -> str:
    """``defect-mf`` of this installation, by its absolute path where it can be found."""
    beside = Path(sys.executable).with_name("defect-mf")
    return str(beside) if beside.is_file() else shutil.which("defect-mf") or "defect-mf"


def site_files(values: SiteValues) -> dict[str, str]:
    """Text of every file of a site.

    Parameters
    ----------
    values
        What to fill in.

    Returns
    -------
    dict
        By name of the file.
    """
    return {
        LAUNCHPAD_FILE: _text(_LAUNCHPAD, _launchpad(values)),
        FWORKER_FILE: _text(_FWORKER, _fworker("dft", "dft")),
        GPU_FWORKER_FILE: _text(_GPU_FWORKER, _fworker("gpu", ["train", "search"])),
        QADAPTER_FILE: _text(_QADAPTER, _qadapter(values, FWORKER_FILE)),
        GPU_QADAPTER_FILE: _text(_GPU_QADAPTER, _qadapter(values, GPU_FWORKER_FILE)),
        JOBFLOW_FILE: _text(_JOBFLOW, _jobflow(values)),
        FIREWORKS_FILE: _text(_FIREWORKS, _fireworks(values)),
        SETTINGS_FILE: _text(_SETTINGS, _settings(values)),
    }


def write_site_files(values: SiteValues, *, force: bool = False) -> list[Path]:
    """Write the files of a site; with passwords in them, nobody else can ever read them.

    Parameters
    ----------
    values
        What to fill in; ``folder`` is where they are written.
    force
        Whether to replace files that are there.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    SiteError
        If a file is there already, and then none is written; or if one cannot be written.
    """
    texts = site_files(values)
    present = [name for name in texts if (values.folder / name).exists()]
    if present and not force:
        raise SiteError(
            f"{values.folder} already has {', '.join(present)}; give another folder, or --force "
            "to replace them."
        )
    # A user name alone is private too: its password may be written beside it one day.
    private = {LAUNCHPAD_FILE, JOBFLOW_FILE} if values.user else set()
    try:
        values.folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            _write(values.folder / name, text, PRIVATE if name in private else PUBLIC)
    except OSError as error:
        raise SiteError(
            f"{error.filename or values.folder}: cannot be written: {error.strerror}; give a "
            "folder that you may write to."
        ) from None
    return [values.folder / name for name in texts]


def _write(path: Path, text: str, mode: int) -> None:
    """Write a file so that it is whole or not there, and has its mode from its first byte on."""
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if mode != PRIVATE:
            mask = os.umask(0o077)
            os.umask(mask)
            Path(partial).chmod(mode & ~mask)
        Path(partial).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(partial).unlink()
        raise


# -- contents --------------------------------------------------------------------------


def _client(values: SiteValues) -> dict[str, Any]:
    options: dict[str, Any] = {"tls": True} if values.tls or values.tls_ca_file else {}
    if values.tls_ca_file:
        options["tlsCAFile"] = str(values.tls_ca_file)
    return options


def _launchpad(values: SiteValues) -> dict[str, Any]:
    return {
        "host": values.host,
        "port": values.port,
        "name": values.database,
        "username": values.user,
        "password": values.password,
        "authsource": values.source,
        "mongoclient_kwargs": _client(values),
        "logdir": None,
        "strm_lvl": "WARNING",
        # Also for `lpad tuneup`; `defect-mf setup` builds these and more.
        "user_indices": [fields[0] for fields in FIREWORKS if len(fields) == 1],
        "wf_user_indices": [fields[0] for fields in WORKFLOWS if len(fields) == 1],
    }


def _jobflow(values: SiteValues) -> dict[str, Any]:
    def place(kind: str, collection: str) -> dict[str, Any]:
        return {
            "type": kind,
            "host": values.host,
            "port": values.port,
            "database": values.database,
            "collection_name": collection,
            "username": values.user,
            "password": values.password,
            "auth_source": values.source,
            "mongoclient_kwargs": _client(values),
        }

    blobs = place("GridFSStore", BLOBS)
    return {
        "JOB_STORE": {"docs_store": place("MongoStore", DOCS), "additional_stores": {"data": blobs}}
    }


def _fworker(name: str, category: str | list[str]) -> dict[str, Any]:
    return {"name": name, "category": category, "query": "{}", "env": {}}


def _qadapter(values: SiteValues, fworker: str) -> dict[str, Any]:
    gpu = fworker == GPU_FWORKER_FILE
    words = [values.command, "worker", "--site", str(values.folder), "--fworker", fworker]
    return {
        "_fw_name": "CommonAdapter",
        "_fw_q_type": "SLURM",
        "rocket_launch": f"exec {shlex.join([*words, 'singleshot'])}",
        "nodes": 1,
        "ntasks": 1,
        "cpus_per_task": 1,
        "gpus_per_node": 1 if gpu else None,
        "walltime": "24:00:00",
        "queue": values.gpu_queue if gpu else values.cpu_queue,
        "account": values.account,
        "job_name": None,
        "logdir": None,
        "pre_rocket": None,
        "post_rocket": None,
    }


def _fireworks(values: SiteValues) -> dict[str, Any]:
    return {
        "LAUNCHPAD_LOC": str(values.folder / LAUNCHPAD_FILE),
        "FWORKER_LOC": str(values.folder / FWORKER_FILE),
        "QUEUEADAPTER_LOC": str(values.folder / QADAPTER_FILE),
        "WFLOCK_EXPIRATION_SECS": 120,
        "WFLOCK_EXPIRATION_KILL": True,
        "PING_TIME_SECS": 300,
        "RUN_EXPIRATION_SECS": 3600,
        "RAPIDFIRE_SLEEP_SECS": 10,
        "PRINT_FW_JSON": False,
    }


def _settings(values: SiteValues) -> dict[str, Any]:
    routing = Routing()
    shown = {
        name: _resources(getattr(routing, name))
        for name in ("bookkeeping", "reference", "training", "search")
    }
    for name, queue in (
        ("bookkeeping", values.cpu_queue),
        ("reference", values.cpu_queue),
        ("training", values.gpu_queue),
        ("search", values.gpu_queue),
    ):
        shown[name] |= {"queue": queue, "account": values.account}
    return {
        "scratch": str(values.folder / "scratch"),
        "training_threads": None,
        "routing": {**shown, "fidelities": {}},
    }


def _resources(resources: Resources) -> dict[str, Any]:
    return resources.model_dump(mode="json")


# -- texts -----------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Lists of words on one line."""


_Dumper.add_representer(
    list, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, True)
)


def _text(header: str, content: dict[str, Any]) -> str:
    comments = "".join(f"# {line}\n" for line in header.strip().splitlines())
    return comments + yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000
    )


_LAUNCHPAD = """
LaunchPad of a site: the MongoDB server that holds workflows. Copy and fill in, or let
`defect-mf init DIR` write it. The password comes from DEFECT_MF_PASSWORD, or stands here and
the file has mode 600. authsource is the database that holds the user; null: the same database.
"""
_FWORKER = """
Worker of the CPU nodes: reference calculations and bookkeeping. Needs no torch.
"""
_GPU_FWORKER = """
Worker of the GPU node: training and surrogate search. Needs no reference engine.
"""
_QADAPTER = """
Slurm, CPU nodes: `qlaunch -r -c SITE rapidfire`, one queue job per job of a campaign.
Walltime, cores and memory come from `routing` in defect_mf.yaml, over the values here.
"exec": Slurm kills what is left as soon as the batch script ends, and a shell ends on the
signal of a walltime before the worker has given its job back.
"""
_GPU_QADAPTER = """
Slurm, GPU nodes: `qlaunch -r -c SITE -w SITE/my_gpu_fworker.yaml -q SITE/my_gpu_qadapter.yaml
rapidfire`. Walltime, cores, memory and GPUs come from `routing` in defect_mf.yaml.
"exec": Slurm kills what is left as soon as the batch script ends, and a shell ends on the
signal of a walltime before the worker has given its job back.
"""
_JOBFLOW = """
Job store of a site: documents in MongoDB, arrays and files in GridFS. Name the file in
JOBFLOW_CONFIG_FILE to read the store with jobflow itself. Password as in my_launchpad.yaml.
"""
_FIREWORKS = """
Settings of FireWorks; name the file in FW_CONFIG_FILE for `lpad` and `qlaunch`. A workflow's
lock that a killed process left is taken over after WFLOCK_EXPIRATION_SECS, which is longer than
any honest holder needs. RUN_EXPIRATION_SECS without a ping and `lpad detect_lostruns` names a job.
"""
_SETTINGS = """
Settings of a site. `routing` says which worker takes which kind of job and what the job asks of
the queue (null: what the queue adapter's file says). `fidelities` gives single fidelities of a
campaign other limits, for example hse: {category: dft, walltime: '48:00:00', nodes: 4}.
"""
