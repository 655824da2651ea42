"""Where the local runner keeps its things inside a campaign's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DATABASE = "defect_mf"


@dataclass(frozen=True)
class Layout:
    """Paths below one campaign folder.

    Parameters
    ----------
    folder
        The campaign's folder, absolute.
    """

    folder: Path

    @classmethod
    def of(cls, folder: Path | str) -> Layout:
        """Return the layout of a folder given in any form."""
        return cls(Path(folder).expanduser().resolve())

    @property
    def server(self) -> Path:
        """Everything of the private server: data, log, locks, generated settings."""
        return self.folder / "server"

    @property
    def data(self) -> Path:
        """The database files of mongod."""
        return self.server / "data"

    @property
    def folder_lock(self) -> Path:
        """Held by the one process that may start a server here."""
        return self.server / "lock"

    @property
    def workflow_lock(self) -> Path:
        """Held by the one process that is rewriting a workflow."""
        return self.server / "workflow.lock"

    @property
    def jobflow_config(self) -> Path:
        """The jobflow settings that the workers read."""
        return self.server / "jobflow.yaml"

    @property
    def launches(self) -> Path:
        """Working folders of the jobs."""
        return self.folder / "launches"

    @property
    def logs(self) -> Path:
        """One log file per worker."""
        return self.folder / "logs"

    def worker_log(self, worker_name: str) -> Path:
        """Return the log of a worker; ``worker-1.3fa9`` writes ``worker-1.log``."""
        return self.logs / f"{worker_name.partition('.')[0]}.log"

    def make(self) -> None:
        """Create the folders, the server's one closed to other users."""
        for path in (self.folder, self.launches, self.logs):
            path.mkdir(parents=True, exist_ok=True)
        self.server.mkdir(mode=0o700, exist_ok=True)
