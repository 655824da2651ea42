from __future__ import annotations

import pytest

from defect_mf_flows.report import numbers
from defect_mf_flows.schemas.model import HeadMetrics


def metric(n_frames: int, rmse: float, **changes) -> HeadMetrics:
    values = {
        "head": "gfn2",
        "charge": 0,
        "split": "test",
        "n_frames": n_frames,
        "energy_rmse_cell": rmse,
        "energy_mae_cell": 1.0,
        "energy_rmse_atom": 1.0,
        "relative_energy_rmse_cell": 1.0,
        "force_rmse": 1.0,
        "force_mae": 1.0,
    }
    return HeadMetrics(**{**values, **changes})


def test_pooled_errors_weigh_frames_and_leave_out_the_training_split(make_results):
    rows = [metric(1, 3.0), metric(3, 1.0, charge=-1), metric(99, 50.0, split="train")]
    (error,) = numbers.held_out(make_results(metrics=rows, parity=[], history=[]))
    assert error.n_frames == 4
    assert error.energy_cell == pytest.approx(3**0.5)


def test_nan_errors_do_not_spread(make_results):
    rows = [metric(1, float("nan")), metric(3, 1.0)]
    (error,) = numbers.held_out(make_results(metrics=rows, parity=[], history=[]))
    assert error.energy_cell == pytest.approx(1.0)


def test_outside_gap(make_results):
    results = make_results()
    assert [numbers.outside_gap(v, results) for v in (-0.1, 0.5, 1.1, None)] == [
        True,
        False,
        True,
        False,
    ]
    assert not numbers.outside_gap(5.0, make_results(band_edges=None))


def test_low_fidelity_head_comes_first(make_results):
    assert numbers.heads(make_results()) == ["gfn1", "gfn2"]
    swapped = make_results(fidelities={"low": "gfn2", "high": "gfn1"})
    assert numbers.heads(swapped) == ["gfn2", "gfn1"]


def test_the_worst_level_is_told_with_its_error(make_results):
    results = make_results()
    gap, level = numbers.worst_level(results, "low")
    assert gap == pytest.approx(0.558)
    assert (level.from_charge, level.to_charge) == (1, 0)
    assert numbers.worst_level(make_results(charges=(0,)), "low") is None
