"""doctor says whether GPAW and its setups are there."""

from __future__ import annotations

import sys

import pytest

from defect_mf_flows.local.doctor import gpaw_check


def test_a_machine_without_gpaw_is_told_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gpaw", None)
    check = gpaw_check()
    assert check.state == "missing"
    assert "defect-mf-flows[gpaw]" in check.message


@pytest.mark.gpaw
def test_setups_are_counted_and_their_absence_is_told(monkeypatch):
    gpaw = pytest.importorskip("gpaw", reason="SKIPPED: GPAW is not installed (extra 'gpaw')")
    assert gpaw_check().state == "ok"
    assert gpaw.__version__ in gpaw_check().message
    monkeypatch.setattr(gpaw, "setup_paths", [])
    assert gpaw_check().state == "missing"
    assert "gpaw-data" in gpaw_check().message
