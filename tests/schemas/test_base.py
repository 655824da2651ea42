"""What all documents share: versions, and structures read back quickly."""

from __future__ import annotations

import json

import pytest
from pymatgen.core import Lattice, Structure

from defect_mf_flows.core.charge import charge_of, with_charge
from defect_mf_flows.errors import VersionError
from defect_mf_flows.schemas.base import SCHEMA_VERSION, stored_structure
from defect_mf_flows.schemas.calculation import BandEdges


def stored(structure):
    return json.loads(json.dumps(structure.as_dict()))


@pytest.mark.parametrize("charge", [0, -1, 2])
def test_a_stored_structure_is_the_one_pymatgen_reads(zns, charge):
    content = stored(with_charge(zns, charge))
    quick, slow = stored_structure(content), Structure.from_dict(content)
    assert quick == slow
    assert charge_of(quick) == charge_of(slow) == charge
    assert quick.properties == slow.properties
    assert (quick.frac_coords == slow.frac_coords).all()
    assert (quick.lattice.matrix == slow.lattice.matrix).all()
    assert stored(quick) == content


def test_a_flipped_charge_of_a_stored_structure_is_not_mended(zns):
    from defect_mf_flows.errors import ChargeError

    content = stored(with_charge(zns, -1))
    content["charge"] = 1
    with pytest.raises(ChargeError, match="in one place"):
        charge_of(stored_structure(content))


@pytest.mark.parametrize(
    "structure",
    [
        Structure(Lattice.cubic(4), ["Zn2+", "S2-"], [[0, 0, 0], [0.5, 0.5, 0.5]]),
        Structure(Lattice.cubic(4), [{"Zn": 0.5, "Cd": 0.5}], [[0, 0, 0]]),
        Structure(Lattice.cubic(4), ["Zn"], [[0, 0, 0]], site_properties={"magmom": [1.0]}),
        Structure(Lattice.cubic(4, pbc=(True, True, False)), ["Zn"], [[0, 0, 0]]),
        Structure(Lattice.cubic(4), ["Zn"], [[0, 0, 0]], labels=["Zn_1"]),
    ],
    ids=["oxidation", "disorder", "site properties", "slab", "labels"],
)
def test_what_is_not_plain_is_read_by_pymatgen(structure):
    content = stored(structure)
    assert stored(stored_structure(content)) == stored(Structure.from_dict(content))


def test_a_newer_document_is_refused_before_its_fields():
    with pytest.raises(VersionError, match="BandEdges"):
        BandEdges(schema_version=SCHEMA_VERSION + 1, vbm=0.0, cbm=1.0, spin_orbit=True)
    assert BandEdges(vbm=0.0, cbm=1.0).schema_version == SCHEMA_VERSION
