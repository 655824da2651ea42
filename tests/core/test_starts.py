from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from defect_mf_flows.campaign import DefectSettings, HostSettings, SearchSettings, StartSettings
from defect_mf_flows.core.charge import charge_of
from defect_mf_flows.core.defects import generate_defects
from defect_mf_flows.core.starts import (
    StartMaker,
    derived_seed,
    inequivalent_pairs,
    nearest_neighbours,
    with_bond,
)
from defect_mf_flows.schemas.calculation import FailureReason
from defect_mf_flows.schemas.defect import Defect, StartStructure
from defect_mf_flows.testing import zinc_blende

SETTINGS = StartSettings(distortions=[-0.4, 0.0, 0.3])


def reference(
    defect: Defect, charge: int = 0, seed: int = 1, settings: StartSettings = SETTINGS
) -> list[StartStructure]:
    return StartMaker(defect, charge=charge, spin=None, settings=settings, seed=seed).reference()


def displacements(start: StartStructure, defect: Defect) -> np.ndarray:
    """Displacement of every atom from the unrelaxed defect, A."""
    lattice = start.structure.lattice
    delta = start.structure.frac_coords - defect.supercell.frac_coords
    return (delta - np.round(delta)) @ lattice.matrix


@pytest.fixture(scope="module")
def starts(vacancy: Defect) -> list[StartStructure]:
    return reference(vacancy)


def test_there_is_one_start_per_distortion_plus_unperturbed_and_dimer(
    starts: list[StartStructure],
) -> None:
    assert [start.label for start in starts] == [
        "Unperturbed",
        "Bond_Distortion_-40.0%",
        "Bond_Distortion_0.0%",
        "Bond_Distortion_30.0%",
        "Dimer",
    ]


@pytest.mark.parametrize("charge", [-2, -1, 0, 1])
def test_every_start_carries_the_charge(vacancy: Defect, charge: int) -> None:
    made = reference(vacancy, charge)
    assert {start.charge for start in made} == {charge}
    assert {charge_of(start.structure) for start in made} == {charge}


def test_the_spin_reaches_every_start(vacancy: Defect) -> None:
    maker = StartMaker(vacancy, charge=0, spin=2, settings=SETTINGS, seed=1)
    assert {start.spin for start in maker.reference()} == {2}


def test_the_unperturbed_start_is_the_unrelaxed_defect(
    starts: list[StartStructure], vacancy: Defect
) -> None:
    assert np.allclose(displacements(starts[0], vacancy), 0)
    assert starts[0].seed is None


def test_every_distortion_has_its_own_rattle(starts: list[StartStructure], vacancy: Defect) -> None:
    """With ShakeNBreak's own seed, atoms far from the defect move alike in all starts."""
    assert len({start.seed for start in starts}) == len(starts)
    # Zinc is never a neighbour of the vacancy, so that the rattle alone moves it.
    zinc = [i for i, site in enumerate(vacancy.supercell) if site.specie.symbol == "Zn"]
    rattled = [displacements(start, vacancy)[zinc] for start in starts[1:]]
    for one, other in combinations(rattled, 2):
        assert np.linalg.norm(one, axis=1).min() > 1e-3
        assert np.linalg.norm(one - other, axis=1).min() > 1e-3


def test_the_same_seed_gives_the_same_starts_and_another_seed_others(
    starts: list[StartStructure], vacancy: Defect
) -> None:
    assert reference(vacancy) == starts
    for one, other in zip(starts[1:], reference(vacancy, seed=2)[1:], strict=True):
        assert not np.allclose(one.structure.frac_coords, other.structure.frac_coords)


def test_charges_are_rattled_apart(starts: list[StartStructure], vacancy: Defect) -> None:
    other = reference(vacancy, charge=-1)
    assert not {start.seed for start in starts[1:]} & {start.seed for start in other}


def test_rattled_starts_of_the_high_fidelity_are_not_those_of_the_surrogate_search(
    vacancy: Defect,
) -> None:
    maker = StartMaker(vacancy, charge=-1, spin=None, settings=StartSettings(), seed=1)
    made = [
        *maker.rattled(0.05),
        *maker.rattled(0.05, label="Rattled_1", salt="high"),
        *maker.rattled(0.05, label="Rattled_2", salt="high"),
    ]
    assert [start.label for start in made] == ["Rattle_0.05", "Rattled_1", "Rattled_2"]
    assert len({start.seed for start in made}) == 3
    assert all(charge_of(start.structure) == -1 for start in made)


@pytest.mark.parametrize("length", [2.0, 2.3])
def test_the_dimer_pushes_two_neighbours_to_the_length_that_is_set(
    vacancy: Defect, length: float
) -> None:
    settings = StartSettings(distortions=[], dimer_length=length, rattle=1e-4)
    dimer = reference(vacancy, settings=settings)[-1].structure
    sulphur = [i for i, site in enumerate(dimer) if site.specie.symbol == "S"]
    distances = dimer.distance_matrix[np.ix_(sulphur, sulphur)]
    bonds = np.sort(distances[np.triu_indices(len(sulphur), 1)])
    assert bonds[0] == pytest.approx(length, abs=0.01)
    assert bonds[1] > bonds[0] + 0.3, "two atoms, not more"


def test_the_rattle_has_the_amplitude_that_is_set(vacancy: Defect) -> None:
    sizes = []
    for rattle in (0.02, 0.1):
        settings = StartSettings(distortions=[0.0], rattle=rattle)
        start = reference(vacancy, settings=settings)[1]
        sizes.append(np.linalg.norm(displacements(start, vacancy), axis=1).mean())
    assert sizes[1] > 2 * sizes[0]
    # Monte-Carlo rattling in three directions: of the order of the standard deviation.
    assert 0.3 < sizes[0] / (0.02 * vacancy.neighbour_distance) < 3


def test_a_tetrahedral_vacancy_has_four_neighbours_and_six_pairs(vacancy: Defect) -> None:
    neighbours = nearest_neighbours(vacancy)
    assert {vacancy.supercell[i].specie.symbol for i in neighbours} == {"S"}
    assert len(neighbours) == 4
    maker = StartMaker(vacancy, charge=0, spin=None, settings=SETTINGS, seed=1)
    pairs = maker.neighbour_pairs()
    assert len(set(map(frozenset, pairs))) == 6
    assert {i for pair in pairs for i in pair} == set(neighbours)


def test_a_fully_ionised_vacancy_is_distorted_all_the_same(vacancy: Defect) -> None:
    """V_Zn(2-) has no excess electron, and ShakeNBreak would distort no neighbour."""
    settings = StartSettings(distortions=[-0.5], rattle=1e-4)
    start = reference(vacancy, charge=-2, settings=settings)[1]
    moved = np.linalg.norm(displacements(start, vacancy), axis=1)
    assert (moved > 0.5).sum() == settings.min_neighbours == 2
    none = StartSettings(distortions=[-0.5], rattle=1e-4, min_neighbours=0)
    still = reference(vacancy, charge=-2, settings=none)[1]
    assert np.linalg.norm(displacements(still, vacancy), axis=1).max() < 0.1


def test_the_surrogate_search_adds_every_pair_and_other_rattles(
    starts: list[StartStructure], vacancy: Defect
) -> None:
    maker = StartMaker(vacancy, charge=0, spin=None, settings=SETTINGS, seed=1)
    search = SearchSettings(
        distortions=[0.0],
        pair_distortions=[-0.4],
        rattles=[0.05],
        split_vacancies=False,
        exchanges=False,
    )
    made = maker.surrogate(search)
    pairs = [start for start in made if start.label.startswith("Pair_")]
    dimers = [start for start in made if start.label.startswith("Dimer")]
    assert len(pairs) == 6
    assert len(dimers) == 1
    assert len(made) == 1 + 1 + 1 + 6 + 1
    assert len({start.label for start in made}) == len(made)
    assert {start.label for start in made if "Rattle" in start.label} == {"Rattle_0.05"}
    same_label = next(start for start in made if start.label == "Bond_Distortion_0.0%")
    assert same_label.seed not in {start.seed for start in starts}
    assert dimers[0].seed not in {start.seed for start in starts}, "another rattle than before"


def test_a_pair_distortion_moves_that_pair(vacancy: Defect) -> None:
    settings = StartSettings(rattle=1e-4)
    maker = StartMaker(vacancy, charge=0, spin=None, settings=settings, seed=1)
    search = SearchSettings(
        distortions=[], pair_distortions=[-0.5], rattles=[], split_vacancies=False, exchanges=False
    )
    moved = set()
    for start in (s for s in maker.surrogate(search) if s.label.startswith("Pair_")):
        lengths = np.linalg.norm(displacements(start, vacancy), axis=1)
        moved.add(frozenset(int(i) for i in np.flatnonzero(lengths > 0.5)))
    assert moved == {frozenset(pair) for pair in maker.neighbour_pairs()}


def test_an_impossible_distortion_is_recorded_and_the_others_are_made(vacancy: Defect) -> None:
    """No structure has more neighbours than atoms; ShakeNBreak raises, the maker counts."""
    settings = StartSettings(distortions=[-0.4, 0.2], min_neighbours=500)
    maker = StartMaker(vacancy, charge=-1, spin=None, settings=settings, seed=1)
    made = maker.reference()
    assert [start.label for start in made] == ["Unperturbed", "Dimer"]
    assert [item.start for item in maker.failures] == [
        "Bond_Distortion_-40.0%",
        "Bond_Distortion_20.0%",
    ]
    for failure in maker.failures:
        assert failure.reason is FailureReason.START
        assert (failure.defect, failure.charge) == ("v_Zn", -1)
        assert failure.message


@given(seed=st.integers(0, 2**40), parts=st.lists(st.text() | st.integers(), max_size=4))
def test_derived_seeds_are_reproducible_and_never_zero(seed: int, parts: list) -> None:
    """ShakeNBreak takes 0 for "no seed"."""
    value = derived_seed(seed, *parts)
    assert 1 <= value < 2**31
    assert derived_seed(seed, *parts) == value
    assert derived_seed(seed + 1, *parts) != value


def test_pairs_that_a_symmetry_maps_onto_each_other_count_once(vacancy: Defect) -> None:
    assert len(inequivalent_pairs(vacancy)) == 1  # a cubic cell


def test_a_cell_that_is_short_in_one_direction_has_two_kinds_of_dimer() -> None:
    host = HostSettings(structure=Path("host.cif"), supercell=[2, 2, 1])
    made = generate_defects(zinc_blende(), host=host, defects=DefectSettings(include=["v_Zn"]))
    defect = made.defects[0]
    dimers = [s for s in reference(defect) if s.label.startswith("Dimer")]
    assert len(dimers) == 2
    for start in dimers:
        pair = [int(i) for i in re.findall(r"S(\d+)", start.label)]
        assert start.structure.get_distance(*pair) == pytest.approx(SETTINGS.dimer_length)
    short = [
        float(np.abs(displacements(s, defect)[int(re.findall(r"S(\d+)", s.label)[0])][2]))
        for s in dimers
    ]
    assert sum(z < 1e-6 for z in short) == 1  # one lies in the long plane, one does not


@pytest.mark.parametrize("length", [1.8, 2.4])
def test_a_pushed_pair_keeps_its_middle(vacancy: Defect, length: float) -> None:
    pair = inequivalent_pairs(vacancy)[0]
    pushed = with_bond(vacancy.supercell, pair, length)
    assert pushed.get_distance(*pair) == pytest.approx(length)
    moved = pushed.cart_coords - vacancy.supercell.cart_coords
    assert np.allclose(moved[pair[0]], -moved[pair[1]])
    assert np.allclose(np.delete(moved, pair, axis=0), 0)
