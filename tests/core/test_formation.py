import pytest

from defect_mf_flows.core.formation import crossing, crossings, negative_u, stable_charges

POSITIVE_U = {1: 0.0, 0: 1.0, -1: 3.0}
NEGATIVE_U = {2: 6.650, 1: 8.746, 0: 10.109}


def test_levels_are_where_formation_energies_are_equal():
    assert crossing(POSITIVE_U, 1, 0) == 1.0
    assert crossing(POSITIVE_U, 0, -1) == 2.0
    assert crossing(NEGATIVE_U, 2, 0) == pytest.approx(1.7295)


def test_every_charge_of_a_positive_u_defect_is_stable_somewhere():
    assert stable_charges(POSITIVE_U) == [1, 0, -1]
    assert all(c.stable for c in crossings(POSITIVE_U))
    assert negative_u("v_X", POSITIVE_U) == []


def test_a_negative_u_charge_is_passed_by():
    assert stable_charges(NEGATIVE_U) == [2, 0]
    found = {(c.upper, c.lower): c.stable for c in crossings(NEGATIVE_U)}
    assert found == {(2, 1): False, (2, 0): True, (1, 0): False}
    (item,) = negative_u("v_S", NEGATIVE_U)
    assert item.charge == 1
    assert item.u == pytest.approx((10.109 - 8.746) - (8.746 - 6.650))
    assert item.lower < item.upper


def test_two_neighbouring_charges_can_be_passed_by():
    energies = {3: 0.0, 2: 5.0, 1: 9.0, 0: 4.0}
    assert stable_charges(energies) == [3, 0]
    assert [c.energy for c in crossings(energies) if c.stable] == [pytest.approx(4 / 3)]


def test_one_charge_has_no_level():
    assert crossings({0: 1.0}) == []
    assert stable_charges({0: 1.0}) == [0]
