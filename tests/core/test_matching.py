from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation

from defect_mf_flows.campaign import MatchSettings, StartSettings
from defect_mf_flows.core.matching import (
    LOCAL_RADIUS,
    SameMinimum,
    deviation,
    shortest_bonds,
    soap_distance,
    soap_vectors,
    symmetric_deviation,
)
from defect_mf_flows.core.minima import unique_minima
from defect_mf_flows.core.starts import StartMaker, nearest_neighbours
from defect_mf_flows.schemas.defect import Defect, StartStructure

SHIFTS = st.lists(st.floats(-1, 1), min_size=3, max_size=3)

#: TRAPS: the same minimum comes out below this, relaxation noise included.
SAME = 2e-8


@pytest.fixture(scope="module")
def geometry(make_start: Callable[..., StartStructure]) -> Structure:
    """A geometry without any symmetry left."""
    return make_start(0, 5).structure


@pytest.fixture(scope="module")
def dimer(vacancy: Defect) -> Structure:
    options = StartSettings(distortions=[], rattle=0.01)
    maker = StartMaker(vacancy, charge=0, spin=None, settings=options, seed=1)
    return maker.reference()[-1].structure


def distance(one: Structure, other: Structure, site: list[float], moved: list[float]) -> float:
    return soap_distance(soap_vectors([one], site)[0], soap_vectors([other], moved)[0])


@settings(max_examples=10)
@given(shift=SHIFTS)
def test_a_translated_minimum_is_the_same(
    geometry: Structure, vacancy: Defect, shift: list[float]
) -> None:
    moved = Structure(geometry.lattice, geometry.species, geometry.frac_coords + shift)
    site = list(np.array(vacancy.site) + shift)
    assert distance(geometry, moved, vacancy.site, site) < SAME


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31))
def test_a_rotated_minimum_is_the_same(geometry: Structure, vacancy: Defect, seed: int) -> None:
    rotation = Rotation.random(random_state=seed).as_matrix()
    turned = Structure(
        Lattice(geometry.lattice.matrix @ rotation.T), geometry.species, geometry.frac_coords
    )
    assert distance(geometry, turned, vacancy.site, vacancy.site) < SAME


def test_the_cell_in_which_an_atom_is_written_down_does_not_matter(
    geometry: Structure, vacancy: Defect
) -> None:
    cells = np.random.default_rng(1).integers(-2, 3, size=(len(geometry), 3))
    other = Structure(geometry.lattice, geometry.species, geometry.frac_coords + cells)
    one, two = soap_vectors([geometry, other], vacancy.site)
    assert soap_distance(one, two) < 1e-12


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31))
def test_a_minimum_with_like_atoms_exchanged_is_the_same(
    geometry: Structure, vacancy: Defect, seed: int
) -> None:
    order = np.random.default_rng(seed).permutation(len(geometry))
    shuffled = Structure.from_sites([geometry[int(i)] for i in order])
    assert distance(geometry, shuffled, vacancy.site, vacancy.site) < SAME


def test_exchanging_unlike_atoms_makes_another_environment(
    geometry: Structure, vacancy: Defect
) -> None:
    species = [site.specie.symbol for site in geometry]
    zinc, sulphur = species.index("Zn"), species.index("S")
    species[zinc], species[sulphur] = "S", "Zn"
    swapped = Structure(geometry.lattice, species, geometry.frac_coords)
    assert distance(geometry, swapped, vacancy.site, vacancy.site) > MatchSettings().soap


def test_a_dimer_and_the_undistorted_vacancy_are_two_minima(
    vacancy: Defect, dimer: Structure
) -> None:
    vectors = soap_vectors([vacancy.supercell, dimer], vacancy.site)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1)
    assert soap_distance(*vectors) > MatchSettings().soap
    representatives, labels = unique_minima([-1.0, -1.0], vectors, same=SameMinimum())
    assert (representatives, labels) == ([0, 1], [0, 1])


def test_noise_of_a_hundredth_of_an_angstrom_does_not_split_a_minimum(
    vacancy: Defect, geometry: Structure
) -> None:
    noisy = geometry.copy()
    noisy.perturb(0.01)
    assert distance(geometry, noisy, vacancy.site, vacancy.site) < MatchSettings().soap


def test_the_energy_gate_splits_structures_that_soap_calls_equal() -> None:
    vector = np.array([1.0, 0.0])
    energies = [-1.00, -1.02, +7.0, -1.01]
    representatives, labels = unique_minima(
        energies, np.array([vector] * 4), same=SameMinimum(soap=3e-4, energy=0.03)
    )
    assert representatives == [1, 2]
    assert labels == [0, 0, 1, 0]


def test_the_lowest_member_stands_for_its_minimum_and_minima_come_lowest_first() -> None:
    one, two = [1.0, 0.0], [0.0, 1.0]
    representatives, labels = unique_minima(
        [-1.0, -3.0, -1.01, -3.02], np.array([one, two, one, two]), same=SameMinimum()
    )
    assert representatives == [3, 2]
    assert labels == [1, 0, 1, 0]


def test_both_limits_must_hold_for_two_geometries_to_be_one_minimum() -> None:
    same = SameMinimum(soap=1e-3, energy=0.03)
    assert same(1e-3, -0.03)
    assert not same(1.1e-3, 0.0)
    assert not same(0.0, 0.031)
    assert not same(0.0, -0.031)


@settings(max_examples=10)
@example(shift=[0.0, 0.5, 0.0])
@given(shift=SHIFTS)
def test_deviation_takes_out_a_rigid_shift(
    geometry: Structure, vacancy: Defect, shift: list[float]
) -> None:
    moved = Structure(geometry.lattice, geometry.species, geometry.frac_coords + shift)
    found = deviation(geometry, moved, vacancy.site)
    assert found.rmsd == pytest.approx(0, abs=1e-9)
    assert found.max_displacement == pytest.approx(0, abs=1e-9)


def test_deviation_of_one_moved_atom_is_what_the_formula_says(vacancy: Defect) -> None:
    """One of n atoms moved by d; the mean, d/n, is taken out."""
    cell, n, d = vacancy.supercell, len(vacancy.supercell), 0.7
    moved = cell.copy()
    moved.translate_sites([0], [d, 0, 0], frac_coords=False)
    found = deviation(cell, moved, vacancy.site)
    lengths = np.array([d * (1 - 1 / n), *[d / n] * (n - 1)])
    assert found.max_displacement == pytest.approx(lengths[0])
    assert found.rmsd == pytest.approx(np.sqrt(np.mean(lengths**2)))


def test_local_deviation_counts_only_atoms_near_the_defect(zns: Structure) -> None:
    cell = zns.copy()
    cell.make_supercell([3, 1, 1])
    site = [0.0, 0.0, 0.0]
    distances = cell.lattice.get_all_distances([site], cell.frac_coords)[0]
    far, near = int(distances.argmax()), int(np.argsort(distances)[1])
    assert distances[near] < LOCAL_RADIUS < distances[far]
    found = {}
    for name, index in (("far", far), ("near", near)):
        moved = cell.copy()
        moved.translate_sites([index], [0.5, 0, 0], frac_coords=False)
        found[name] = deviation(cell, moved, site)
    assert found["far"].rmsd == pytest.approx(found["near"].rmsd)
    assert found["far"].local_rmsd < 0.05 < found["near"].local_rmsd


def test_deviation_refuses_other_atoms(vacancy: Defect) -> None:
    other = vacancy.supercell.copy()
    other.replace(0, "Cd")
    with pytest.raises(ValueError, match="same atoms"):
        deviation(vacancy.supercell, other, vacancy.site)


def mirrored(structure: Structure, site: list[float]) -> Structure:
    """The structure after the mirror x <-> y of the tetrahedral site's point group."""
    relative = structure.frac_coords - np.array(site)
    image = relative[:, [1, 0, 2]] + np.array(site)
    # Atoms back in the order of the unrelaxed positions that they now occupy.
    order = []
    for original in structure.frac_coords:
        delta = image - original
        order.append(int(np.linalg.norm(delta - np.round(delta), axis=1).argmin()))
    assert sorted(order) == list(range(len(order)))
    return Structure(structure.lattice, structure.species, image[order])


def test_two_symmetry_copies_of_one_minimum_do_not_deviate(vacancy: Defect) -> None:
    structure = vacancy.supercell.copy()
    # One neighbour pulled in along x: its mirror image has it pulled in along y.
    for index in nearest_neighbours(vacancy)[:1]:
        structure.translate_sites([index], [0.35, 0.05, 0.0], frac_coords=False)
    copy = mirrored(structure, vacancy.site)
    assert deviation(structure, copy, vacancy.site).max_displacement > 0.2
    found = symmetric_deviation(structure, copy, vacancy.site)
    assert found.max_displacement < 0.02
    assert found.rmsd < 0.01


def test_symmetry_does_not_hide_a_real_difference(vacancy: Defect, dimer: Structure) -> None:
    found = symmetric_deviation(vacancy.supercell, dimer, vacancy.site)
    assert found.max_displacement > 0.3
    direct = deviation(vacancy.supercell, dimer, vacancy.site)
    assert found.rmsd <= direct.rmsd


def test_shortest_bonds_are_sorted_distances_between_the_neighbours(vacancy: Defect) -> None:
    neighbours = nearest_neighbours(vacancy)
    bonds = shortest_bonds(vacancy.supercell, neighbours)
    # Sulphur atoms of zinc blende are a/sqrt(2) apart.
    assert bonds == pytest.approx([5.4093 / np.sqrt(2)] * 6, abs=1e-3)
    moved = vacancy.supercell.copy()
    moved.translate_sites([neighbours[0]], [0.2, 0.0, 0.0], frac_coords=False)
    changed = shortest_bonds(moved, neighbours)
    assert changed == sorted(changed)
    assert changed[0] < bonds[0] < changed[-1]
