from __future__ import annotations

import pytest

from defect_mf_flows.report.formatting import (
    ascii_number,
    defect_html,
    duration,
    milli,
    number,
    page_charge,
    start_order,
    start_text,
    state_html,
    tidy,
)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(-1.2345, "−1.234"), (0.0, "0.000"), (-0.0001, "0.000"), (None, "–"), (float("nan"), "–")],
)
def test_number(value, shown):
    assert number(value) == shown


def test_signs():
    assert number(0.5, 1, signed=True) == "+0.5"
    assert number(0.0, 1, signed=True) == "0.0"
    assert milli(-0.0123, 1, signed=True) == "−12.3"
    assert ascii_number(-1.5, 1) == "-1.5"
    assert [page_charge(q) for q in (1, 0, -2)] == ["+1", "0", "−2"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("v_Zn", "V<sub>Zn</sub>"),
        ("S_Zn", "S<sub>Zn</sub>"),
        ("Zn_i_Td_S2.34", "Zn<sub>i</sub> (Td S2.34)"),
        ("my<defect>", "my&lt;defect&gt;"),
    ],
)
def test_defects(name, shown):
    assert defect_html(name) == shown


def test_states():
    assert state_html("v_Zn|-1") == "V<sub>Zn</sub><sup>−1</sup>"
    assert state_html("odd & key") == "odd &amp; key"


def test_starts():
    assert start_text("Bond_Distortion_-30.0%") == "−30 %"
    assert start_text("Low_+0_1") == "LF 0 #1"
    assert start_text("Dimer") == "Dimer"
    assert start_text("Dimer_S19-S27") == "Dimer S19–S27"
    assert start_text("Pair_S19-S27_-40.0%") == "S19–S27 −40 %"
    assert start_text("Verified_-1_2") == "verified −1 #2"
    assert start_text("Bond_Distortion_-30.0%@11") == "−30 %, step 11"
    assert start_text("Unfinished_+2_Bond_Distortion_-30.0%") == "LF +2 −30 %, unfinished"
    labels = ["Low_+0_0", "Dimer", "Bond_Distortion_10.0%", "Bond_Distortion_-60.0%", "Unperturbed"]
    assert sorted(labels, key=start_order) == labels[::-1]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(38.26, "38.3 s"), (59.97, "1 min 0 s"), (250, "4 min 10 s"), (11520, "3 h 12 min")],
)
def test_duration(seconds, shown):
    assert duration(seconds) == shown


def test_tidy_writes_units_and_signs():
    assert tidy("moved it by 0.123 A, 0.50 A at most") == "moved it by 0.123 Å, 0.50 Å at most"
    assert tidy("off by -0.1 eV/A") == "off by −0.1 eV/Å"
    assert tidy("AB-1 and 2024-01") == "AB-1 and 2024-01"
