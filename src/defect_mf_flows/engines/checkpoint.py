"""Ionic steps on disk, as they are made: a calculation that was killed continues from the last.

Each job has a folder of its own below the machine's scratch folder. ``steps.jsonl`` starts with
what is computed and grows by one line per step; ``end.json`` follows when the calculation has
ended. It is kept until the job's output lies in the job store: a job that is killed in between
takes everything from here and computes nothing again.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from defect_mf_flows.errors import CheckpointError
from defect_mf_flows.schemas.base import Matrix
from defect_mf_flows.schemas.calculation import BandEdges, FailureReason, FrontierLevel
from defect_mf_flows.schemas.frame import content_hash

logger = logging.getLogger(__name__)

FOLDER = "relaxations"
STEPS = "steps.jsonl"
END = "end.json"
#: Seconds after which a finished calculation, its output stored, is not asked for any more.
SETTLED = 600.0
#: Seconds after which nobody continues a calculation.
ABANDONED = 30 * 86400.0


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StoredStep(_Line):
    """One ionic step.

    Attributes
    ----------
    positions
        Shape (n_atoms, 3), Cartesian, Angstrom, to the last bit.
    energy
        eV per cell.
    forces
        Shape (n_atoms, 3), eV/Angstrom, or None where the method has none.
    seconds
        Wall time of the calculation up to this step, over all its processes.
    band_edges
        At this geometry, where the engine gives them.
    frontier
        Levels next to the gap at this geometry, where the engine gives them.
    notes
        What was tried in vain before this step succeeded.
    content_hash
        SHA-256 of the frame; charge, spin and fidelity are in it.
    taken
        Whether it was taken from another calculation, at no cost.
    failed
        Calls before it that failed, farther along the same step.
    guide_calls
        Of the method that guides the relaxation, up to this step, over all processes.
    """

    positions: Matrix
    energy: float
    forces: Matrix | None
    seconds: float
    band_edges: BandEdges | None = None
    frontier: list[FrontierLevel] | None = None
    notes: list[str] = Field(default_factory=list)
    content_hash: str
    taken: bool = False
    failed: int = 0
    guide_calls: int = 0


class StoredEnd(_Line):
    """How a calculation ended.

    Attributes
    ----------
    job
        uuid of the job.
    steps
        Number of its steps.
    converged
        Forces below the threshold.
    failure
        Reason and message, or None.
    calls, seconds
        Evaluations and wall time spent, over all its processes.
    guide_calls
        Evaluations of the method that guided it.
    """

    job: str
    steps: int
    converged: bool
    failure: tuple[FailureReason, str] | None
    calls: int
    seconds: float
    guide_calls: int = 0


class Checkpoint:
    """The steps of one calculation, held by one process at a time.

    Disk trouble never stops a calculation: it is reported once, and nothing more is written.

    Parameters
    ----------
    scratch
        The machine's scratch folder; None to keep nothing.
    inputs
        Everything that decides the result, the job's uuid included, as plain JSON. A checkpoint
        with other inputs is never read.
    """

    def __init__(self, scratch: Path | None, inputs: dict[str, Any]) -> None:
        self.inputs: dict[str, Any] = json.loads(json.dumps(inputs))
        self.steps: list[StoredStep] = []
        self.end: StoredEnd | None = None
        self.folder = (
            None if scratch is None else Path(scratch) / FOLDER / content_hash(self.inputs)[:24]
        )
        self._lock: IO[str] | None = None
        self._stream: IO[bytes] | None = None

    def __enter__(self) -> Checkpoint:
        if self.folder is None:
            return self
        try:
            self._acquire(self.folder)
            self._read(self.folder)
        except OSError as error:
            self._give_up(error)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in (self._stream, self._lock):
            if handle is not None:
                with suppress(OSError):
                    handle.close()  # closing unlocks
        self._stream = self._lock = None

    def append(self, step: StoredStep) -> None:
        """Write a step; it is on the disk when this returns.

        Parameters
        ----------
        step
            The next one.
        """
        self.steps.append(step)
        self._write_line(step.model_dump(mode="json"))

    def finish(self, end: StoredEnd) -> None:
        """Note that the calculation has ended.

        Parameters
        ----------
        end
            How.
        """
        if self._stream is None or self.folder is None:
            return
        partial = self.folder / "end.part"
        try:
            with partial.open("w", encoding="utf-8") as stream:
                stream.write(end.model_dump_json())
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(self.folder / END)
        except OSError as error:
            self._give_up(error)

    def set_aside(self, reason: str) -> None:
        """Keep what was found under another name and begin anew.

        Parameters
        ----------
        reason
            Why it cannot be used, for the log.
        """
        self.steps, self.end = [], None
        if self.folder is None:
            return
        kept = f"{STEPS}.refused-{time.time_ns()}"
        logger.warning(
            "the stored steps in %s are not used: %s; they are kept as %s and the calculation "
            "begins anew",
            *(self.folder, reason, kept),
        )
        try:
            if self._stream is not None:
                self._stream.close()
                self._stream = None
            (self.folder / STEPS).replace(self.folder / kept)
            (self.folder / END).unlink(missing_ok=True)
            self._begin(self.folder)
        except OSError as error:
            self._give_up(error)

    # -- the files -----------------------------------------------------------------------

    def _acquire(self, folder: Path) -> None:
        path = folder / "lock"
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            handle = path.open("a", encoding="utf-8")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                # The process of the same job that was taken for dead: its result will be ours.
                logger.warning("another process computes %s; this one waits for it", folder)
                fcntl.flock(handle, fcntl.LOCK_EX)
            self._lock = handle
            with suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(handle.fileno()).st_ino:
                    return
            handle.close()  # the folder was removed while this process waited

    def _read(self, folder: Path) -> None:
        path = folder / STEPS
        content = path.read_bytes() if path.is_file() else b""
        whole = content[: content.rfind(b"\n") + 1]  # a kill may have torn the last line
        if not whole:
            self._begin(folder)
            return
        try:
            header, *lines = (json.loads(line) for line in whole.splitlines())
            if header != {"inputs": self.inputs}:
                raise CheckpointError("they belong to another calculation; nothing needs doing.")
            self.steps = [StoredStep(**line) for line in lines]
            self.end = self._read_end(folder)
        except (ValueError, TypeError, ValidationError, CheckpointError) as error:
            self.set_aside(str(error))
            return
        self._stream = path.open("r+b")
        self._stream.truncate(len(whole))
        self._stream.seek(len(whole))

    def _read_end(self, folder: Path) -> StoredEnd | None:
        path = folder / END
        if not path.is_file():
            return None
        end = StoredEnd(**json.loads(path.read_text(encoding="utf-8")))
        if end.steps != len(self.steps):
            raise CheckpointError(
                f"{END} counts {end.steps} steps, {STEPS} holds {len(self.steps)}; the disk lost "
                "some."
            )
        return end

    def _begin(self, folder: Path) -> None:
        (folder / END).unlink(missing_ok=True)
        self._stream = (folder / STEPS).open("wb")
        self._write_line({"inputs": self.inputs})

    def _write_line(self, content: dict[str, Any]) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(json.dumps(content).encode() + b"\n")
            self._stream.flush()
            os.fsync(self._stream.fileno())
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        logger.warning(
            "%s: %s; the calculation goes on without a checkpoint, and from its last stored step "
            "should it be killed. Free space in the scratch folder, or name another one in "
            "`scratch` of the machine's settings.",
            *(self.folder, error),
        )
        stream, self._stream = self._stream, None
        if stream is not None:
            with suppress(OSError):
                stream.close()


def forget_stored(
    scratch: Path, stored: Callable[[list[str]], Collection[str]], now: float | None = None
) -> int:
    """Remove the checkpoints of jobs whose output is stored, and those that nobody continues.

    Parameters
    ----------
    scratch
        The machine's scratch folder.
    stored
        Takes uuids of jobs and returns those whose output is in the job store.
    now
        Seconds since the epoch; the present by default.

    Returns
    -------
    int
        How many were removed.
    """
    now = time.time() if now is None else now
    ended: dict[str, Path] = {}
    useless: list[Path] = []
    with suppress(OSError):
        for folder in (scratch / FOLDER).iterdir():
            age = now - _changed(folder)
            if age > ABANDONED:
                useless.append(folder)
            elif age > SETTLED and (folder / END).is_file():
                with suppress(OSError, ValueError, KeyError):
                    ended[json.loads((folder / END).read_text())["job"]] = folder
    if ended:
        useless += [ended[uuid] for uuid in stored(list(ended)) if uuid in ended]
    return sum(_remove(folder) for folder in useless)


def _changed(folder: Path) -> float:
    names = (folder / END, folder / STEPS, folder)
    return max((path.stat().st_mtime for path in names if path.exists()), default=0.0)


def _remove(folder: Path) -> bool:
    """Remove a checkpoint that no process holds."""
    with suppress(OSError), (folder / "lock").open("a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
        return True
    return False
