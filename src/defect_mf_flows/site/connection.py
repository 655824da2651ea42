"""The folder that describes a site, and connections to its LaunchPad and job store."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fireworks import FWorker
from jobflow import JobStore
from pymongo.errors import PyMongoError

from defect_mf_flows.errors import SiteError
from defect_mf_flows.launchpad.patience import CLIENT_OPTIONS, WORKER_PATIENCE, PatientJobStore
from defect_mf_flows.site.fworkers import checked_fworker
from defect_mf_flows.site.launchpad import SiteLaunchPad, SiteWorkerLaunchPad
from defect_mf_flows.site.schema import refuse_other_schema
from defect_mf_flows.site.secrets import (
    PASSWORD_VARIABLE,
    read_yaml,
    without_passwords,
)
from defect_mf_flows.site.trouble import explain

LAUNCHPAD_FILE = "my_launchpad.yaml"
FWORKER_FILE = "my_fworker.yaml"
GPU_FWORKER_FILE = "my_gpu_fworker.yaml"
QADAPTER_FILE = "my_qadapter.yaml"
GPU_QADAPTER_FILE = "my_gpu_qadapter.yaml"
JOBFLOW_FILE = "jobflow.yaml"
SETTINGS_FILE = "defect_mf.yaml"
FIREWORKS_FILE = "FW_config.yaml"

CLIENT_PATIENCE = 5.0


@dataclass(frozen=True)
class Login:
    """Who connects, where it is not the user that the site's files name.

    Attributes
    ----------
    user, password
        The password is not shown.
    source
        Database that holds the user.
    """

    user: str
    password: str = field(repr=False)
    source: str = "admin"


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

    @property
    def fireworks_config(self) -> Path:
        """Settings of FireWorks, for FW_CONFIG_FILE."""
        return self.folder / FIREWORKS_FILE

    def launchpad(self, *, worker: bool = False, login: Login | None = None) -> SiteLaunchPad:
        """Connect to the LaunchPad.

        Parameters
        ----------
        worker
            Whether for a worker, which waits for a server that is away.
        login
            Instead of the user that the file names.

        Returns
        -------
        SiteLaunchPad
            Not yet used: a wrong password shows at the first call.
        """
        content = self.read(LAUNCHPAD_FILE)
        if login is None:
            content["password"] = self._password(content)
        else:
            content |= {"username": login.user, "password": login.password}
            content["authsource"] = login.source
        content["strm_lvl"] = content.get("strm_lvl") or "WARNING"
        content["mongoclient_kwargs"] = _client(content.get("mongoclient_kwargs"), worker)
        kind = SiteWorkerLaunchPad if worker else SiteLaunchPad
        try:
            return kind(**content)
        except (TypeError, ValueError, PyMongoError) as error:
            raise self._wrong(LAUNCHPAD_FILE, content, error) from None

    def store(self, *, worker: bool = False, login: Login | None = None) -> JobStore:
        """Return the job store.

        Parameters
        ----------
        worker
            Whether for a worker, which waits for a server that is away.
        login
            Instead of the user that the file names.

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
        try:
            for place in (spec["docs_store"], *spec.get("additional_stores", {}).values()):
                if login is not None:
                    place |= {"username": login.user, "password": login.password}
                    place["auth_source"] = login.source
                elif place.get("username"):
                    place["password"] = self._password(place)
                place["mongoclient_kwargs"] = _client(place.get("mongoclient_kwargs"), worker)
            return (PatientJobStore if worker else JobStore).from_dict_spec(spec)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._wrong(JOBFLOW_FILE, content, error) from None

    def check(self, *, patient: bool = False) -> None:
        """Refuse to begin with a database that cannot be reached or is of another version.

        Parameters
        ----------
        patient
            Whether a server that is away may come back, as for a job that a queue has started.

        Raises
        ------
        SiteError
            Unreachable, a wrong password, or never set up.
        VersionError
            Of another version of this package's documents.
        """
        launchpad = self.launchpad(worker=patient)
        try:
            refuse_other_schema(launchpad)
        except PyMongoError as error:
            raise explain(error, self.folder) from None
        finally:
            launchpad.connection.close()

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
        return checked_fworker(self.folder / name, self.read(name))

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
        return read_yaml(self.folder / name)

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

    def _wrong(self, name: str, content: dict[str, Any], error: Exception) -> SiteError:
        message = without_passwords(str(error), content)
        return SiteError(f"{self.folder / name}: {message}; correct it.")


def _client(given: dict[str, Any] | None, worker: bool) -> dict[str, Any]:
    patience = WORKER_PATIENCE if worker else CLIENT_PATIENCE
    wait = {"serverSelectionTimeoutMS": int(1000 * patience)}
    return {**CLIENT_OPTIONS, **wait, **(given or {})}
