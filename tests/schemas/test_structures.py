"""Structures read back quickly are those that pymatgen reads."""

from __future__ import annotations

import json

import pytest
from pymatgen.core import Lattice, Structure

from defect_mf_flows.core.charge import charge_of, with_charge
from defect_mf_flows.schemas.structures import stored_structure, symbols_of


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


def test_symbols_come_in_the_order_of_the_sites():
    cell = Structure(Lattice.cubic(4), ["Zn2+", "S2-", "Zn"], [[0, 0, 0], [0.5] * 3, [0.2] * 3])
    assert symbols_of(cell) == ["Zn", "S", "Zn"]
    with pytest.raises(AttributeError, match="specie"):
        symbols_of(Structure(Lattice.cubic(4), [{"Zn": 0.5, "Cd": 0.5}], [[0, 0, 0]]))


def test_changing_one_structure_that_was_read_leaves_the_others(zns):
    content = stored(with_charge(zns, 0))
    one, other = stored_structure(content), stored_structure(content)
    one.replace_species({"Zn": "Cd"})
    one.add_oxidation_state_by_element({"Cd": 2, "S": -2})
    assert stored(other) == content
