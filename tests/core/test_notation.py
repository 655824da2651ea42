"""How charges are written."""

from __future__ import annotations

from defect_mf_flows.core.notation import MINUS, charge_text


def test_charges_carry_their_sign_and_zero_carries_none() -> None:
    assert [charge_text(q) for q in (2, 1, 0, -1)] == ["+2", "+1", "0", "-1"]
    assert charge_text(-2, minus=MINUS) == "−2"
