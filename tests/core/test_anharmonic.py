"""Quartic curves and their levels against closed forms and published numbers."""

from __future__ import annotations

import numpy as np
import pytest

from defect_mf_flows.core.anharmonic import bound_levels, crossing_height, fit_quartic
from defect_mf_flows.schemas.ccd import Anharmonic

BOX = (-6.0, 6.0)
X = np.linspace(*BOX, 61)


def test_a_harmonic_well_has_evenly_spaced_levels() -> None:
    levels = bound_levels(np.polynomial.Polynomial([0, 0, 0.5]), BOX, 1.0)
    assert levels[:4] == pytest.approx([0.5, 1.5, 2.5, 3.5], abs=1e-6)


def test_the_quartic_oscillator_has_its_published_levels() -> None:
    """p^2/2 + x^2/2 + x^4/10: Hioe and Montroll, J. Math. Phys. 16, 1945 (1975)."""
    fit = fit_quartic(X, X**2 / 2 + 0.1 * X**4, 0.0, 1.0)
    assert fit is not None
    assert fit.zero_point == pytest.approx(0.559146, abs=1e-6)
    assert fit.fundamental == pytest.approx(1.769503 - 0.559146, abs=1e-6)
    assert fit.phonon_energy == pytest.approx(1.0, abs=1e-6)
    assert fit.fit_rmse < 1e-9


def test_a_displaced_curve_has_the_same_levels_and_its_own_minimum() -> None:
    def curve(x: np.ndarray) -> np.ndarray:
        return np.asarray(x**2 / 2 - 0.05 * x**3 + 0.01 * x**4)

    one = fit_quartic(X, curve(X), 0.0, 1.0)
    other = fit_quartic(X + 3.0, curve(X) + 7.0, 3.0, 1.0)
    assert one is not None
    assert other is not None
    assert other.minimum == pytest.approx(one.minimum + 3.0, abs=1e-6)
    assert other.fundamental == pytest.approx(one.fundamental, abs=1e-6)
    assert np.polynomial.Polynomial(other.coefficients)(other.minimum) == pytest.approx(0, abs=1e-8)


def test_of_two_wells_the_one_that_was_asked_for_is_described() -> None:
    double = 0.05 * (X**2 - 9.0) ** 2
    for near in (-3.0, 3.0):
        fit = fit_quartic(X, double, near, 1.0)
        assert fit is not None
        assert fit.minimum == pytest.approx(near, abs=1e-6)


def test_levels_that_the_sampled_range_does_not_hold_are_not_given() -> None:
    narrow = np.linspace(-1.2, 1.2, 9)
    fit = fit_quartic(narrow, narrow**2 / 2, 0.0, 1.0)
    assert fit is not None
    assert fit.fundamental is None


def test_a_curve_without_a_minimum_or_with_few_points_has_no_fit() -> None:
    assert fit_quartic(X, X, 0.0, 1.0) is None
    assert fit_quartic(X[:5], X[:5] ** 2, 0.0, 1.0) is None


def parabola(origin: float) -> Anharmonic:
    fit = fit_quartic(X, (X - origin) ** 2 / 2, origin, 1.0)
    assert fit is not None
    return fit


def test_two_parabolas_cross_where_marcus_says() -> None:
    reorganisation, energy = 0.5 * 2.0**2, 0.7
    height = crossing_height(parabola(0.0), parabola(2.0), energy, BOX)
    expected = (reorganisation - energy) ** 2 / 4 / reorganisation
    assert height == pytest.approx(expected, abs=1e-6)


def test_a_crossing_beyond_the_samples_is_none() -> None:
    assert crossing_height(parabola(0.0), parabola(0.1), 3.0, BOX) is None
