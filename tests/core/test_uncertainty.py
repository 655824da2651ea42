"""Calibration on synthetic data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from defect_mf_flows.core.uncertainty import (
    coverage,
    fit_scale,
    force_spread,
    normal_width,
    relative_spread,
    with_spread,
)
from defect_mf_flows.schemas.search import Minimum


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_the_scale_of_normal_errors_is_found_and_then_covers_new_ones(factor: float) -> None:
    rng = np.random.default_rng(1)
    spreads = rng.uniform(0.01, 0.5, size=8000)
    errors = factor * spreads * rng.normal(size=8000)
    scale = fit_scale(errors[:4000], spreads[:4000])
    assert scale == pytest.approx(factor, rel=0.05)
    found = coverage(errors[4000:], scale * spreads[4000:])
    assert found["0.68"] == pytest.approx(0.68, abs=0.03)
    assert found["0.95"] == pytest.approx(0.95, abs=0.02)


def test_overconfident_spreads_show_as_low_coverage() -> None:
    rng = np.random.default_rng(2)
    errors, sigmas = rng.normal(size=2000), np.full(2000, 0.5)
    assert coverage(errors, sigmas)["0.68"] < 0.45


def test_a_few_wild_errors_do_not_move_the_scale_and_show_at_the_second_level() -> None:
    rng = np.random.default_rng(3)
    spreads = np.full(1000, 0.1)
    errors = 0.1 * rng.normal(size=1000)
    errors[:100] = 50.0
    scale = fit_scale(errors, spreads)
    assert scale < 1.5
    assert coverage(errors, scale * spreads)["0.95"] < 0.91


def test_spreads_of_zero_give_no_scale() -> None:
    assert fit_scale(np.ones(3), np.zeros(3)) == 1.0


def test_a_constant_between_members_is_no_uncertainty_of_an_order() -> None:
    energies = np.array([[0.0, 1.0, 2.0], [7.0, 8.0, 9.5]])
    spread = relative_spread(energies, 0)
    assert spread[:2] == pytest.approx([0.0, 0.0])
    assert spread[2] == pytest.approx(0.5 / np.sqrt(2))


def test_the_width_of_an_interval_is_that_of_the_normal_distribution() -> None:
    assert normal_width(0.95) == pytest.approx(1.96, abs=1e-3)


def test_minima_carry_the_scaled_spread_of_their_gap(vacancy: object) -> None:
    structure = vacancy.supercell  # type: ignore[attr-defined]
    minima = [
        Minimum(structure=structure, energy=e, starts=[s]) for e, s in ((0.0, "a"), (1.0, "b"))
    ]
    members = {"a": [0.0, 3.0], "b": [1.0, 4.4]}
    lowest, other = with_spread(minima, members, 2.0)
    assert lowest.spread == 0.0
    assert other.spread == pytest.approx(2 * 0.4 / np.sqrt(2))
    assert with_spread(minima, {}, 2.0) == minima


def test_the_force_spread_is_that_of_the_most_disputed_atom() -> None:
    forces = np.zeros((3, 4, 3))
    assert force_spread(forces) == 0.0
    forces[:, 1, 0] = [-0.1, 0.0, 0.1]
    forces[:, 2] = np.array([[1.0], [0.0], [-1.0]]) * [3.0, 4.0, 0.0]  # 5 eV/A to either side
    assert force_spread(forces) == pytest.approx(5.0)
    assert force_spread(forces + 7.0) == pytest.approx(5.0), "what all say alike is no doubt"
