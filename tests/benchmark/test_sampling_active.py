"""The benchmarks of samplers and of active learning, in their quick form."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from defect_mf_flows.benchmark import active, sampling
from defect_mf_flows.benchmark.data import assemble, pool_candidates, sides
from defect_mf_flows.benchmark.pool import HIGH, LOW, Pool
from defect_mf_flows.benchmark.running import run_benchmark
from defect_mf_flows.core.acquisition import is_known
from defect_mf_flows.schemas.dataset import Split
from defect_mf_flows.schemas.search import Minimum


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_samplers_choose_equally_many_and_validate_on_the_same_labels(
    pool: Pool,
    share: float,
) -> None:
    counts, valid = [], []
    for sampler in sampling.SAMPLERS:
        _, dataset = assemble(pool, seed=1, heads=[LOW, HIGH], share=share, sampler=sampler)
        high = [e for e in dataset.entries if e.fidelity == HIGH]
        counts.append(Counter(e.split for e in high)[Split.TRAIN])
        valid.append({e.frame.content_hash for e in high if e.split is not Split.TRAIN})
    assert len(set(counts)) == 1
    assert all(found == valid[0] for found in valid)


@pytest.mark.slow
def test_each_basin_of_the_pool_has_one_end(pool: Pool) -> None:
    found = pool_candidates(pool, list(range(len(pool.small))))
    ends = Counter(item.basin for item in found if item.is_end)
    assert set(ends.values()) == {1}
    assert set(ends) == {item.basin for item in found}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
def test_the_first_labels_of_a_policy_teach_every_charge(pool: Pool, seed: int) -> None:
    side = sides(pool, seed)
    chosen = [pool.small[i] for i in active.first_labels(pool, side, seed)]
    charges = {point.low.charge for point in pool.small}
    assert Counter(p.low.charge for p in chosen) == dict.fromkeys(charges, active.FIRST)
    assert Split.TEST not in {side[p.relaxation] for p in chosen}
    assert {p.low.charge for p in chosen if side[p.relaxation] is Split.TRAIN} == charges


@pytest.mark.slow
def test_a_minimum_is_relaxed_at_high_fidelity_once(pool: Pool, cache: Path) -> None:
    charge = pool.small[0].low.charge
    own = [p.low for p in pool.small if p.low.charge == charge]
    lowest, other = own[0].structure, own[-1].structure
    minima = [
        Minimum(structure=structure, energy=energy, starts=["start"])
        for energy, structure in enumerate((lowest, other))
    ]
    run, truth = active.Run(), {charge: -1e9}
    spent = []
    for number in (1, 2, 3):
        active._verify(run, minima, charge, truth, cache / "labels", number)
        spent.append(run.calls)
    assert is_known(lowest, run.relaxed)
    assert is_known(other, run.relaxed)
    assert run.verifying == run.calls
    assert 0 < spent[0] < spent[1] == spent[2], "nothing was left to relax"


@pytest.mark.slow
def test_a_minimum_whose_relaxation_fails_is_not_tried_again(pool: Pool, cache: Path) -> None:
    charge = pool.small[0].low.charge
    clash = pool.small[0].low.structure.copy()
    clash.translate_sites([1], clash[0].coords - clash[1].coords, frac_coords=False)
    run = active.Run()
    minima = [Minimum(structure=clash, energy=0.0, starts=["start"])]
    spent = []
    for number in (1, 2):
        active._verify(run, minima, charge, {charge: -1e9}, cache / "labels", number)
        spent.append(run.calls)
    assert not run.extra, "the relaxation was meant to fail without a frame"
    assert spent == [1, 1], "the failed call counts, once"
    assert is_known(clash, run.relaxed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sampling", "active"])
def test_the_quick_form_writes_a_page_with_every_arm(
    cache: Path, tmp_path: Path, name: str
) -> None:
    page = run_benchmark(name, quick=True, out=tmp_path, folder=cache, workers=1)
    text = page.read_text()
    assert f"Made by `defect-mf benchmark {name} --quick`" in text
    for arm in {"sampling": sampling.SAMPLERS, "active": active.POLICIES}[name]:
        assert f"| {arm} |" in text
    files = {kind: len(list((cache / kind).iterdir())) for kind in ("labels", "training")}
    again = run_benchmark(name, quick=True, out=tmp_path, folder=cache, workers=1)
    assert again.read_text() == text
    for kind, count in files.items():
        assert len(list((cache / kind).iterdir())) == count, "computed twice"


def test_the_figure_counts_verified_ground_states_of_all_seeds() -> None:
    rows = [
        {"arm": "random", "found": {"0": 15, "-1": None}},
        {"arm": "random", "found": {"0": 9, "-1": 30}},
    ]
    axes = active.stairs(rows).axes[0]
    (line,) = axes.lines
    assert line.get_xdata().tolist() == [0, 9, 15, 30]
    assert list(line.get_ydata()) == [0, 1, 2, 3]
    assert axes.get_ylabel() == "ground states verified, of 4"
