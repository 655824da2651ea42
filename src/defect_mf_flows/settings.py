"""Settings of one machine: folders, threads, devices. From DEFECT_MF_* variables or a YAML file."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from defect_mf_flows.errors import CampaignError
from defect_mf_flows.schemas.routing import Routing

CONFIG_VARIABLE = "DEFECT_MF_CONFIG_FILE"


class Settings(BaseSettings):
    """Settings of one machine.

    Attributes
    ----------
    scratch
        Folder for training runs and model files; a killed training continues from here.
    mongod
        mongod to start for ``defect-mf run``; None: the one on PATH, else the wheel's.
    workers
        Worker processes of ``defect-mf run``; None: one per core.
    training_threads
        Threads of a training run; None: half the cores. Threads that wait for a core that
        other work holds make a training many times slower.
    search_processes
        Single-thread processes in which a search job relaxes structures on a CPU; None: one per
        core that the job may use. ``defect-mf run`` starts a worker per core, each of which may
        have a search job, and gives every job its share: one process where it is not set.
    vasp_cmd, vasp_gamma_cmd, vasp_ncl_cmd
        Commands for VASP: standard, Gamma-only (used where the grid is Gamma) and non-collinear.
    cp2k_cmd
        Command for CP2K, ``mpirun -np 4 cp2k.psmp`` for example; ``-s`` is added to it.
    vasp_walltime
        Seconds that a job with VASP may take from its own start, but not longer than its Slurm
        allocation; None: until the end of that, or without limit. VASP is asked to stop
        ``vasp_buffer`` seconds earlier and continues later.
    vasp_poll
        Seconds between custodian's looks at a running VASP; handlers check every sixth time.
    vasp_frozen
        Seconds without output after which VASP is taken for dead.
    routing
        Workers and queue limits per kind of job, for campaigns submitted to a LaunchPad.
    """

    model_config = SettingsConfigDict(env_prefix="DEFECT_MF_", extra="ignore")

    scratch: Path = Field(default_factory=lambda: Path.cwd() / "defect-mf-scratch")
    mongod: str | None = None
    workers: int | None = Field(default=None, ge=1)
    training_threads: int | None = Field(default=None, ge=1)
    search_processes: int | None = Field(default=None, ge=1)
    vasp_cmd: str = "vasp_std"
    vasp_gamma_cmd: str = "vasp_gam"
    vasp_ncl_cmd: str = "vasp_ncl"
    cp2k_cmd: str = "cp2k.psmp"
    vasp_walltime: int | None = Field(default=None, ge=60)
    vasp_buffer: int = Field(default=600, ge=0)
    vasp_poll: float = Field(default=10.0, gt=0)
    vasp_frozen: int = Field(default=21_600, ge=60)
    routing: Routing = Field(default_factory=Routing)

    @property
    def threads(self) -> int:
        """Threads of a training run."""
        return self.training_threads or max(1, available_cores() // 2)

    @property
    def relax_processes(self) -> int:
        """Processes in which a search job relaxes structures on a CPU."""
        return self.search_processes or available_cores()


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Settings from the environment, over those of the YAML file it names.

    Raises
    ------
    CampaignError
        If the file is missing, unreadable, or has an unknown key or an unusable value.
    """
    name = os.environ.get(CONFIG_VARIABLE)
    if name and not Path(name).is_file():
        raise CampaignError(f"{CONFIG_VARIABLE}={name}: no such file; unset or correct it.")
    return read_settings(Path(name) if name else None)


def read_settings(path: Path | None) -> Settings:
    """Settings from the environment, over those of a YAML file.

    Parameters
    ----------
    path
        The file; without one, or if it does not exist, only the environment counts.

    Raises
    ------
    CampaignError
        If the file is unreadable, or has an unknown key or an unusable value.
    """
    content = _content(path) if path is not None and path.is_file() else {}
    given = {key: content[key] for key in content if f"DEFECT_MF_{key.upper()}" not in os.environ}
    try:
        return Settings(**given)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']} (got {item['input']!r})"
            for item in error.errors()
        )
        raise CampaignError(
            f"{path or 'settings of this machine'}: {faults}; correct them."
        ) from None


def _content(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except Exception as error:
        raise CampaignError(f"{path}: not readable as YAML: {error}") from None
    if not isinstance(content, dict):
        raise CampaignError(f"{path}: must be a mapping of settings to values.")
    unknown = sorted(set(content) - set(Settings.model_fields))
    if unknown:
        known = sorted(Settings.model_fields)
        raise CampaignError(f"{path}: unknown keys {unknown}; known are {known}.")
    return content
