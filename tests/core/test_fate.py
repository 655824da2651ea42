from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Structure

from defect_mf_flows.campaign import DefectSettings, HostSettings
from defect_mf_flows.core.defects import generate_defects
from defect_mf_flows.core.fate import fate_of, parts_of
from defect_mf_flows.core.starts import nearest_neighbours, with_bond
from defect_mf_flows.schemas.defect import Defect, DefectSet
from defect_mf_flows.schemas.search import FateKind
from defect_mf_flows.testing import zinc_blende


@pytest.fixture(scope="module")
def made() -> DefectSet:
    return generate_defects(
        zinc_blende(),
        host=HostSettings(structure=Path("h.cif"), supercell=[2, 2, 2]),
        defects=DefectSettings(include=["v_Zn", "S_Zn"]),
    )


@pytest.fixture(scope="module")
def host(made: DefectSet) -> Structure:
    return made.host.supercell


@pytest.fixture(scope="module")
def zinc_vacancy(made: DefectSet) -> Defect:
    return made.get("v_Zn")


def moved_to(structure: Structure, atom: int, place: np.ndarray) -> Structure:
    places = structure.frac_coords.copy()
    places[atom] = place
    return Structure(structure.lattice, structure.species, places)


def zinc_near(defect: Defect, distance: float) -> int:
    """Zinc whose distance from the site is nearest to one."""
    cell = defect.supercell
    lengths = cell.lattice.get_all_distances([defect.site], cell.frac_coords)[0]
    zinc = [i for i, site in enumerate(cell) if site.specie.symbol == "Zn"]
    return min(zinc, key=lambda i: abs(lengths[i] - distance))


def test_an_unrelaxed_defect_is_at_its_site(zinc_vacancy: Defect, host: Structure) -> None:
    fate, place = fate_of(zinc_vacancy.supercell, zinc_vacancy, host)
    assert (fate.kind, fate.name) == (FateKind.AT_SITE, "v_Zn")
    assert fate.distance == pytest.approx(0, abs=1e-6)
    assert np.allclose(place, zinc_vacancy.site)


def test_the_host_has_no_parts(host: Structure) -> None:
    assert parts_of(host, host, bond=2.34) == []


def test_a_dimer_across_the_vacancy_is_still_that_vacancy(
    zinc_vacancy: Defect, host: Structure
) -> None:
    """Both atoms lean far into the vacant site, and neither has left its own."""
    one, other = nearest_neighbours(zinc_vacancy)[:2]
    dimer = with_bond(zinc_vacancy.supercell, (one, other), 2.0)
    fate, _ = fate_of(dimer, zinc_vacancy, host)
    assert (fate.kind, fate.name) == (FateKind.AT_SITE, "v_Zn")


def test_a_neighbour_that_hops_into_the_vacancy_moves_the_vacancy(
    zinc_vacancy: Defect, host: Structure
) -> None:
    cell = zinc_vacancy.supercell
    hopper = zinc_near(zinc_vacancy, 3.82)
    hopped = moved_to(cell, hopper, np.array(zinc_vacancy.site))
    fate, place = fate_of(hopped, zinc_vacancy, host)
    assert (fate.kind, fate.name) == (FateKind.MIGRATED, "v_Zn")
    assert fate.distance == pytest.approx(5.4093 / np.sqrt(2), abs=0.02)
    delta = place - cell.frac_coords[hopper]
    assert np.allclose(delta - np.round(delta), 0, atol=1e-3)


@settings(max_examples=10)
@given(
    seed=st.integers(0, 2**31),
    shift=st.lists(st.floats(-0.02, 0.02), min_size=3, max_size=3),
)
def test_order_of_atoms_noise_and_drift_change_nothing(
    zinc_vacancy: Defect, host: Structure, seed: int, shift: list[float]
) -> None:
    hopper = zinc_near(zinc_vacancy, 3.82)
    hopped = moved_to(zinc_vacancy.supercell, hopper, np.array(zinc_vacancy.site))
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(hopped))
    noise = rng.normal(scale=0.08, size=(len(hopped), 3))
    places = hopped.cart_coords + noise + hopped.lattice.get_cartesian_coords(shift)
    other = Structure(
        hopped.lattice,
        [hopped.species[i] for i in order],
        places[order],
        coords_are_cartesian=True,
    )
    fate, _ = fate_of(other, zinc_vacancy, host)
    assert (fate.kind, fate.name) == (FateKind.MIGRATED, "v_Zn")


def test_a_sulphur_in_the_zinc_vacancy_is_an_antisite_beside_a_vacancy(
    zinc_vacancy: Defect, host: Structure
) -> None:
    neighbour = nearest_neighbours(zinc_vacancy)[0]
    hopped = moved_to(zinc_vacancy.supercell, neighbour, np.array(zinc_vacancy.site))
    fate, _ = fate_of(hopped, zinc_vacancy, host)
    assert (fate.kind, fate.name) == (FateKind.REARRANGED, "S_Zn + v_S")
    assert fate.distance == pytest.approx(2.34, abs=0.05)


def test_an_atom_between_two_vacant_sites_is_a_split_vacancy(
    zinc_vacancy: Defect, host: Structure
) -> None:
    atom = zinc_near(zinc_vacancy, 3.82)
    cell = zinc_vacancy.supercell
    _, picture = cell[atom].distance_and_image_from_frac_coords(zinc_vacancy.site)
    middle = 0.5 * (cell.frac_coords[atom] + np.array(zinc_vacancy.site) + picture)
    fate, _ = fate_of(moved_to(cell, atom, middle), zinc_vacancy, host)
    assert (fate.kind, fate.name) == (FateKind.REARRANGED, "Zn_i + 2 v_Zn")


def test_an_interstitial_far_from_the_vacancy_it_left_is_a_dissociation(
    zinc_vacancy: Defect, host: Structure
) -> None:
    atom = zinc_near(zinc_vacancy, 9.0)
    # The tetrahedral hole of four zinc atoms, half a cell edge along x from a zinc.
    hole = zinc_vacancy.supercell.frac_coords[atom] + np.array([0.25, 0.0, 0.0])
    fate, _ = fate_of(moved_to(zinc_vacancy.supercell, atom, hole), zinc_vacancy, host)
    assert (fate.kind, fate.name) == (FateKind.DISSOCIATED, "Zn_i + 2 v_Zn")
    assert fate.distance > 5.0


def test_an_antisite_that_leaves_its_site_is_an_interstitial_beside_a_vacancy(
    made: DefectSet, host: Structure
) -> None:
    defect = made.get("S_Zn")
    cell = defect.supercell
    assert fate_of(cell, defect, host)[0].name == "S_Zn"
    lengths = cell.lattice.get_all_distances([defect.site], cell.frac_coords)[0]
    away = cell.frac_coords[int(lengths.argmin())] + np.array([0.125, 0.125, 0.125])
    fate, _ = fate_of(moved_to(cell, int(lengths.argmin()), away), defect, host)
    assert fate.name in {"S_i + v_Zn"}
    assert fate.kind is FateKind.REARRANGED
