"""Stop requests that never interrupt a clean-up."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

logger = logging.getLogger(__name__)


class StopSignals:
    """Turn SIGINT, SIGTERM and SIGHUP into a request that :meth:`check` raises.

    Between checks nothing is interrupted, so no server or worker is left half-started. A request
    that arrives while :attr:`immediate` is set raises on the spot: for long calls of foreign code.
    Outside the main thread, where Python takes no signals, this does nothing.
    """

    def __init__(self) -> None:
        self.immediate = False
        self._received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP
                    self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise the stop request that came in, if one did.

        Raises
        ------
        KeyboardInterrupt
            After SIGINT.
        SystemExit
            After SIGTERM or SIGHUP, with the shell's usual status.
        """
        if self._received == signal.SIGINT:
            raise KeyboardInterrupt
        if self._received is not None:
            raise SystemExit(128 + self._received)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        first = self._received is None
        self._received = self._received or number
        if first:
            logger.warning("stopping: workers and server are shut down, please wait")
        if first and self.immediate:
            self.check()
