"""What all documents share."""

from __future__ import annotations

import pytest

from defect_mf_flows.errors import VersionError
from defect_mf_flows.schemas.base import SCHEMA_VERSION
from defect_mf_flows.schemas.calculation import BandEdges


def test_a_newer_document_is_refused_before_its_fields():
    with pytest.raises(VersionError, match="BandEdges"):
        BandEdges(schema_version=SCHEMA_VERSION + 1, vbm=0.0, cbm=1.0, spin_orbit=True)
    assert BandEdges(vbm=0.0, cbm=1.0).schema_version == SCHEMA_VERSION
