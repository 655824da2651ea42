"""Distances at a defect, by hand for zinc blende."""

import math

import numpy as np
import pytest

from defect_mf_flows.campaign import DefectSettings, HostSettings
from defect_mf_flows.core.defects import generate_defects
from defect_mf_flows.core.environment import environment, environments
from defect_mf_flows.schemas.defect import Environment
from defect_mf_flows.testing import zinc_blende

EDGE = 5.4093
BOND, PAIR = EDGE * math.sqrt(3) / 4, EDGE / math.sqrt(2)


@pytest.fixture(scope="module")
def made():
    return generate_defects(
        zinc_blende(),
        host=HostSettings(structure="h.cif", supercell=[2, 2, 2]),
        defects=DefectSettings(include=["v_Zn", "S_Zn"]),
    )


def test_a_vacancy_is_measured_from_its_empty_site(made):
    defect = made.get("v_Zn")
    found = environment(defect.supercell, defect)
    assert found.centre is None
    assert len(set(found.neighbours)) == 4
    assert all(name.startswith("S") for name in found.neighbours)
    assert found.to_centre == pytest.approx([BOND] * 4, abs=1e-4)
    assert found.between == pytest.approx([PAIR] * 6, abs=1e-4)


def test_a_substitution_is_measured_from_its_atom(made):
    defect = made.get("S_Zn")
    at_rest = environment(defect.supercell, defect)
    assert at_rest.centre is not None
    assert at_rest.to_centre == pytest.approx([BOND] * 4, abs=1e-4)
    moved = defect.supercell.copy()
    moved.translate_sites([int(at_rest.centre[1:])], [0.1, 0, 0], frac_coords=False)
    after = environment(moved, defect)
    assert after.between == pytest.approx(at_rest.between)
    assert np.ptp(after.to_centre) > 0.1


def test_pairs_have_the_names_of_their_atoms(made):
    defect = made.get("v_Zn")
    first, second = (int(name[1:]) for name in environment(defect.supercell, defect).neighbours[:2])
    moved = defect.supercell.copy()
    vector = moved[second].distance_and_image(moved[first])[1]
    line = moved[second].frac_coords - vector - moved[first].frac_coords
    moved.translate_sites([first], 0.25 * line)
    name, length = min(environment(moved, defect).pairs(), key=lambda pair: pair[1])
    assert name == f"S{first}–S{second}"
    assert length == pytest.approx(0.75 * PAIR, abs=1e-4)


def test_a_geometry_that_is_not_there_is_left_out(made):
    defect = made.get("v_Zn")
    found = environments(defect, {"verified": defect.supercell, "model": None})
    assert set(found) == {"verified", "unrelaxed"}
    assert all(Environment.model_validate_json(e.model_dump_json()) == e for e in found.values())
