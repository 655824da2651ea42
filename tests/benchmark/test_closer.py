"""Labels between two fidelities: still a surface and its gradient, still of the same charge."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from defect_mf_flows.benchmark.agreement import agreements
from defect_mf_flows.benchmark.closer import bring_closer
from defect_mf_flows.benchmark.fidelity import STRATEGIES
from defect_mf_flows.benchmark.pool import HIGH, LOW, Pool
from defect_mf_flows.benchmark.running import QUICK, run_benchmark
from defect_mf_flows.errors import DatasetError
from defect_mf_flows.schemas.frame import Frame

from .test_agreement import pool_of


@pytest.mark.slow
def test_high_labels_move_towards_the_low_ones_and_keep_charge_and_geometry(
    pool: Pool,
) -> None:
    closer = bring_closer(pool, 0.25)
    assert closer.heads == (LOW, f"{HIGH}_at_0.25")
    assert closer.content != pool.content
    assert len(closer.small) == len(pool.small) > 0
    for now, before in zip([*closer.small, *closer.large], [*pool.small, *pool.large], strict=True):
        assert now.low is before.low
        assert now.high.charge == before.high.charge
        assert now.high.structure == before.high.structure
        assert now.high.fidelity == f"{HIGH}_at_0.25"
        gap = before.high.energy - before.low.energy
        assert now.high.energy == pytest.approx(before.low.energy + 0.25 * gap)
        low, high = np.asarray(before.low.forces), np.asarray(before.high.forces)
        assert np.asarray(now.high.forces) == pytest.approx(0.75 * low + 0.25 * high)
    assert {key[1] for key in closer.hosts} == {LOW, f"{HIGH}_at_0.25"}
    assert all(frame.fidelity == key[1] for key, frame in closer.hosts.items())


@pytest.mark.slow
def test_every_strategy_learns_from_labels_between_the_fidelities(
    cache: Path,
    pool: Pool,
    tmp_path: Path,
) -> None:
    size = replace(QUICK, shares=(0.5,))
    page = run_benchmark(
        "fidelity", size=size, disagreement=0.5, out=tmp_path, folder=cache, workers=1
    )
    assert page.name == "fidelity-disagreement-0.5-quick.md"
    text = page.read_text()
    assert "defect-mf benchmark fidelity --disagreement 0.5" in text
    assert bring_closer(pool, 0.5).content[:12] in text
    rows = json.loads(page.with_suffix(".json").read_text())["rows"]
    assert {row["arm"] for row in rows} == set(STRATEGIES)
    assert all(row["energy"] > 0 for row in rows)


def test_the_disagreement_shrinks_by_the_share(make_frame: Callable[..., Frame]) -> None:
    pool = pool_of(make_frame, [-5.0, -4.0, -3.0], [-5.0, -4.2, -3.7])
    (before,), (now,) = agreements(pool), agreements(bring_closer(pool, 0.5))
    assert now.difference == pytest.approx(0.5 * before.difference)
    assert now.force == pytest.approx(0.5 * before.force)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_shares_that_are_none_are_refused(share: float, make_frame: Callable[..., Frame]) -> None:
    with pytest.raises(DatasetError, match="between 0 and 1"):
        bring_closer(pool_of(make_frame, [-5.0], [-5.0]), share)


def test_forces_of_one_fidelity_alone_are_refused(make_frame: Callable[..., Frame]) -> None:
    pool = pool_of(make_frame, [-5.0], [-5.0])
    (point,) = pool.small
    bare = Frame.model_validate({**dict(point.high), "forces": None, "content_hash": ""})
    pool.small = [replace(point, high=bare)]
    with pytest.raises(DatasetError, match=r"charge -1 has forces of one fidelity"):
        bring_closer(pool, 0.5)
