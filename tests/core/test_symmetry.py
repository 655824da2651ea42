from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation

from defect_mf_flows.core.symmetry import Geometry, Operation, displacement, operations_of
from defect_mf_flows.schemas.defect import Defect

RADIUS = 5.0
SHIFTS = st.lists(st.floats(-1, 1), min_size=3, max_size=3)


def difference(one: Structure, other: Structure, *rest: Any, radius: float) -> float:
    return displacement(Geometry.of(one), Geometry.of(other), *rest, radius=radius)


@pytest.fixture(scope="module")
def operations(vacancy: Defect) -> list[Operation]:
    return operations_of(vacancy.supercell)


@pytest.fixture(scope="module")
def distorted(vacancy: Defect) -> Structure:
    cell = vacancy.supercell.copy()
    shifts = np.random.default_rng(3).normal(scale=0.08, size=(len(cell), 3))
    places = cell.cart_coords + shifts
    return Structure(cell.lattice, cell.species, places, coords_are_cartesian=True)


def image(structure: Structure, operation: Operation, seed: int, shift: list[float]) -> Structure:
    """A symmetry copy with its atoms shuffled and all of it shifted."""
    order = np.random.default_rng(seed).permutation(len(structure))
    places = operation(structure.frac_coords)[order] + np.array(shift)
    return Structure(structure.lattice, [structure.species[i] for i in order], places)


def test_a_tetrahedral_vacancy_has_the_24_operations_of_its_site(
    operations: list[Operation], vacancy: Defect
) -> None:
    assert len(operations) == 24
    assert np.allclose(operations[0].rotation, np.eye(3))
    for operation in operations:
        moved = operation(np.array([vacancy.site])) - vacancy.site
        assert np.allclose(moved, np.round(moved), atol=1e-6), "the site stays"


@settings(max_examples=20)
@given(number=st.integers(0, 23), seed=st.integers(0, 2**31), shift=SHIFTS)
def test_copies_of_a_geometry_do_not_differ(
    distorted: Structure,
    vacancy: Defect,
    operations: list[Operation],
    number: int,
    seed: int,
    shift: list[float],
) -> None:
    """Any operation, any order of atoms, any rigid shift that a relaxation drifts by."""
    small = [0.01 * x for x in shift]
    copy = image(distorted, operations[number], seed, small)
    found = difference(distorted, copy, vacancy.site, operations, radius=RADIUS)
    assert found < 1e-6


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31))
def test_a_rotated_crystal_has_the_same_displacements(
    distorted: Structure, vacancy: Defect, operations: list[Operation], seed: int
) -> None:
    rotation = Rotation.random(random_state=seed).as_matrix()
    lattice = Lattice(vacancy.supercell.lattice.matrix @ rotation.T)
    turned = [Structure(lattice, s.species, s.frac_coords) for s in (vacancy.supercell, distorted)]
    plain = difference(vacancy.supercell, distorted, vacancy.site, operations, radius=RADIUS)
    found = difference(*turned, vacancy.site, operations, radius=RADIUS)
    assert plain > 0.05
    assert found == pytest.approx(plain, abs=1e-6)


def test_without_the_operation_the_copies_differ(
    distorted: Structure, vacancy: Defect, operations: list[Operation]
) -> None:
    copy = image(distorted, operations[7], 1, [0, 0, 0])
    assert difference(distorted, copy, vacancy.site, operations[:1], radius=RADIUS) > 0.05


def test_an_exchange_of_unlike_atoms_matches_nothing(
    vacancy: Defect, operations: list[Operation]
) -> None:
    cell = vacancy.supercell
    symbols = [site.specie.symbol for site in cell]
    zinc, sulphur = symbols.index("Zn"), symbols.index("S")
    symbols[zinc], symbols[sulphur] = "S", "Zn"
    other = Structure(cell.lattice, symbols, cell.frac_coords)
    found = difference(cell, other, vacancy.site, operations, radius=RADIUS)
    assert found > 1.0


def test_atoms_beyond_the_radius_do_not_count(vacancy: Defect, operations: list[Operation]) -> None:
    cell = vacancy.supercell.copy()
    distances = cell.lattice.get_all_distances([vacancy.site], cell.frac_coords)[0]
    farthest = int(distances.argmax())
    moved = cell.copy()
    moved.translate_sites([farthest], [0.4, 0, 0], frac_coords=False)
    just_below = float(distances[farthest]) - 0.01
    near = difference(cell, moved, vacancy.site, operations, radius=just_below)
    all_of_it = difference(cell, moved, vacancy.site, operations, radius=just_below + 1)
    assert near < 0.01 < 0.3 < all_of_it
