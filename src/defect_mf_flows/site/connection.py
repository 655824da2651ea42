"""The folder that describes a site, and connections to its LaunchPad and job store."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from fireworks import FWorker, LaunchPad
from jobflow import JobStore

from defect_mf_flows.errors import SiteError
from defect_mf_flows.launchpad.patience import CLIENT_OPTIONS, WORKER_PATIENCE, PatientMixin

LAUNCHPAD_FILE = "my_launchpad.yaml"
FWORKER_FILE = "my_fworker.yaml"
GPU_FWORKER_FILE = "my_gpu_fworker.yaml"
QADAPTER_FILE = "my_qadapter.yaml"
JOBFLOW_FILE = "jobflow.yaml"
SETTINGS_FILE = "defect_mf.yaml"
FIREWORKS_FILE = "FW_config.yaml"

PASSWORD_VARIABLE = "DEFECT_MF_PASSWORD"
CLIENT_PATIENCE = 5.0


class SiteWorkerLaunchPad(PatientMixin, LaunchPad):
    """The LaunchPad of a site's worker."""


@dataclass(frozen=True)
class Site:
    """A folder with the files of a site, as ``defect-mf init`` writes them.

    Parameters
    ----------
    folder
        Absolute path.
    """

    folder: Path

    @classmethod
    def of(cls, folder: Path | str) -> Site:
        """Return the site of a folder.

        Raises
        ------
        SiteError
            If the folder holds no ``my_launchpad.yaml``.
        """
        path = Path(folder).expanduser().resolve()
        if not (path / LAUNCHPAD_FILE).is_file():
            raise SiteError(
                f"{path} holds no {LAUNCHPAD_FILE}; write a site's files with "
                f"`defect-mf init {folder}`, or name the folder that has them with --site."
            )
        return cls(path)

    @property
    def settings(self) -> Path:
        """Settings of this machine, for DEFECT_MF_CONFIG_FILE."""
        return self.folder / SETTINGS_FILE

    @property
    def jobflow_config(self) -> Path:
        """Settings of jobflow: the job store."""
        return self.folder / JOBFLOW_FILE

    def launchpad(self, *, worker: bool = False) -> LaunchPad:
        """Connect to the LaunchPad.

        Parameters
        ----------
        worker
            Whether for a worker, which waits for a server that is away.

        Returns
        -------
        LaunchPad
            Not yet used: a wrong password shows at the first call.
        """
        content = self.read(LAUNCHPAD_FILE)
        content["password"] = self._password(content)
        content["strm_lvl"] = content.get("strm_lvl") or "WARNING"
        content["mongoclient_kwargs"] = self._client(content.get("mongoclient_kwargs"), worker)
        kind = SiteWorkerLaunchPad if worker else LaunchPad
        try:
            return kind(**content)
        except (TypeError, ValueError) as error:
            raise SiteError(f"{self.folder / LAUNCHPAD_FILE}: {error}; correct it.") from None

    def store(self, *, worker: bool = False) -> JobStore:
        """Return the job store.

        Parameters
        ----------
        worker
            Whether for a worker, which waits for a server that is away.

        Returns
        -------
        JobStore
            Not yet connected.
        """
        content = self.read(JOBFLOW_FILE)
        spec = content.get("JOB_STORE")
        if not isinstance(spec, dict) or "docs_store" not in spec:
            raise SiteError(
                f"{self.jobflow_config}: JOB_STORE.docs_store is missing; `defect-mf init` writes "
                "a complete file."
            )
        for place in (spec["docs_store"], *spec.get("additional_stores", {}).values()):
            if place.get("username"):
                place["password"] = self._password(place)
            place["mongoclient_kwargs"] = self._client(place.get("mongoclient_kwargs"), worker)
        return JobStore.from_dict_spec(spec)

    def fworker(self, name: str = FWORKER_FILE) -> FWorker:
        """Read a worker's file.

        Parameters
        ----------
        name
            File in the site's folder, or any path.

        Returns
        -------
        FWorker
            With its categories.
        """
        content = self.read(name)
        content.setdefault("query", "{}")
        content.setdefault("category", "")
        try:
            return FWorker.from_dict(content)
        except (KeyError, ValueError) as error:
            raise SiteError(f"{self.folder / name}: {error}; correct it.") from None

    def read(self, name: str) -> dict[str, Any]:
        """Read one of the site's YAML files.

        Parameters
        ----------
        name
            File in the site's folder, or any path.

        Returns
        -------
        dict
            Its content.

        Raises
        ------
        SiteError
            If it is missing, unreadable, no mapping, or holds a password that others may read.
        """
        path = self.folder / name
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise SiteError(f"{path}: not readable: {error}; correct or replace it.") from None
        if not isinstance(content, dict):
            raise SiteError(f"{path}: must be a mapping; `defect-mf init` writes such a file.")
        if _holds_password(content) and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SiteError(f"{path} holds a password and others may read it; chmod 600 {path}.")
        return content

    def _password(self, content: dict[str, Any]) -> str | None:
        if not content.get("username"):
            return None
        password = os.environ.get(PASSWORD_VARIABLE) or content.get("password")
        if not password:
            raise SiteError(
                f"{self.folder}: a user name but no password; set {PASSWORD_VARIABLE}, or write "
                "it into the file and chmod 600 it."
            )
        return str(password)

    def _client(self, given: dict[str, Any] | None, worker: bool) -> dict[str, Any]:
        patience = WORKER_PATIENCE if worker else CLIENT_PATIENCE
        wait = {"serverSelectionTimeoutMS": int(1000 * patience)}
        return {**CLIENT_OPTIONS, **wait, **(given or {})}


def _holds_password(content: Any) -> bool:
    if isinstance(content, dict):
        return any((k == "password" and v) or _holds_password(v) for k, v in content.items())
    return isinstance(content, list) and any(_holds_password(item) for item in content)
