from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation

from defect_mf_flows.campaign import DefectSettings, HostSettings, MatchSettings
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.core.defects import generate_defects
from defect_mf_flows.core.matching import SameMinimum, soap_distance
from defect_mf_flows.core.minima import Matcher, choose_threshold, unique_minima
from defect_mf_flows.core.starts import inequivalent_pairs, with_bond
from defect_mf_flows.core.symmetry import Geometry, Operation, operations_of
from defect_mf_flows.schemas.defect import Defect, DefectSet, StartStructure
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.search import FateKind
from defect_mf_flows.testing import zinc_blende


@pytest.fixture(scope="module")
def made() -> DefectSet:
    return generate_defects(
        zinc_blende(),
        host=HostSettings(structure="h.cif", supercell=[2, 2, 2]),
        defects=DefectSettings(include=["v_Zn"]),
    )


@pytest.fixture(scope="module")
def defect(made: DefectSet) -> Defect:
    return made.get("v_Zn")


@pytest.fixture(scope="module")
def matcher(made: DefectSet, defect: Defect) -> Matcher:
    return Matcher(defect, made.host.supercell, MatchSettings())


@pytest.fixture(scope="module")
def dimer(defect: Defect) -> Structure:
    cell = with_bond(defect.supercell, inequivalent_pairs(defect)[0], 2.2)
    return with_charge(cell, 0)


def noisy(structure: Structure, scale: float, seed: int) -> Structure:
    shifts = np.random.default_rng(seed).normal(scale=scale, size=(len(structure), 3))
    places = structure.cart_coords + shifts
    moved = Structure(structure.lattice, structure.species, places, coords_are_cartesian=True)
    return with_charge(moved, 0)


def copied(structure: Structure, operation: Operation) -> Structure:
    places = operation(structure.frac_coords)
    return with_charge(Structure(structure.lattice, structure.species, places), 0)


# -- deduplication ----------------------------------------------------------------------


def pairwise(energies: list[float], vectors: np.ndarray, same: SameMinimum) -> list[int]:
    """Each structure, from the lowest up, joins the lowest minimum that it matches."""
    found: list[int] = []
    labels = [-1] * len(energies)
    for i in np.argsort(energies, kind="stable"):
        for number, j in enumerate(found):
            if same(soap_distance(vectors[i], vectors[j]), energies[i] - energies[j]):
                labels[i] = number
                break
        else:
            labels[i] = len(found)
            found.append(int(i))
    return labels


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(0, 60),
    centres=st.integers(1, 12),
    noise=st.floats(0, 0.03),
    width=st.integers(2, 12),
)
def test_the_grid_finds_what_comparing_with_every_minimum_finds(
    seed: int, n: int, centres: int, noise: float, width: int
) -> None:
    rng = np.random.default_rng(seed)
    kinds = rng.integers(centres, size=n)
    middles = 0.1 * rng.normal(size=(centres, width)) + 1
    vectors = middles[kinds] + noise * rng.normal(size=(n, width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    energies = list(0.1 * rng.normal(size=centres)[kinds] + 0.02 * rng.normal(size=n))
    same = SameMinimum(soap=3e-4, energy=0.03)
    assert unique_minima(energies, vectors, same=same)[1] == pairwise(energies, vectors, same)


def test_a_match_that_is_not_confirmed_is_another_minimum() -> None:
    vectors = np.array([[1.0, 0.0]] * 3)
    _, labels = unique_minima(
        [0.0, 0.0, 0.0], vectors, same=SameMinimum(), confirm=lambda i, j, _: {i, j} == {0, 2}
    )
    assert labels == [0, 1, 0]


# -- threshold --------------------------------------------------------------------------


def spread(scales: list[float], n: int = 8) -> np.ndarray:
    """Clusters of unit vectors, apart by 0.3 and as wide as the scales say."""
    rng = np.random.default_rng(1)
    rows = []
    for k, scale in enumerate(scales):
        middle = np.zeros(20)
        middle[0], middle[k + 1] = 1.0, 0.08
        rows.append(middle + scale * rng.normal(size=(n, 20)))
    vectors = np.concatenate(rows)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_threshold_lies_in_the_widest_gap_of_the_distances() -> None:
    vectors = spread([2e-4, 2e-4, 2e-4])
    energies = [0.0] * len(vectors)
    found = choose_threshold(energies, vectors, settings=MatchSettings())
    assert found.chosen
    assert found.below is not None
    assert found.above is not None
    assert found.below < found.value < found.above
    distances = [soap_distance(a, b) for k, a in enumerate(vectors) for b in vectors[:k]]
    assert not [d for d in distances if found.below < d < found.above * (1 - 1e-9)]
    _, labels = unique_minima(energies, vectors, same=SameMinimum(found.value, 0.03))
    assert len(set(labels)) == 3
    assert found.n_pairs == len(vectors) * (len(vectors) - 1) // 2


def test_distances_without_a_gap_leave_the_default() -> None:
    steps = np.geomspace(1e-4, 0.3, 400)
    vectors = np.column_stack([np.ones(400), steps])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = choose_threshold([0.0] * 400, vectors, settings=MatchSettings())
    assert not found.chosen
    assert found.value == MatchSettings().soap


def test_a_threshold_that_is_set_is_kept() -> None:
    found = choose_threshold(
        [0.0] * 24, spread([2e-4] * 3), settings=MatchSettings(soap=5e-4, auto=False)
    )
    assert (found.value, found.chosen) == (5e-4, False)


# -- symmetry, migration ----------------------------------------------------------------


def test_symmetry_copies_are_one_minimum(
    matcher: Matcher, defect: Defect, dimer: Structure
) -> None:
    operations = operations_of(defect.supercell)
    ends = [dimer, *(noisy(copied(dimer, o), 0.01, k) for k, o in enumerate(operations[1:8]))]
    ends.append(with_charge(defect.supercell, 0))
    energies = [-1.0 + 1e-4 * k for k in range(8)] + [-1.0]
    found = matcher.collect(ends, energies, [f"start {k}" for k in range(9)])
    assert found.labels[:8] == [found.labels[0]] * 8
    assert found.labels[8] != found.labels[0]
    assert {m.fate.kind for m in found.minima if m.fate} == {FateKind.AT_SITE}


def test_geometry_decides_where_soap_does_not(
    matcher: Matcher, defect: Defect, dimer: Structure
) -> None:
    copy = copied(dimer, operations_of(defect.supercell)[5])
    longer = with_bond(defect.supercell, inequivalent_pairs(defect)[0], 2.8)
    this = Geometry.of(dimer)
    assert matcher.alike(this, Geometry.of(noisy(copy, 0.03, 1)))
    assert not matcher.alike(this, Geometry.of(defect.supercell))
    assert not matcher.alike(this, Geometry.of(longer))


def test_a_vacancy_that_moved_to_an_equivalent_site_is_the_same_minimum(
    matcher: Matcher, defect: Defect, dimer: Structure
) -> None:
    """The copy is told by its fate, and the one at the defect's own site stands for both."""
    step = np.array([0.25, 0.25, 0.0])
    away = with_charge(Structure(dimer.lattice, dimer.species, dimer.frac_coords + step), 0)
    alone = matcher.collect([away], [-1.001], ["hopped"])
    assert alone.minima[0].fate is not None
    assert alone.minima[0].fate.kind is FateKind.MIGRATED
    assert alone.minima[0].fate.distance == pytest.approx(5.4093 / np.sqrt(2), abs=0.05)
    both = matcher.collect([away, dimer], [-1.001, -1.0], ["hopped", "stayed"])
    assert both.labels == [0, 0]
    assert both.minima[0].starts == ["stayed", "hopped"]
    assert both.minima[0].energy == -1.0
    assert np.allclose(both.minima[0].structure.frac_coords, dimer.frac_coords)


def wurtzite() -> Structure:
    lattice = Lattice.hexagonal(3.82, 6.26)
    places = [[1 / 3, 2 / 3, 0.0], [1 / 3, 2 / 3, 0.375]]
    return Structure.from_spacegroup("P6_3mc", lattice, ["Zn", "S"], places)


def test_a_site_that_only_a_screw_axis_reaches_is_the_same_minimum() -> None:
    """Half of wurtzite's zinc sites are turned: no translation brings a vacancy back from them."""
    made = generate_defects(
        wurtzite(),
        host=HostSettings(structure="h.cif", supercell=[2, 2, 1]),
        defects=DefectSettings(include=["v_Zn"]),
    )
    defect, host = made.get("v_Zn"), made.host.supercell
    pair = inequivalent_pairs(defect)[-1]
    home = noisy(with_bond(defect.supercell, pair, 2.4), 0.05, 1)
    turned = next(o for o in operations_of(host) if _leaves_its_kind_by_turning(o))
    there = copied(home, turned)
    found = Matcher(defect, host, MatchSettings()).collect([there, home], [-1.001, -1.0], "ab")
    assert found.labels == [0, 0]
    alone = Matcher(defect, host, MatchSettings()).collect([there], [-1.0], ["a"]).minima[0].fate
    assert alone is not None
    assert (alone.kind, alone.equivalent) == (FateKind.MIGRATED, True)


def _leaves_its_kind_by_turning(operation: Operation) -> bool:
    """Half a cell along c goes with a turn; along a and b nothing is half."""
    return abs(operation.translation[2] - 0.5) < 0.01 and not np.allclose(
        operation.rotation, np.eye(3)
    )


@pytest.mark.parametrize(("step", "equivalent"), [((0.25, 0.25, 0.0), True), ((0.125,) * 3, False)])
def test_an_interstitial_says_whether_it_went_to_the_same_kind_of_site(
    step: tuple[float, ...], equivalent: bool
) -> None:
    """In zinc blende a place among sulphur and one among zinc are both tetrahedral."""
    made = generate_defects(
        zinc_blende(),
        host=HostSettings(structure="h.cif", supercell=[2, 2, 2]),
        defects=DefectSettings(interstitials=True, include=["Zn_i_Td_S2.34"]),
    )
    defect, host = made.get("Zn_i_Td_S2.34"), made.host.supercell
    apart = host.lattice.get_all_distances([defect.site], defect.supercell.frac_coords)[0]
    moved = defect.supercell.copy()
    moved.translate_sites([int(apart.argmin())], list(step))
    ends = [with_charge(moved, 0), with_charge(defect.supercell, 0)]
    matching = Matcher(defect, host, MatchSettings())
    found = matching.collect(ends, [-1.0, -1.001], ["went", "stayed"])
    assert (len(set(found.labels)) == 1) is equivalent
    fate = matching.collect(ends[:1], [-1.0], ["went"]).minima[0].fate
    assert fate is not None
    assert (fate.kind, fate.equivalent) == (FateKind.MIGRATED, equivalent)


@pytest.mark.slow
def test_relaxations_from_two_symmetry_copies_end_as_one_minimum(
    vacancy: Defect,
    defect_set: DefectSet,
    model: Model,
    make_start: Callable[..., StartStructure],
) -> None:
    from defect_mf_flows.learning.relaxation import relax

    start = make_start(0, 61).structure
    operation = operations_of(vacancy.supercell)[9]
    starts = [start, copied(start, operation)]
    ends = relax(starts, [0, 0], model, "high", 0.02, 200)
    delta = ends[0].structure.frac_coords - ends[1].structure.frac_coords
    delta = (delta - np.round(delta)) @ start.lattice.matrix
    assert np.abs(delta).max() > 0.05, "two places in space"
    matching = Matcher(vacancy, defect_set.host.supercell, MatchSettings())
    found = matching.collect(
        [end.structure for end in ends], [end.energy for end in ends], ["one", "copy"]
    )
    assert found.labels == [0, 0]
    assert sorted(found.minima[0].starts) == ["copy", "one"]


# -- how the crystal is written down changes nothing -------------------------------------

#: Other vectors that span the same lattice.
BASES = (
    [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    [[1, 0, 0], [1, 1, 0], [0, 0, 1]],
    [[0, 1, 0], [0, 0, 1], [1, 0, 0]],
    [[1, 0, 0], [0, 1, 0], [-1, 1, 1]],
)


class View:
    """One crystal, written down in another way: basis, rotation, origin, order of like atoms."""

    def __init__(self, basis: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.basis = np.array(BASES[basis])
        self.rotation = Rotation.random(random_state=seed % 2**32).as_matrix()
        self.shift = self.rng.uniform(0, 8, size=3)

    def of(self, structure: Structure, *, mixed: bool = False) -> Structure:
        """The structure in this view; ``mixed`` also exchanges like atoms."""
        lattice = self.basis @ structure.lattice.matrix @ self.rotation.T
        places = structure.cart_coords @ self.rotation.T + self.shift
        symbols = [site.specie.symbol for site in structure]
        if mixed:
            order = np.arange(len(structure))
            for symbol in sorted(set(symbols)):
                own = [i for i, s in enumerate(symbols) if s == symbol]
                order[own] = self.rng.permutation(own)
            places = places[order]
        seen = Structure(lattice, symbols, places, coords_are_cartesian=True)
        return with_charge(seen, 0)

    def defect(self, defect: Defect) -> Defect:
        lattice = defect.supercell.lattice
        place = lattice.get_cartesian_coords(defect.site) @ self.rotation.T + self.shift
        seen = self.of(defect.supercell)
        site = seen.lattice.get_fractional_coords(place) % 1.0
        return defect.model_copy(update={"supercell": seen, "site": site.tolist()})


def several_ends(defect: Defect) -> list[Structure]:
    """Undistorted, and two dimers, each with a symmetry copy and with noise."""
    pair = inequivalent_pairs(defect)[0]
    plain = with_charge(defect.supercell, 0)
    dimers = [with_charge(with_bond(defect.supercell, pair, d), 0) for d in (2.0, 2.9)]
    operation = operations_of(defect.supercell)[-1]
    return [
        variant
        for n, cell in enumerate([plain, *dimers])
        for variant in (cell, copied(cell, operation), noisy(cell, 0.003, n))
    ]


def partition(matcher: Matcher, ends: list[Structure]) -> tuple[list[int], list[FateKind | None]]:
    energies = [round(-10.0 + 0.02 * (i // 3) + 0.0005 * (i % 3), 6) for i in range(len(ends))]
    found = matcher.collect(ends, energies, [str(i) for i in range(len(ends))])
    return list(found.labels), [m.fate.kind if m.fate else None for m in found.minima]


@settings(max_examples=6, deadline=None)
@given(basis=st.integers(0, len(BASES) - 1), seed=st.integers(0, 2**31))
def test_basis_rotation_origin_and_order_change_no_minimum(
    made: DefectSet, defect: Defect, basis: int, seed: int
) -> None:
    view = View(basis, seed)
    seen = Matcher(view.defect(defect), view.of(made.host.supercell), MatchSettings())
    labels, fates = partition(seen, [view.of(end, mixed=True) for end in several_ends(defect)])
    assert labels == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert set(fates) == {FateKind.AT_SITE}


@pytest.mark.parametrize("supercell", [[2, 2, 1], [2, 2, 2], [3, 2, 2]], ids=str)
def test_the_supercell_changes_no_minimum(supercell: list[int]) -> None:
    made = generate_defects(
        zinc_blende(),
        host=HostSettings(structure="h.cif", supercell=supercell),
        defects=DefectSettings(include=["v_Zn"]),
    )
    defect = made.get("v_Zn")
    matcher = Matcher(defect, made.host.supercell, MatchSettings())
    labels, fates = partition(matcher, several_ends(defect))
    assert labels == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert set(fates) == {FateKind.AT_SITE}
