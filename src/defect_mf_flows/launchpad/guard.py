"""A watchdog that ends a process when the supervisor that started it is gone.

The supervisor keeps the write end of the process's standard input open and never writes. When
the supervisor dies, of whatever cause, the kernel closes that end and the watchdog, a fork that
does nothing but wait for it, acts at once: also while the guarded process is deep in compiled code
that holds the interpreter lock, and also for the engine programs that it started.

Only the standard library, and no import of the package: mongod is started through this file.
"""

from __future__ import annotations

import os
import select
import signal
import sys

POLL_SECONDS = 0.5


def start_watchdog(signal_number: int, *, whole_group: bool) -> None:
    """Fork a watchdog of the calling process, then take standard input away from the caller.

    Parameters
    ----------
    signal_number
        What the watchdog sends when the supervisor is gone.
    whole_group
        Whether it goes to the whole process group. The group's remains are then also killed when
        the guarded process itself dies, so that no engine outlives its worker.
    """
    guarded = os.getpid()
    if os.fork() == 0:
        _watch(guarded, signal_number, whole_group)
        os._exit(0)
    # Engines would inherit the pipe and could swallow its end of file.
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _watch(guarded: int, signal_number: int, whole_group: bool) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while os.getppid() == guarded:
        readable, _, _ = select.select([0], [], [], POLL_SECONDS)
        if readable and not os.read(0, 1):
            if not whole_group and os.getppid() != guarded:
                return  # it ended first, and its pid may already be somebody else's
            _send(guarded, signal_number, whole_group)
            return
    if whole_group:
        _send(guarded, signal.SIGKILL, whole_group)


def _send(guarded: int, signal_number: int, whole_group: bool) -> None:
    try:
        if whole_group:
            os.killpg(guarded, signal_number)
        else:
            os.kill(guarded, signal_number)
    except ProcessLookupError:
        pass


def main() -> None:
    """Replace this process by the command in its arguments, guarded; SIGINT ends it cleanly."""
    start_watchdog(signal.SIGINT, whole_group=False)
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
