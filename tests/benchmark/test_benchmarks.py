"""The quick forms of charge and fidelity from labels to page; and what benchmarks count."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from pymatgen.core import Structure

from defect_mf_flows.benchmark import charge, fidelity, running
from defect_mf_flows.benchmark.arms import with_steps_of
from defect_mf_flows.benchmark.data import assemble, nested_order, sides
from defect_mf_flows.benchmark.metrics import (
    NEAR_MINIMUM,
    bootstrap,
    equal_error_share,
    low,
    near_minimum,
    relative_errors,
)
from defect_mf_flows.benchmark.pool import HIGH, LOW, Pool, PoolSize, build_pool, describe
from defect_mf_flows.benchmark.pool import QUICK as QUICK_POOL
from defect_mf_flows.benchmark.running import QUICK, RUNNERS, run_benchmark
from defect_mf_flows.cli import main
from defect_mf_flows.core.splits import check_no_leak
from defect_mf_flows.schemas.dataset import Split
from defect_mf_flows.schemas.frame import Frame


@pytest.mark.slow
def test_the_number_of_steps_does_not_grow_with_the_share_of_labels(pool: Pool) -> None:
    settings = QUICK.training.model_copy(update={"max_epochs": 40, "batch_size": 1})
    for share, most in ((0.1, 40), (1.0, 20)):
        _, dataset = assemble(pool, seed=1, heads=[LOW, HIGH], share=share)
        low, both = (
            sum(e.split is Split.TRAIN and e.fidelity in heads for e in dataset.entries)
            for heads in ((LOW,), (LOW, HIGH))
        )
        epochs = with_steps_of(LOW, settings, dataset).max_epochs
        assert epochs <= most
        assert epochs * both == pytest.approx(40 * low, abs=both / 2)


@pytest.mark.slow
def test_an_error_far_from_minima_does_not_count_near_them(pool: Pool) -> None:
    frames = [p.low for p in pool.small]
    largest = sorted(float(np.linalg.norm(f.forces, axis=1).max()) for f in frames)
    known = {id(frame.structure): frame for frame in frames}
    lowest = {q: min(f.energy for f in frames if f.charge == q) for q in QUICK_POOL.charges}

    def spoiled(frame: Frame) -> bool:
        return not near_minimum(frame) and frame.energy > lowest[frame.charge]

    def predict(structures: list[Structure]) -> list[tuple[float, np.ndarray]]:
        """The labels, but 0.2 eV too high and every force wrong where forces are large."""
        found = []
        for frame in (known[id(structure)] for structure in structures):
            wrong = spoiled(frame)
            found.append((frame.energy + 0.2 * wrong, np.array(frame.forces) + wrong))
        return found

    assert largest[0] < NEAR_MINIMUM < largest[-1], "the pool has geometries of both kinds"
    for q, errors in relative_errors(predict, pool, pool.small, low).items():
        own = [frame for frame in frames if frame.charge == q]
        near = sum(near_minimum(frame) for frame in own)
        assert errors.energy.size == len(own)
        assert np.count_nonzero(errors.energy > 199.0) == sum(spoiled(f) for f in own)
        assert errors.near.size == near
        assert errors.force.size == 3 * 7 * near
        assert not errors.near.any()
        assert not errors.force.any()


@pytest.mark.slow
def test_a_pool_is_labelled_at_both_fidelities_and_not_computed_twice(
    pool: Pool, cache: Path
) -> None:
    files = {path: path.stat().st_mtime_ns for path in (cache / "labels").iterdir()}
    again = build_pool(QUICK_POOL, cache / "labels", workers=1)
    assert again.content == pool.content
    assert {path: path.stat().st_mtime_ns for path in (cache / "labels").iterdir()} == files
    assert {len(p.low.structure) for p in pool.small} == {7}
    assert {len(p.low.structure) for p in pool.large} == {15}
    for point in [*pool.small, *pool.large]:
        assert (point.low.fidelity, point.high.fidelity) == (LOW, HIGH)
        assert np.allclose(
            point.low.structure.cart_coords, point.high.structure.cart_coords, atol=1e-8
        )
        assert point.low.charge == point.high.charge
        assert abs(point.low.energy - point.high.energy) > 0.1
    # A lost file is computed again, to the same labels.
    next(iter(files)).unlink()
    assert build_pool(QUICK_POOL, cache / "labels", workers=1).content == pool.content


@pytest.mark.slow
def test_a_pool_without_another_size_is_the_small_cell_and_no_more(pool: Pool, cache: Path) -> None:
    files = sorted(path.name for path in (cache / "labels").iterdir())
    alone = build_pool(replace(QUICK_POOL, large=None), cache / "labels", workers=1)
    assert sorted(path.name for path in (cache / "labels").iterdir()) == files
    assert alone.small == pool.small
    assert not alone.large
    assert {cell for cell, _ in alone.hosts} == {"small"}
    assert sum(alone.calls.values()) < sum(pool.calls.values())
    assert alone.content != pool.content
    assert "size test" in describe(QUICK_POOL)
    assert "size test" not in describe(alone.size)


@pytest.mark.parametrize("name", RUNNERS)
def test_only_the_charge_terms_are_labelled_in_a_second_cell(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[PoolSize] = []

    def build(size: PoolSize, folder: Path, *, workers: int) -> Pool:
        asked.append(size)
        return Pool(size)

    monkeypatch.setattr(running, "build_pool", build)
    monkeypatch.setitem(running.RUNNERS, name, lambda job: job.out)
    for quick in (True, False):
        run_benchmark(name, quick=quick, out=tmp_path, folder=tmp_path, workers=1)
    assert [size.large is None for size in asked] == [name != "charge"] * 2


@pytest.mark.slow
def test_subsets_are_nested_and_no_relaxation_is_on_two_sides(pool: Pool) -> None:
    taken: list[set[str]] = []
    for share in (0.1, 0.5, 1.0):
        frames, dataset = assemble(pool, seed=1, heads=[LOW, HIGH], share=share)
        check_no_leak(dataset.entries)
        labels = {
            f.content_hash
            for f, e in zip(frames, dataset.entries, strict=True)
            if f.fidelity == HIGH and e.split is Split.TRAIN
        }
        assert {f.charge for f in frames if f.fidelity == HIGH} == set(QUICK_POOL.charges), (
            "a charge is without high-fidelity label"
        )
        assert all(before <= labels for before in taken)
        taken.append(labels)
    assert len(taken[0]) < len(taken[1]) < len(taken[2])
    assert sorted(nested_order(pool.small, 3)) == list(range(len(pool.small)))
    assert sides(pool, 1) != sides(pool, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["charge", "fidelity"])
def test_the_quick_form_writes_a_page_with_every_arm(
    pool: Pool, cache: Path, tmp_path: Path, name: str
) -> None:
    page = run_benchmark(name, quick=True, out=tmp_path, folder=cache, workers=1)
    text = page.read_text()
    arms = {"charge": (*charge.TERMS, charge.FIFTH), "fidelity": fidelity.STRATEGIES}[name]
    for arm in arms:
        assert f"| {arm} |" in text
    assert f"Made by `defect-mf benchmark {name} --quick`" in text
    assert "force calls" in text, "the cost of the pool is stated"
    assert (tmp_path / f"{name}-quick.svg").read_text().startswith("<?xml")
    rows = json.loads((tmp_path / f"{name}-quick.json").read_text())["rows"]
    assert {row["arm"] for row in rows} == set(arms)
    if name == "charge":
        _check_charge_rows(rows)
    assert all(np.isfinite(row["seconds"]) for row in rows)
    # Again, from the cache, to the same page.
    trainings = set((cache / "training").iterdir())
    run_benchmark(name, quick=True, out=tmp_path, folder=cache, workers=1)
    assert set((cache / "training").iterdir()) == trainings
    assert page.read_text() == text


def _check_charge_rows(rows: list[dict[str, Any]]) -> None:
    unseen = [row for row in rows if "without" in row]
    wanted = {(term, charge) for term in charge.UNSEEN_TERMS for charge in QUICK_POOL.charges}
    assert {(row["arm"], row["without"]) for row in unseen} == wanted
    for row in (row for row in rows if "without" not in row):
        assert 0 <= row["minima_found"] <= row["minima_known"]
        assert row["minima_known"] >= len(QUICK_POOL.charges), "every charge has a ground state"
        assert set(row["ground_displacement"]) == {str(q) for q in QUICK_POOL.charges}


@pytest.mark.slow
def test_a_charge_that_is_left_out_is_on_no_side(pool: Pool) -> None:
    frames, dataset = assemble(pool, seed=1, heads=[LOW], without=-1)
    assert {frame.charge for frame in frames} == {0}
    assert {entry.charge for entry in dataset.entries} == {0}
    assert {entry.split for entry in dataset.entries} == set(Split)


def test_the_commands_say_what_they_do() -> None:
    for name in ("charge", "fidelity"):
        result = CliRunner().invoke(main, ["benchmark", name, "--help"])
        assert result.exit_code == 0
        assert "--quick" in result.output


def test_an_interval_covers_its_mean_and_ignores_what_is_missing() -> None:
    interval = bootstrap([1.0, 2.0, 6.0, float("nan")])
    assert interval.mean == pytest.approx(3.0)
    assert 1.0 <= interval.low < 3.0 < interval.high <= 6.0
    assert str(bootstrap([float("nan")])) == "-"


def test_the_share_of_equal_error_is_interpolated_on_a_power_law() -> None:
    shares = [0.1, 0.2, 0.4]
    errors = [10.0, 5.0, 2.5]
    assert equal_error_share(shares, errors, 5.0) == pytest.approx((0.2, True))
    found, reached = equal_error_share(shares, errors, 10 / 3)
    assert (found, reached) == (pytest.approx(0.3), True)
    assert equal_error_share(shares, errors, 1.0) == (0.4, False)
    assert equal_error_share(shares, errors, 20.0) == (0.1, True)
