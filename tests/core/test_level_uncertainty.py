"""Draws against the closed forms of the normal distribution."""

import numpy as np
import pytest
from scipy.stats import norm

from defect_mf_flows.core.level_uncertainty import MemberEnergies, draw, level_uncertainty

#: Deviations of three members, orthogonal to each other and of unit variance (n - 1).
ONE = np.array([1.0, -1.0, 0.0])
OTHER = np.array([1.0, 1.0, -2.0]) / np.sqrt(3)
SURE = 0.02  # of a share from 10,000 draws, four standard deviations


def members(centre: float, deviation: np.ndarray) -> MemberEnergies:
    """One minimum; the first member says ``centre``."""
    return MemberEnergies((centre + deviation - deviation[0])[:, None])


def told(charges, *, gap=3.0, vbm=0.0, scale=1.0, source="model"):
    found = level_uncertainty(
        "v_Zn", source, charges, vbm=vbm, gap=gap, scale=scale, seed=1, draws=10_000
    )
    assert found is not None
    return found


def by_pair(found):
    return {(lv.from_charge, lv.to_charge): lv for lv in found.levels}


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_a_level_is_as_wide_as_the_difference_of_its_energies(scale):
    found = told({0: members(0.0, 0.2 * ONE), -1: members(1.5, 0.1 * OTHER)}, scale=scale)
    level = by_pair(found)[0, -1]
    assert level.energy == pytest.approx(1.5)
    assert level.mean == pytest.approx(1.5, abs=0.02 * scale)
    assert level.sd == pytest.approx(scale * np.hypot(0.2, 0.1), rel=0.03)
    assert level.interval[1] - level.interval[0] == pytest.approx(2 * 1.96 * level.sd, rel=0.04)
    assert level.stable == 1.0


def test_what_the_members_agree_on_has_no_width():
    """Their common shift of both charges is no uncertainty of the level."""
    found = told({0: members(0.0, 5.0 * ONE), -1: members(1.0, 5.0 * ONE)})
    assert by_pair(found)[0, -1].sd == pytest.approx(0.0, abs=1e-9)


def test_a_level_over_two_charges_is_half_as_wide():
    charges = {2: members(0.0, 0.2 * ONE), 0: members(2.0, 0.0 * ONE)}
    assert by_pair(told(charges))[2, 0].sd == pytest.approx(0.1, rel=0.03)


def test_the_valence_band_maximum_is_the_zero():
    charges = {0: members(0.0, 0.1 * ONE), -1: members(1.5, 0.1 * OTHER)}
    assert by_pair(told(charges, vbm=0.4))[0, -1].energy == pytest.approx(1.1)


@pytest.mark.parametrize("u", [-0.1, 0.0, 0.15])
def test_the_order_of_two_levels_is_known_as_well_as_their_difference(u):
    """U = E(+1) + E(-1) - 2 E(0) is normal: its sign is the order, and decides on charge 0."""
    width = 0.1
    charges = {
        1: members(0.0, 0.0 * ONE),
        0: members(1.0, -0.5 * width * ONE),
        -1: members(2.0 + u, 0.0 * ONE),
    }
    found = told(charges)
    positive = norm.cdf(u / width)  # probability of U > 0
    order = next(o for o in found.orders if {o.lower, o.upper} == {(1, 0), (0, -1)})
    share = order.probability if order.lower == (1, 0) else 1 - order.probability
    assert share == pytest.approx(positive, abs=SURE)
    assert order.probability >= 0.5
    shares = {c.charge: c for c in found.charges}
    assert shares[0].ever == pytest.approx(positive, abs=SURE)
    assert shares[1].ever == shares[-1].ever == 1.0
    levels = by_pair(found)
    assert levels[1, 0].stable == pytest.approx(positive, abs=SURE)
    if (1, -1) in levels:
        assert levels[1, -1].stable == pytest.approx(1 - positive, abs=SURE)
    assert ((1, -1) in levels) == (u <= 0)


def test_a_charge_beyond_the_gap_is_stable_nowhere_in_it():
    """The level (0/-1) lies 0.1 below the conduction band, give or take 0.2."""
    charges = {0: members(0.0, 0.0 * ONE), -1: members(2.9, 0.2 * ONE)}
    shares = {c.charge: c for c in told(charges, gap=3.0).charges}
    assert shares[-1].ever == 1.0
    assert shares[-1].in_gap == pytest.approx(norm.cdf(0.1 / 0.2), abs=SURE)
    assert shares[0].in_gap == 1.0


def test_the_lowest_of_two_equal_minima_is_lower_than_either():
    """E[min] of two normals of equal mean: -sd of their difference / sqrt(2 pi)."""
    energies = np.column_stack([0.1 * (ONE - ONE[0]), 0.1 * (OTHER - OTHER[0])])
    charges = {0: MemberEnergies(energies), -1: members(1.0, 0.0 * ONE)}
    level = by_pair(told(charges))[0, -1]
    drop = np.hypot(0.1, 0.1) / np.sqrt(2 * np.pi)
    assert level.energy == pytest.approx(1.0)
    assert level.mean == pytest.approx(1.0 + drop, abs=0.005)


def test_verified_levels_move_only_where_an_open_minimum_may_lie_deeper():
    """The second minimum lies 0.1 above, known to 0.1: deeper in 16 % of the draws."""
    energies = np.column_stack([0.0 * ONE, 0.1 + 0.1 * (ONE - ONE[0])])
    risky = MemberEnergies(energies, verified=-7.0, anchor=0, open=(1,))
    safe = MemberEnergies(energies, verified=-7.0, anchor=0)
    other = MemberEnergies(energies, verified=-6.0, anchor=0)
    sure = by_pair(told({0: safe, -1: other}, source="hf"))[0, -1]
    assert (sure.energy, sure.sd) == (pytest.approx(1.0), pytest.approx(0.0))
    drawn = risky.lowest(draw(energies, scale=1.0, draws=10_000, rng=np.random.default_rng(2)))
    assert np.mean(drawn < -7.0) == pytest.approx(norm.cdf(-1.0), abs=SURE)
    level = by_pair(told({0: risky, -1: other}, source="hf"))[0, -1]
    assert level.energy == pytest.approx(1.0)
    assert level.mean > 1.0


def test_a_verified_level_is_that_of_the_verified_energies_whatever_lies_open():
    """The model puts the open minimum 0.3 below: the draws go there, the level does not."""
    energies = np.column_stack([0.0 * ONE, -0.3 + 0.1 * (ONE - ONE[0])])
    deep = MemberEnergies(energies, verified=-7.0, anchor=0, open=(1,))
    sure = MemberEnergies(energies, verified=-6.0, anchor=0)
    level = by_pair(told({0: deep, -1: sure}, source="hf"))[0, -1]
    assert level.energy == pytest.approx(1.0)
    assert level.mean == pytest.approx(1.3, abs=0.01)


def test_without_an_anchor_the_models_energy_itself_is_compared():
    energies = np.array([[-7.2], [-7.2]])
    found = MemberEnergies(energies, verified=-7.0, open=(0,)).lowest(energies[:1])
    assert found == pytest.approx([-7.2])


def test_one_charge_or_one_member_tells_nothing():
    options = {"vbm": 0.0, "gap": 1.0, "scale": 1.0, "seed": 1}
    one = members(0.0, ONE)
    assert level_uncertainty("v_Zn", "model", {0: one}, **options) is None
    lone = {q: MemberEnergies(np.zeros((1, 1))) for q in (0, 1)}
    assert level_uncertainty("v_Zn", "model", lone, **options) is None


def test_the_same_seed_gives_the_same_document():
    charges = {0: members(0.0, 0.2 * ONE), -1: members(1.5, 0.1 * OTHER)}
    assert told(charges) == told(charges)
