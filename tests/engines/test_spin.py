"""Unpaired electrons: what the defect says goes before the policy, and parity before both."""

from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure

from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.engines.spin import unpaired_of
from defect_mf_flows.errors import ChargeError


def cell(charge: int) -> Structure:
    """LiH: four electrons less the charge."""
    return with_charge(Structure(Lattice.cubic(4), ["Li", "H"], [[0, 0, 0], [0.5] * 3]), charge)


@pytest.mark.parametrize(
    ("charge", "spin", "policy", "expected"),
    [
        (0, None, "low", 0),
        (1, None, "low", 1),
        (-1, None, "low", 1),
        (0, None, "none", 0),
        (1, None, "free", None),
        (0, 2, "low", 2),
        (0, 2, "free", 2),
        (1, 3, "none", 3),
    ],
)
def test_the_defect_s_own_number_goes_before_the_policy(charge, spin, policy, expected):
    assert unpaired_of(cell(charge), spin, policy, where="here") == expected


@pytest.mark.parametrize(
    ("charge", "spin", "policy"),
    [(1, None, "none"), (1, 2, "low"), (0, 1, "free"), (0, -2, "low")],
)
def test_what_a_cell_cannot_have_is_refused(charge, spin, policy):
    with pytest.raises(ChargeError, match=r"here: .* unpaired electrons"):
        unpaired_of(cell(charge), spin, policy, where="here")
