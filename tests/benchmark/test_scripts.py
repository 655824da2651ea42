"""The scripts in benchmarks/ follow the package: each can be loaded with today's names."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from defect_mf_flows.cli.benchmark import benchmark

SCRIPTS = sorted((Path(__file__).resolve().parents[2] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_benchmark_script_loads(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(script.parent))
    names = runpy.run_path(str(script), run_name="loaded")
    assert names["__doc__"]
    for name in (path.stem for path in SCRIPTS):
        sys.modules.pop(name, None)


def test_no_two_writers_share_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS[0].parent))
    loaded = [runpy.run_path(str(script), run_name="loaded") for script in SCRIPTS]
    for name in (path.stem for path in SCRIPTS):
        sys.modules.pop(name, None)
    by_script = [names["RESULTS"].name for names in loaded if "RESULTS" in names]
    by_command = [f"{name}.md" for name in benchmark.commands]
    assert "search_speed.md" in by_script
    assert "search.md" in by_command
    written = by_script + by_command
    assert sorted(set(written)) == sorted(written)
