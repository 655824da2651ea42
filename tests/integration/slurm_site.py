"""A site on a Slurm cluster: its files, its database, and a qlaunch loop per kind of worker."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from slurm_cluster import SlurmCluster

from defect_mf_flows.campaign import campaign_hash, load_campaign
from defect_mf_flows.results import CampaignResults
from defect_mf_flows.schemas.results import Results
from defect_mf_flows.site.connection import Site

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
FILES = (
    "my_launchpad.yaml",
    "my_fworker.yaml",
    "my_gpu_fworker.yaml",
    "my_qadapter.yaml",
    "my_gpu_qadapter.yaml",
    "jobflow.yaml",
)
#: Every kind of job has limits of its own, so that a mix-up shows.
ROUTING: dict[str, dict[str, Any]] = {
    "bookkeeping": {"category": "dft", "walltime": "00:11:00", "cpus_per_task": 1},
    "reference": {"category": "dft", "walltime": "00:12:00", "cpus_per_task": 1},
    "fidelities": {
        "gfn2": {"category": "dft", "walltime": "00:13:00", "cpus_per_task": 2, "mem": "512M"}
    },
    "training": {"category": "train", "walltime": "00:14:00", "cpus_per_task": 1, "gpus": 1},
    "search": {"category": "search", "walltime": "00:15:00", "cpus_per_task": 1, "gpus": 1},
}
LAUNCHERS = {
    "cpu": ("my_fworker.yaml", "my_qadapter.yaml"),
    "gpu": ("my_gpu_fworker.yaml", "my_gpu_qadapter.yaml"),
}
UNFINISHED = {"READY", "RUNNING", "RESERVED"}


class SlurmSite:
    """A site's folder, filled in from the files at the repository's top."""

    def __init__(self, folder: Path, cluster: SlurmCluster, port: int) -> None:
        self.folder, self.cluster = folder, cluster
        folder.mkdir()
        for name in FILES:
            content = yaml.safe_load((ROOT / name).read_text())
            (folder / name).write_text(yaml.safe_dump(self._filled(content, port)))
        settings = {
            "scratch": str(folder / "scratch"),
            "training_threads": 1,
            "routing": ROUTING,
        }
        (folder / "defect_mf.yaml").write_text(yaml.safe_dump(settings))
        # Of FireWorks' five seconds between submissions a real queue needs some, this one none.
        fast = {"QUEUE_UPDATE_INTERVAL": 0, "RAPIDFIRE_SLEEP_SECS": 1}
        (folder / "FW_config.yaml").write_text(yaml.safe_dump(fast))
        self.env = {
            **cluster.env,
            "OMP_NUM_THREADS": "1",
            "FW_CONFIG_FILE": str(folder / "FW_config.yaml"),
        }
        self.site = Site.of(folder)
        self.launchpad = self.site.launchpad()
        self.launchpad.reset("", require_password=False)
        self._launchers: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> SlurmSite:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._launchers:
            process.kill()
            process.wait()

    def submit(self, campaign: Path) -> str:
        """``defect-mf submit``; returns the campaign's key."""
        command = [str(BIN / "defect-mf"), "submit", str(campaign), "--site", str(self.folder)]
        done = subprocess.run(command, capture_output=True, text=True, env=self.env, check=False)
        assert done.returncode == 0, done.stderr
        return campaign_hash(*load_campaign(campaign))

    def launch(self) -> None:
        """Start a ``qlaunch`` loop per kind of worker."""
        for kind, (fworker, qadapter) in LAUNCHERS.items():
            place = self.folder / f"launches-{kind}"
            place.mkdir()
            command = [str(BIN / "qlaunch"), "-r", "-l", "my_launchpad.yaml"]
            command += ["-w", fworker, "-q", qadapter, "--launch_dir", str(place)]
            command += ["rapidfire", "--nlaunches", "infinite", "--sleep", "1", "-m", "6"]
            with (self.folder / f"qlaunch-{kind}.log").open("wb") as log:
                self._launchers.append(
                    subprocess.Popen(command, cwd=self.folder, env=self.env, stdout=log, stderr=log)
                )

    def finish(self, seconds: float) -> None:
        """Wait until nothing is left to run."""
        deadline = time.monotonic() + seconds
        while UNFINISHED & (states := self.states()):
            assert time.monotonic() < deadline, f"unfinished: {states}\n{self.logs()}"
            self.check()
            time.sleep(1)
        assert states == {"COMPLETED"}, f"{states}\n{self.logs()}"

    def check(self) -> None:
        """Fail when a qlaunch has ended."""
        ended = [process.args for process in self._launchers if process.poll() is not None]
        assert not ended, f"{ended}\n{self.logs()}"

    def states(self) -> set[str]:
        """States that jobs have."""
        return set(self.launchpad.fireworks.distinct("state"))

    def jobs(self, query: dict[str, Any]) -> list[dict[str, Any]]:
        """Documents of jobs."""
        return list(self.launchpad.fireworks.find(query, sort=[("fw_id", 1)]))

    def launches(self, job: dict[str, Any]) -> list[dict[str, Any]]:
        """All starts of a job, those that were lost included, oldest first."""
        ids = [*job.get("archived_launches", []), *job["launches"]]
        return list(
            self.launchpad.launches.find({"launch_id": {"$in": ids}}, sort=[("launch_id", 1)])
        )

    def queue_job(self, launch: dict[str, Any]) -> str:
        """Slurm's id of a start."""
        found = [s["reservation_id"] for s in launch["state_history"] if s.get("reservation_id")]
        assert found, f"launch {launch['launch_id']} did not go through the queue"
        return str(found[-1])

    def results(self, key: str) -> Results:
        """The campaign's results."""
        return self.api(key).results()

    def api(self, key: str) -> CampaignResults:
        """Query API of a campaign."""
        store = self.site.store()
        store.connect()
        return CampaignResults(store, campaign_hash=key)

    def logs(self) -> str:
        """Ends of the logs of qlaunch and of the last jobs."""
        newest = sorted(self.folder.rglob("*.error"), key=lambda path: path.stat().st_mtime)[-4:]
        paths = [*self.folder.glob("qlaunch-*.log"), *newest]
        return "\n".join(f"--- {path}\n{path.read_text()[-2000:]}" for path in paths)

    def _filled(self, content: Any, port: int) -> Any:
        """Fill in what ``defect-mf init`` would."""
        if isinstance(content, list):
            return [self._filled(item, port) for item in content]
        if not isinstance(content, dict):
            return content
        filled = {key: self._filled(value, port) for key, value in content.items()}
        if "port" in filled:
            database = "name" if "logdir" in filled else "database"
            filled |= {"host": "127.0.0.1", "port": port, database: self.folder.name}
        if "rocket_launch" in filled:
            line = filled["rocket_launch"].replace("/path/to/site", str(self.folder))
            filled["rocket_launch"] = line.replace("defect-mf ", f"{BIN / 'defect-mf'} ", 1)
        return filled
