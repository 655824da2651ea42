"""Remarks nobody can act on are kept back; other warnings are not."""

from __future__ import annotations

import warnings

import pytest

from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.remarks import ignore_remarks
from defect_mf_flows.testing import zinc_blende


def test_a_charged_structure_is_no_reason_to_warn_and_others_are() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ignore_remarks()
        charged = with_charge(zinc_blende(), -1)
        charged.copy()
        warnings.warn("The TorchScript type system doesn't support this", UserWarning, stacklevel=1)
        with pytest.raises(UserWarning, match="something else"):
            warnings.warn("something else", UserWarning, stacklevel=1)
