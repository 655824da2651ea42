"""Locks that the kernel gives back when their holder dies."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from defect_mf_flows.errors import ServiceError


def try_lock(path: Path) -> IO[str] | None:
    """Lock a file without waiting; None when another holds it."""
    handle = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    return handle


@contextmanager
def file_lock(path: Path, timeout: float) -> Iterator[None]:
    """Hold an exclusive lock on a file.

    Parameters
    ----------
    path
        The lock file; it stays.
    timeout
        Seconds to wait for the present holder.

    Raises
    ------
    TimeoutError
        When the holder did not let go in time.
    """
    deadline = time.monotonic() + timeout
    while (handle := try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} stayed locked for {timeout:.0f} s")
        time.sleep(0.02)
    with handle:  # closing unlocks
        yield


class FolderLock:
    """The right to run a server in a campaign folder; one process at a time has it.

    Parameters
    ----------
    path
        The lock file.
    role
        What the holder does, for the message that another process gets: ``run`` or ``read``.
    wait
        Seconds to wait for the present holder before giving up.
    """

    def __init__(self, path: Path, role: str, wait: float = 0.0) -> None:
        self.path = path
        self.role = role
        self.wait = wait
        self._handle: IO[str] | None = None

    def __enter__(self) -> FolderLock:
        deadline = time.monotonic() + self.wait
        while not self.acquire():
            if time.monotonic() >= deadline:
                raise ServiceError(self._refusal())
            time.sleep(0.1)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def acquire(self) -> bool:
        """Take the lock if it is free.

        Returns
        -------
        bool
            Whether this process holds it now.
        """
        self._handle = try_lock(self.path)
        if self._handle is None:
            return False
        self._handle.truncate(0)
        self._handle.write(json.dumps({"pid": os.getpid(), "role": self.role}))
        self._handle.flush()
        return True

    def release(self) -> None:
        """Give the lock back. The file stays: removed, two processes could lock two files."""
        if self._handle is not None:
            self._handle.truncate(0)
            self._handle.close()
            self._handle = None

    def holder(self) -> dict[str, Any]:
        """Return what the holder wrote about itself, as far as it can be read."""
        with suppress(OSError, ValueError):
            holder = json.loads(self.path.read_text(encoding="utf-8"))
            if isinstance(holder, dict):
                return holder
        return {}

    def _refusal(self) -> str:
        holder = self.holder()
        doing = "reading" if holder.get("role") == "read" else "running a campaign in"
        pid = holder.get("pid", "unknown")
        return (
            f"Process {pid} on this machine is already {doing} {self.path.parent.parent}. "
            f"Remedy: wait until it ends or stop it (kill {pid}), then run the same command again."
        )
