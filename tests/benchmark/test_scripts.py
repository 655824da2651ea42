"""The scripts in benchmarks/ follow the package: each can be loaded with today's names."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).resolve().parents[2] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_benchmark_script_loads(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(script.parent))
    names = runpy.run_path(str(script), run_name="loaded")
    assert names["__doc__"]
    for name in (path.stem for path in SCRIPTS):
        sys.modules.pop(name, None)
