from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Structure

from defect_mf_flows.campaign import DefectSettings, HostSettings
from defect_mf_flows.campaign.alloys import ordered_alloy
from defect_mf_flows.core.charge import charge_of
from defect_mf_flows.core.defects import doped_entry, environment, generate_defects, make_supercell
from defect_mf_flows.errors import CampaignError
from defect_mf_flows.schemas.defect import DefectSet
from defect_mf_flows.testing import zinc_blende

HOST = HostSettings(structure="ZnS.cif", supercell=[2, 1, 1])


def alloyed_host() -> Structure:
    """Zinc blende whose anion site is S in three of four places, else Se."""
    host = zinc_blende()
    host.replace_species({"S": {"S": 0.75, "Se": 0.25}})
    return host


@pytest.fixture(scope="module")
def everything(zns: Structure) -> DefectSet:
    """Every defect that doped generates in 2x1x1 cubic cells; charges given for one of them."""
    return generate_defects(zns, host=HOST, defects=DefectSettings(charges={"v_Zn": [1, -2]}))


def test_doped_names_the_defects_and_guesses_charges_that_are_not_given(
    everything: DefectSet,
) -> None:
    assert {defect.name for defect in everything.defects} == {"v_Zn", "v_S", "Zn_S", "S_Zn"}
    assert 0 in everything.get("v_S").charges
    assert len(everything.get("v_S").charges) > 1


def test_the_campaigns_charges_replace_dopeds_guess(everything: DefectSet) -> None:
    assert everything.get("v_Zn").charges == [1, -2]


def test_host_and_defect_cells_share_one_lattice_and_are_neutral(everything: DefectSet) -> None:
    host = everything.host.supercell
    assert len(host) == 16
    assert sorted(host.lattice.abc) == pytest.approx([5.4093, 5.4093, 2 * 5.4093])
    for defect in everything.defects:
        assert np.allclose(defect.supercell.lattice.matrix, host.lattice.matrix)
        assert charge_of(defect.supercell) == charge_of(host) == 0


@pytest.mark.parametrize(
    ("name", "zinc", "sulphur"), [("v_Zn", 7, 8), ("v_S", 8, 7), ("Zn_S", 9, 7), ("S_Zn", 7, 9)]
)
def test_each_defect_removes_and_adds_what_its_name_says(
    everything: DefectSet, name: str, zinc: int, sulphur: int
) -> None:
    composition = everything.get(name).supercell.composition
    assert (composition["Zn"], composition["S"]) == (zinc, sulphur)


def test_the_site_is_where_the_host_has_the_atom_that_the_vacancy_lacks(
    everything: DefectSet,
) -> None:
    vacancy, host = everything.get("v_Zn"), everything.host.supercell
    distances = host.lattice.get_all_distances([vacancy.site], host.frac_coords)[0]
    assert distances.min() == pytest.approx(0, abs=1e-4)
    assert host[int(distances.argmin())].specie.symbol == "Zn"
    own = vacancy.supercell
    assert own.lattice.get_all_distances([vacancy.site], own.frac_coords).min() > 2.0
    # Zinc blende: the bond is sqrt(3)/4 of the lattice parameter.
    assert vacancy.neighbour_distance == pytest.approx(np.sqrt(3) / 4 * 5.4093, abs=1e-3)


def test_only_the_included_defects_are_kept(defect_set: DefectSet) -> None:
    assert [defect.name for defect in defect_set.defects] == ["v_Zn"]


@pytest.mark.parametrize(
    "settings",
    [
        {"include": ["v_Zn", "v_Te"]},
        {"include": ["v_Zn"], "charges": {"v_Te": [0]}},
        {"charges": {"v_Te": [0]}},
        {"spin": {"v_Te": {0: 1}}},
    ],
    ids=str,
)
def test_a_defect_that_doped_does_not_generate_is_refused_with_those_it_does(
    zns: Structure, settings: dict
) -> None:
    with pytest.raises(CampaignError, match=r"generates no v_Te .* choose from .*v_Zn"):
        generate_defects(zns, host=HOST, defects=DefectSettings(**settings))


def test_oxidation_states_of_the_file_do_not_reach_the_cells(zns: Structure) -> None:
    ionic = zns.copy()
    ionic.add_oxidation_state_by_element({"Zn": 2, "S": -2})
    made = generate_defects(ionic, host=HOST, defects=DefectSettings(include=["v_Zn"]))
    assert charge_of(made.host.supercell) == charge_of(made.host.primitive) == 0
    assert charge_of(made.get("v_Zn").supercell) == 0


def test_the_same_host_always_has_the_same_hash(zns: Structure, everything: DefectSet) -> None:
    again = generate_defects(zns, host=HOST, defects=DefectSettings(include=["v_S"]))
    assert again.host.structure_hash == everything.host.structure_hash


def test_supercells_take_repeats_and_matrices(zns: Structure) -> None:
    by_repeats = make_supercell(zns, [2, 1, 1])
    by_matrix = make_supercell(zns, [[2, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert by_repeats == by_matrix
    assert len(make_supercell(zns, [[-1, 1, 1], [1, -1, 1], [1, 1, -1]])) == 4 * len(zns)


@pytest.mark.parametrize("charge", [-2, 0, 1])
def test_dopeds_entry_is_rebuilt_for_the_charge_that_is_asked_for(
    everything: DefectSet, charge: int
) -> None:
    entry = doped_entry(everything.get("v_Zn"), charge=charge)
    assert entry.charge_state == charge
    assert entry.name == {-2: "v_Zn_-2", 0: "v_Zn_0", 1: "v_Zn_+1"}[charge]


def test_every_environment_of_an_alloy_is_a_defect_once() -> None:
    """Counted independently: the four anions that pymatgen's neighbour list finds nearest."""
    alloy = ordered_alloy(alloyed_host(), [2, 1, 1], seed=1)
    zinc = [i for i, site in enumerate(alloy) if site.specie.symbol == "Zn"]
    expected = set()
    for i in zinc:
        near = sorted(alloy.get_neighbors(alloy[i], 4.0), key=lambda s: s.nn_distance)[:4]
        counts = Counter(site.specie.symbol for site in near)
        expected.add("v_Zn_" + "".join(f"{s}{n}" for s, n in sorted(counts.items())))
    assert len(expected) > 1, "this filling has zinc sites of several kinds"
    made = generate_defects(
        alloy,
        host=HostSettings(structure=Path("h.cif"), supercell=[1, 1, 1]),
        defects=DefectSettings(environments=True),
    )
    names = [defect.name for defect in made.defects]
    assert len(names) == len(set(names))
    assert {name for name in names if name.startswith("v_Zn")} == expected
    for defect in made.defects:
        if defect.name.startswith("v_Zn"):
            assert defect.name == f"v_Zn_{environment(made.host.supercell, defect.site)}"
            assert len(defect.supercell) == len(alloy) - 1


def test_an_environment_that_the_filling_lacks_is_named() -> None:
    alloy = ordered_alloy(alloyed_host(), [1, 1, 1], seed=1)
    with pytest.raises(CampaignError, match=r"generates no v_Zn_Se4 .* choose from .*v_Zn_S"):
        generate_defects(
            alloy,
            host=HostSettings(structure=Path("h.cif"), supercell=[1, 1, 1]),
            defects=DefectSettings(environments=True, include=["v_Zn_Se4"]),
        )
