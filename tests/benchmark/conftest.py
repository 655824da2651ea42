"""Labels of the quick form, computed once for all tests of the benchmarks."""

from __future__ import annotations

from pathlib import Path

import pytest

from defect_mf_flows.benchmark.pool import QUICK, Pool, build_pool


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels and trainings that benchmarks share."""
    return tmp_path_factory.mktemp("benchmark")


@pytest.fixture(scope="session")
def pool(cache: Path) -> Pool:
    """Both sizes of cell."""
    return build_pool(QUICK, cache / "labels", workers=1)
