"""A site in a temporary folder: real mongod behind a network that can be cut, real workers."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from fireworks import LaunchPad
from jobflow import JobStore

from defect_mf_flows.launchpad.failures import lost_connection, stacktrace
from defect_mf_flows.launchpad.indexes import ensure_indexes
from defect_mf_flows.launchpad.progress import Progress, workflow_progress
from defect_mf_flows.local.mongod import PrivateMongod
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.site.connection import Site
from defect_mf_flows.site.losses import Cause
from defect_mf_flows.site.recovery import give_back

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent
FILES = ("my_launchpad.yaml", "my_fworker.yaml", "my_gpu_fworker.yaml", "jobflow.yaml")
LIMIT = 1200


class Network:
    """Forwards a port to the server's; can be cut, and refuses connections while it is."""

    def __init__(self, target: int) -> None:
        self.target = target
        self._sockets: set[socket.socket] = set()
        self._guard = threading.Lock()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.mend()

    def mend(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._guard:
            sockets, self._sockets = self._sockets, set()
        for item in sockets:
            with suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)
            item.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            with self._guard:
                self._sockets |= {client, server}
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for item in (source, sink):
            with suppress(OSError):
                item.shutdown(socket.SHUT_RDWR)
        with self._guard:
            self._sockets -= {source, sink}


class FaultySite:
    """Runs one campaign to its end, doing to it what the faults ask for.

    Parameters
    ----------
    folder
        Empty.
    server
        Running.
    faults
        For ``sitecustomize``.
    """

    def __init__(self, folder: Path, server: PrivateMongod, faults: list[dict[str, Any]]) -> None:
        self.folder, self.server = folder, server
        self.network = Network(server.port)
        (folder / "faults.json").write_text(json.dumps(faults))
        self.direct = self._site("direct", server.port)
        self.site = self._site("site", self.network.port)
        self.launchpad: LaunchPad = self.direct.launchpad()
        self.launchpad.reset("", require_password=False)
        self.store: JobStore = self.direct.store()
        self.store.connect()
        ensure_indexes(self.store)
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.exits: list[int] = []
        self.reconnected = 0
        self.key = ""

    def _site(self, name: str, port: int) -> Site:
        place = self.folder / name
        place.mkdir()
        for file in FILES:
            text = (ROOT / file).read_text().replace("27017", str(port))
            (place / file).write_text(text.replace("localhost", "127.0.0.1"))
        settings = {"scratch": str(self.folder / "scratch"), "training_threads": 1}
        (place / "defect_mf.yaml").write_text(yaml.safe_dump(settings))
        return Site.of(place)

    # -- processes -----------------------------------------------------------------------

    def submit(self, campaign: Path) -> None:
        command = [sys.executable, "-m", "defect_mf_flows.cli", "submit", str(campaign)]
        subprocess.run([*command, "--site", str(self.site.folder)], check=True, cwd=self.folder)
        self.key = self.launchpad.workflows.find_one({})["metadata"]["campaign_hash"]

    def start(self, kind: str) -> None:
        path = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(path),
            "FAULTS_FILE": str(self.folder / "faults.json"),
        }
        command = [sys.executable, "-m", "defect_mf_flows.cli", "worker"]
        command += ["--site", str(self.site.folder), "--fworker", kind]
        command += ["--idle", "0.3", "--linger", "600", "rapidfire"]
        place = self.folder / kind.removesuffix(".yaml")
        place.mkdir(exist_ok=True)
        with (self.folder / f"{kind}.log").open("ab") as log:
            self.workers[kind] = subprocess.Popen(
                command, cwd=place, env=env, stdout=log, stderr=log, start_new_session=True
            )

    def stop(self) -> None:
        for process in self.workers.values():
            process.terminate()
        for process in self.workers.values():
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.network.cut()

    def finish(self) -> Progress:
        """Do as a queue and an operator do, until nothing is left to run."""
        for kind in FILES[1:3]:
            self.start(kind)
        deadline = time.monotonic() + LIMIT
        while True:
            self._serve_requests()
            self._replace_workers()
            progress = workflow_progress(self.launchpad, self.key)
            if not progress.active and not self._retry(progress):
                return progress
            assert time.monotonic() < deadline, f"{progress.states}\n{self.logs()[-6000:]}"
            time.sleep(0.1)

    def _replace_workers(self) -> None:
        """The queue starts a new worker where one has ended."""
        for kind, process in list(self.workers.items()):
            if process.poll() is None:
                continue
            self.exits.append(process.returncode)
            if process.returncode == -signal.SIGKILL:  # it could not give its job back
                give_back_of_dead(self.launchpad, process.pid)
            self.start(kind)

    def _serve_requests(self) -> None:
        for what in ("server", "network"):
            request = self.folder / f"please-{what}"
            if not request.exists():
                continue
            if what == "server":
                os.kill(self.server.pid, signal.SIGKILL)
                request.unlink()
                time.sleep(2)
                self.server.ensure_running()
            else:
                self.network.cut()
                request.unlink()
                time.sleep(12)
                self.network.mend()

    def _retry(self, progress: Progress) -> bool:
        """What ``retry`` does with jobs that failed for want of a connection."""
        lost = [i for i in progress.failed_ids if lost_connection(stacktrace(self.launchpad, i)[0])]
        for fw_id in lost:
            self.launchpad.rerun_fw(fw_id)
        self.reconnected += len(lost)
        return bool(lost)

    # -- what came of it -----------------------------------------------------------------

    def done(self) -> int:
        """How many of the faults have happened."""
        return len(list(self.folder.glob("done-*")))

    def logs(self) -> str:
        return "".join(path.read_text(errors="replace") for path in self.folder.glob("*.log"))

    def calculations(self) -> dict[tuple[Any, ...], Calculation]:
        """Every stored calculation with its frames; two of one kind are a failure."""
        found: dict[tuple[Any, ...], Calculation] = {}
        for document in self.store.query({"output.@class": "Calculation"}, load=True):
            content = {k: v for k, v in document["output"].items() if not k.startswith("@")}
            calculation = Calculation.model_validate(content)
            key = (
                calculation.defect,
                calculation.charge,
                calculation.start,
                calculation.fidelity,
                calculation.kind.value,
            )
            assert key not in found, f"{key} is stored twice"
            found[key] = calculation
        return found


def give_back_of_dead(launchpad: LaunchPad, pid: int) -> None:
    """What an operator's recovery does for a node that went down."""
    suffix = f"@{socket.gethostname()}.{pid}"
    names = launchpad.launches.distinct("fworker.name", {"state": {"$in": ["RUNNING", "RESERVED"]}})
    for name in names:
        if not name.endswith(suffix):
            continue
        give_back(launchpad, name, Cause.VANISHED)


@contextmanager
def faulty_site(folder: Path, faults: list[dict[str, Any]]) -> Iterator[FaultySite]:
    """Start a server and a site around it; end everything afterwards."""
    (folder / "mongo").mkdir(parents=True)
    with PrivateMongod(folder / "mongo" / "data") as server:
        site = FaultySite(folder, server, faults)
        try:
            yield site
        finally:
            site.stop()
