"""Costs and failures in lines."""

from __future__ import annotations

from defect_mf_flows.report.spent import spent_lines
from defect_mf_flows.results.spent import Spent


def test_each_fidelity_has_a_line_and_failures_one_of_their_own():
    lines = spent_lines(
        [
            Spent("gfn1", 49, 541, 503.2, {}),
            Spent("gfn2", 28, 1, 363.0, {"scf_not_converged": 20, "exploded": 4}),
        ]
    )
    assert lines == [
        "spent: gfn1 541 calls in 49 calculations, 503 core-seconds",
        "spent: gfn2 1 call in 28 calculations, 363 core-seconds",
        "failed calculations: gfn2 24 of 28 (20 scf not converged, 4 exploded)",
    ]


def test_without_calculations_there_is_nothing_to_say():
    assert spent_lines([]) == []
