"""The private server, real, alone."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import psutil
import pytest

from conftest import alive
from defect_mf_flows.local.mongod import PrivateMongod

pytestmark = pytest.mark.mongod


def test_a_stopped_server_leaves_no_watchdog_behind(tmp_path: Path) -> None:
    server = PrivateMongod(tmp_path / "data")
    server.start()
    assert server.pid is not None
    [watchdog] = psutil.Process(server.pid).children()
    watchdog.send_signal(signal.SIGSTOP)  # as on a machine with too much to do
    threading.Timer(1.0, watchdog.send_signal, [signal.SIGCONT]).start()
    server.stop()
    assert alive(tmp_path) == []
