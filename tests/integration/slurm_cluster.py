"""A Slurm cluster of one node in a temporary folder: munged, slurmctld, slurmd, two partitions."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")
SYSTEM_PATH = "/usr/sbin:/sbin"
PARTITIONS = ("cpu", "gpu")
NODE = "node0"


def why_not() -> str | None:
    """Why no cluster can be started here, or None."""
    if not sys.platform.startswith("linux"):
        return "Slurm needs Linux"
    if os.geteuid() != 0:
        return "slurmd runs jobs for others and must be started as root; this is another user"
    path = f"{os.environ['PATH']}:{SYSTEM_PATH}"
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if missing:
        return f"{', '.join(missing)} not installed; tests/integration/install_slurm.sh does it"
    return None


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Wait for a condition; its absence is a failure that says what was waited for."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)


class SlurmCluster:
    """One node with partitions ``cpu`` and ``gpu``; everything in one folder, gone afterwards.

    Not in pytest's folder: munged refuses folders that its own user cannot enter.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.folder.chmod(0o755)
        self.path = f"{os.environ['PATH']}:{SYSTEM_PATH}"
        self.conf = self.folder / "slurm.conf"
        self.env = {**os.environ, "SLURM_CONF": str(self.conf), "PATH": self.path}
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> SlurmCluster:
        try:
            self._configure()
            self._start_munged()
            self._start("slurmctld", "-D", "-i")
            self.start_slurmd()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    # -- daemons -----------------------------------------------------------------------

    def start_slurmd(self) -> None:
        """Start the node's daemon and wait until the node takes jobs."""
        self._start("slurmd", "-D", "-N", NODE)

        def ready() -> bool:
            done = self._ask("sinfo", "-h", "-N", "-o", "%t", check=False)
            return done.split()[:1] in (["idle"], ["mix"], ["alloc"])

        wait_until(lambda: self._alive() and ready(), 60, f"a ready node\n{self.logs()}")

    def crash_node(self, job: str) -> None:
        """Kill slurmd, the job's step and all its processes at once, as a crash does."""
        daemon = self._daemons.pop("slurmd")
        doomed = [psutil.Process(daemon.pid), *self.processes(job)]
        for process in doomed:
            process.suspend()  # so that none of them sees the end of another
        for process in doomed:
            process.kill()
        daemon.wait()
        wait_until(lambda: not any(map(_lives, doomed)), 10, "the end of the job's processes")

    def stop(self) -> None:
        """End jobs and daemons, and remove the folder."""
        if "slurmctld" in self._daemons:
            subprocess.run(["scancel", "--user=root"], env=self.env, check=False)
            deadline = time.monotonic() + 20
            while self._ask("squeue", "-h", check=False) and time.monotonic() < deadline:
                time.sleep(0.2)
        for process in self._step_processes():
            process.kill()
        for daemon in reversed(list(self._daemons.values())):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(timeout=15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._daemons.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, name: str, *arguments: str) -> None:
        log = (self.folder / f"{name}.out").open("ab")
        command = [shutil.which(name, path=self.path) or name, *arguments]
        if name != "munged":
            command += ["-f", str(self.conf)]
        user = "munge" if name == "munged" else None
        with log:
            self._daemons[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env,
                user=user, group=user, extra_groups=[] if user else None,
            )  # fmt: skip

    def _start_munged(self) -> None:
        place = self.folder / "munge"
        place.mkdir(mode=0o755)
        key = place / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        for path in (place, key):
            shutil.chown(path, "munge", "munge")
        names = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={place / name}" for option, name in names.items()]
        self._start("munged", "--foreground", f"--key-file={key}", *options)
        wait_until(lambda: (place / "socket").exists(), 20, f"munged\n{self.logs()}")

    def _alive(self) -> bool:
        dead = {name: p.returncode for name, p in self._daemons.items() if p.poll() is not None}
        assert not dead, f"daemons ended: {dead}\n{self.logs()}"
        return True

    def logs(self) -> str:
        """The ends of all logs."""
        paths = [*self.folder.glob("*.out"), *self.folder.glob("*.log")]
        return "\n".join(f"--- {p.name}\n{p.read_text()[-1500:]}" for p in paths)

    # -- jobs --------------------------------------------------------------------------

    def show(self, job: str) -> dict[str, str]:
        """What ``scontrol show job`` says, also of ended jobs."""
        words = self._ask("scontrol", "--oneliner", "show", "job", job).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def command(self, *words: str) -> str:
        """Run a command of Slurm."""
        return self._ask(*words)

    def processes(self, job: str) -> list[psutil.Process]:
        """The job's step manager and everything that it started."""
        return self._step_processes(lambda env: env.get("SLURM_JOB_ID") == job)

    def _step_processes(
        self, wanted: Callable[[dict[str, str]], bool] = lambda env: "SLURM_JOB_ID" in env
    ) -> list[psutil.Process]:
        """Processes that jobs of this cluster started, and their step managers."""
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            try:
                env = process.environ()
                if env.get("SLURM_CONF") != str(self.conf) or not wanted(env):
                    continue
                found[process.pid] = process
                parent = process.parent()
                if parent is not None and parent.name().startswith("slurmstepd"):
                    found[parent.pid] = parent  # its own environment is not readable
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return list(found.values())

    def _ask(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            words, env=self.env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0 or not check, f"{words}: {done.stderr}"
        return done.stdout

    # -- configuration -----------------------------------------------------------------

    def _configure(self) -> None:
        host = socket.gethostname().split(".")[0]
        cores = max(2, os.cpu_count() or 1)  # both partitions at once, also on one core
        memory = int(psutil.virtual_memory().total / 2**20 * 0.9)
        control, node = _free_port(), _free_port()
        for name in ("state", "spool"):
            (self.folder / name).mkdir()
        options = {
            "ClusterName": "one",
            "SlurmctldHost": f"{host}(127.0.0.1)",
            "SlurmUser": "root",
            "SlurmctldPort": control,
            "SlurmdPort": node,
            "AuthType": "auth/munge",
            # A requeued job waits until its old credential has expired: two minutes otherwise.
            "AuthInfo": f"socket={self.folder}/munge/socket,cred_expire=5",
            "StateSaveLocation": self.folder / "state",
            "SlurmdSpoolDir": self.folder / "spool",
            "SlurmctldPidFile": self.folder / "slurmctld.pid",
            "SlurmdPidFile": self.folder / "slurmd.pid",
            "SlurmctldLogFile": self.folder / "slurmctld.log",
            "SlurmdLogFile": self.folder / "slurmd.log",
            "SlurmdParameters": "config_overrides",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "JobAcctGatherType": "jobacct_gather/none",
            "AccountingStorageType": "accounting_storage/none",
            "JobCompType": "jobcomp/none",
            "MpiDefault": "none",
            "SwitchType": "switch/none",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core",
            "SchedulerParameters": "sched_min_interval=100000,bf_interval=2",
            "GresTypes": "gpu",
            "ReturnToService": 2,
            "MinJobAge": 7200,
            "KillWait": 5,
            "SlurmdTimeout": 20,
            "SlurmctldTimeout": 30,
            "InactiveLimit": 0,
        }
        lines = [f"{key}={value}" for key, value in options.items()]
        lines.append(
            f"NodeName={NODE} NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cores} "
            f"RealMemory={memory} Gres=gpu:1 State=UNKNOWN"
        )
        lines += [
            f"PartitionName={name} Nodes={NODE} State=UP MaxTime=INFINITE "
            f"OverSubscribe=FORCE:2 Default={'YES' if name == 'cpu' else 'NO'}"
            for name in PARTITIONS
        ]
        self.conf.write_text("\n".join(lines) + "\n")
        # A device that is always there: the queue counts it, and no job touches it.
        (self.folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
