"""Which candidates the high fidelity has computed already."""

from __future__ import annotations

import pytest

from defect_mf_flows.jobs.candidates import labelled_already
from defect_mf_flows.schemas.calculation import Failure, FailureReason
from defect_mf_flows.schemas.search import Candidate


@pytest.fixture(scope="module")
def label(make_start, compute):
    return compute(make_start(-1, 1), method="GFN2-xTB", fidelity="high", uuid="label")


def candidate(structure, origin="low"):
    return Candidate(
        origin=origin, round=1, rank=0, start="s", energy_model=0.0, structure=structure
    )


def test_a_label_at_the_same_geometry_and_charge_is_found(label):
    same = candidate(label.frames[0].structure)
    assert labelled_already([same], [("v_Zn", -1)], [label], "high") == ["label"]


def test_a_label_of_another_charge_defect_or_fidelity_is_not(label):
    same = candidate(label.frames[0].structure)
    for owner in (("v_Zn", 0), ("v_S", -1)):
        assert labelled_already([same], [owner], [label], "high") == [None]
    assert labelled_already([same], [("v_Zn", -1)], [label], "low") == [None]


def test_a_label_of_another_geometry_is_not(label, make_start):
    other = candidate(make_start(-1, 2).structure)
    assert labelled_already([other], [("v_Zn", -1)], [label], "high") == [None]


def test_a_label_that_failed_is_computed_again(label):
    failure = Failure(
        stage="static",
        reason=FailureReason.SCF,
        message="not converged",
        fidelity="high",
        defect="v_Zn",
        charge=-1,
        start=label.start,
    )
    failed = label.model_copy(update={"failure": failure})
    same = candidate(label.frames[0].structure)
    assert labelled_already([same], [("v_Zn", -1)], [failed], "high") == [None]
