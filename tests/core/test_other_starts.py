from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Structure
from pymatgen.io.vasp import Poscar

from defect_mf_flows.campaign import DefectSettings, HostSettings, SearchSettings, StartSettings
from defect_mf_flows.core.charge import charge_of
from defect_mf_flows.core.defects import generate_defects
from defect_mf_flows.core.fate import fate_of
from defect_mf_flows.core.other_starts import exchanged_vacancies, given_start, split_vacancies
from defect_mf_flows.core.starts import StartMaker
from defect_mf_flows.errors import CampaignError
from defect_mf_flows.schemas.defect import Defect, DefectSet
from defect_mf_flows.schemas.search import FateKind
from defect_mf_flows.testing import zinc_blende

FEW = StartSettings(distortions=[-0.3], rattle=0.02)
NONE = SearchSettings(
    distortions=[], pair_distortions=[], rattles=[], split_vacancies=False, exchanges=False
)


def made_in(supercell: list[int], **options: object) -> DefectSet:
    return generate_defects(
        zinc_blende(),
        host=HostSettings(structure=Path("h.cif"), supercell=supercell),
        defects=DefectSettings(**options),
    )


@pytest.fixture(scope="module")
def large() -> DefectSet:
    return made_in([2, 2, 1], include=["v_Zn", "S_Zn"])


def poscar(structure: Structure) -> str:
    return Poscar(structure).get_str(significant_figures=12)


def test_a_vacancy_splits_once_per_kind_of_like_neighbour(large: DefectSet) -> None:
    """In a cell that is short in one direction, twelve zinc atoms are of two kinds."""
    defect = large.get("v_Zn")
    found = split_vacancies(defect)
    assert len(found) == 2
    for atom, structure in found:
        fate, _ = fate_of(structure, defect, large.host.supercell)
        assert (fate.kind, fate.name) == (FateKind.REARRANGED, "Zn_i + 2 v_Zn")
        moved = structure.cart_coords - defect.supercell.cart_coords
        assert np.allclose(np.delete(moved, atom, axis=0), 0)
        assert np.linalg.norm(moved[atom]) == pytest.approx(5.4093 / np.sqrt(2) / 2)


def test_only_vacancies_split(large: DefectSet) -> None:
    assert split_vacancies(large.get("S_Zn")) == []


def test_a_vacancy_exchanges_with_every_kind_of_unlike_neighbour(large: DefectSet) -> None:
    """The four neighbours of the vacancy are alike, also in a cell that is short in one way."""
    defect = large.get("v_Zn")
    found = exchanged_vacancies(defect)
    assert len(found) == 1
    ((atom, structure),) = found
    assert defect.supercell[atom].specie.symbol == "S"
    fate, _ = fate_of(structure, defect, large.host.supercell)
    assert (fate.kind, fate.name) == (FateKind.REARRANGED, "S_Zn + v_S")
    moved = structure.cart_coords - defect.supercell.cart_coords
    assert np.allclose(np.delete(moved, atom, axis=0), 0)
    assert np.linalg.norm(moved[atom]) == pytest.approx(5.4093 * np.sqrt(3) / 4)


def test_only_vacancies_of_compounds_exchange(large: DefectSet) -> None:
    assert exchanged_vacancies(large.get("S_Zn")) == []
    element = large.get("v_Zn").model_copy(deep=True)
    element.supercell.replace_species({"S": "Zn"})
    assert exchanged_vacancies(element) == []


def test_the_search_starts_from_exchanged_vacancies(large: DefectSet) -> None:
    maker = StartMaker(large.get("v_Zn"), charge=-1, spin=None, settings=FEW, seed=1)
    starts = maker.surrogate(NONE.model_copy(update={"exchanges": True}))
    exchanged = [start for start in starts if start.label.startswith("Exchange_S")]
    assert len(exchanged) == 1
    assert {charge_of(start.structure) for start in exchanged} == {-1}


def test_the_search_starts_from_split_vacancies(large: DefectSet) -> None:
    maker = StartMaker(large.get("v_Zn"), charge=-1, spin=None, settings=FEW, seed=1)
    starts = maker.surrogate(NONE.model_copy(update={"split_vacancies": True}))
    split = [start for start in starts if start.label.startswith("Split_Zn")]
    assert len(split) == 2
    assert {charge_of(start.structure) for start in split} == {-1}


def test_every_pair_of_neighbours_is_a_low_fidelity_start_where_asked_for(
    large: DefectSet,
) -> None:
    factors = [-0.6, -0.5, -0.4, -0.3, -0.2]
    options = FEW.model_copy(update={"pair_distortions": factors})
    maker = StartMaker(large.get("v_Zn"), charge=0, spin=None, settings=options, seed=1)
    pairs = [s for s in maker.reference() if s.label.startswith("Pair_")]
    assert len(pairs) == 6 * len(factors)
    assert len({start.seed for start in pairs}) == len(pairs)


def test_a_given_start_is_taken_in_any_order_of_its_atoms(large: DefectSet) -> None:
    defect = large.get("v_Zn")
    mine = defect.supercell.copy()
    mine.translate_sites([3], [0.3, 0.1, 0.0], frac_coords=False)
    order = np.random.default_rng(4).permutation(len(mine))
    shuffled = Structure.from_sites([mine[int(i)] for i in order])
    options = FEW.model_copy(update={"given": {"v_Zn": [poscar(shuffled.get_sorted_structure())]}})
    maker = StartMaker(defect, charge=-1, spin=None, settings=options, seed=1)
    for starts in (maker.reference(), maker.surrogate(NONE)):
        start = next(s for s in starts if s.label == "Given_0")
        assert charge_of(start.structure) == -1
        assert start.structure.species == defect.supercell.species
        delta = start.structure.frac_coords - mine.frac_coords
        assert np.allclose(delta - np.round(delta), 0, atol=1e-8)


def test_a_given_start_of_other_atoms_or_another_cell_is_refused(large: DefectSet) -> None:
    defect = large.get("v_Zn")
    with pytest.raises(CampaignError, match=r"given\.v_Zn: has Zn16 S16, the defect cell"):
        given_start(poscar(large.host.supercell), defect)
    stretched = Structure(
        defect.supercell.lattice.scale(1.1 * defect.supercell.volume),
        defect.supercell.species,
        defect.supercell.frac_coords,
    )
    with pytest.raises(CampaignError, match="lattice differs"):
        given_start(poscar(stretched), defect)


def test_a_given_start_that_does_not_fit_is_counted_as_a_failure(large: DefectSet) -> None:
    wrong = {"v_Zn": [poscar(large.host.supercell)]}
    options = FEW.model_copy(update={"given": wrong})
    maker = StartMaker(large.get("v_Zn"), charge=0, spin=None, settings=options, seed=1)
    assert not [s for s in maker.reference() if s.label.startswith("Given")]
    assert [failure.start for failure in maker.failures] == ["Given_0"]


@pytest.fixture(scope="module")
def other_defects() -> DefectSet:
    """Every kind of defect that doped makes, in the smallest cell."""
    made = made_in([1, 1, 1], extrinsic=["Mg"], interstitials=True)
    names = [defect.name for defect in made.defects]
    chosen = [
        next(name for name in names if name.startswith(prefix))
        for prefix in ("Zn_i", "Mg_Zn", "S_Zn")
    ]
    return made.model_copy(update={"defects": [made.get(name) for name in chosen]})


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["Zn_i", "Mg_Zn", "S_Zn"])
def test_interstitials_substitutions_and_antisites_have_starts(
    other_defects: DefectSet, prefix: str
) -> None:
    defect = next(d for d in other_defects.defects if d.name.startswith(prefix))
    maker = StartMaker(defect, charge=1, spin=None, settings=FEW, seed=1)
    starts = [*maker.reference(), *maker.surrogate(SearchSettings(distortions=[-0.3]))]
    assert maker.failures == []
    for start in starts:
        assert start.structure.composition == defect.supercell.composition
        assert charge_of(start.structure) == 1
    labels = [start.label for start in starts]
    assert "Bond_Distortion_-30.0%" in labels
    assert any(label.startswith("Pair_") for label in labels)


@pytest.mark.slow
@pytest.mark.parametrize("prefix", ["Zn_i", "Mg_Zn", "S_Zn"])
def test_an_unrelaxed_defect_of_any_kind_is_told_by_its_name(
    other_defects: DefectSet, prefix: str
) -> None:
    defect: Defect = next(d for d in other_defects.defects if d.name.startswith(prefix))
    fate, _ = fate_of(defect.supercell, defect, other_defects.host.supercell)
    assert (fate.kind, fate.name) == (FateKind.AT_SITE, prefix)
