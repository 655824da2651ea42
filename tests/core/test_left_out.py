"""Whoever has too few labels is told what became of the others."""

from __future__ import annotations

from defect_mf_flows.core.left_out import told_left_out
from defect_mf_flows.schemas.calculation import Failure, FailureReason


def failure(reason: FailureReason, message: str, **changes: object) -> Failure:
    values = {"fidelity": "gfn2", "defect": "v_Mg", "charge": -2, "start": "Dimer@3"}
    return Failure(stage="static", reason=reason, message=message, **{**values, **changes})


def test_the_commonest_reason_comes_first_with_an_example() -> None:
    excluded = [
        failure(FailureReason.EXPLODED, "force 900 eV/A"),
        failure(FailureReason.SCF, "SCF not converged in 250 cycles"),
        failure(FailureReason.SCF, "SCF not converged in 251 cycles", charge=0),
        failure(FailureReason.SCF, "another fidelity's", fidelity="gfn1"),
    ]
    assert told_left_out(excluded, "gfn2") == (
        "of gfn2, 3 were left out (scf_not_converged 2, exploded 1; v_Mg -2, Dimer@3: SCF not "
        "converged in 250 cycles)."
    )


def test_the_host_has_no_defect() -> None:
    excluded = [failure(FailureReason.SCF, "no", defect=None, charge=0, start="host")]
    assert "(scf_not_converged 1; host: no)" in told_left_out(excluded, "gfn2")


def test_nothing_left_out_is_said() -> None:
    assert told_left_out([], "gfn2") == "nothing of gfn2 was left out."
