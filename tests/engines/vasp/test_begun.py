"""What another campaign's relaxation has reached is kept whole, and only for the same inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from defect_mf_flows.core.charge import charge_of, with_charge
from defect_mf_flows.engines.vasp.begun import (
    BEGUN,
    Begun,
    leave_begun,
    raw_step,
    read_begun,
    same_inputs,
)
from defect_mf_flows.engines.vasp.results import CellOrder
from defect_mf_flows.schemas.calculation import CalculationKind

INPUTS = {
    "charge": -1,
    "incar": {"NELECT": 61.0, "ENCUT": 300.0, "NSW": 40, "EDIFFG": -0.02},
    "kpoints": "Gamma",
    "potcars": ["PAW_PBE Zn"],
}


@pytest.fixture
def begun(compute, make_start) -> Begun:
    done = compute(make_start(-1), kind=CalculationKind.RELAX, fmax=0.5)
    order = CellOrder.of(done.frames[0].structure)
    return Begun("an uuid", [raw_step(frame, order.indices) for frame in done.frames])


def test_steps_come_back_as_they_were_laid_in(begun: Begun, tmp_path: Path) -> None:
    assert read_begun(tmp_path) is None
    leave_begun(begun, tmp_path / "calculation")
    again = read_begun(tmp_path / "calculation")
    assert again is not None
    assert again.note == begun.note == f"step {len(begun.steps) - 1}: continues an uuid"
    assert len(again.passed) == len(begun.steps) - 1
    for one, other in zip(again.steps, begun.steps, strict=True):
        assert one.energy == other.energy
        np.testing.assert_array_equal(one.positions, other.positions)
        np.testing.assert_array_equal(one.forces, other.forces)
    assert [path.name for path in (tmp_path / "calculation").iterdir()] == [BEGUN]


def test_vasp_goes_on_where_it_stopped_with_the_charge_of_the_start(
    begun: Begun, make_start
) -> None:
    start = make_start(-1).structure
    grouped = with_charge(CellOrder.of(start).grouped(start), -1)
    there = begun.continued(grouped)
    assert charge_of(there) == -1
    assert [s.specie for s in there] == [s.specie for s in grouped]
    np.testing.assert_allclose(there.cart_coords, begun.steps[-1].positions, atol=1e-10)


def test_only_the_limits_of_a_relaxation_may_differ() -> None:
    for tag, value in {"NSW": 80, "EDIFFG": -0.01}.items():
        assert same_inputs(INPUTS, {**INPUTS, "incar": {**INPUTS["incar"], tag: value}})
    for tag, value in {"NELECT": 60.0, "ENCUT": 310.0, "LHFCALC": True}.items():
        assert not same_inputs(INPUTS, {**INPUTS, "incar": {**INPUTS["incar"], tag: value}})
    for name, value in {"charge": 0, "kpoints": "2 2 2", "potcars": ["PAW_PBE Zn_sv"]}.items():
        assert not same_inputs(INPUTS, {**INPUTS, name: value})
