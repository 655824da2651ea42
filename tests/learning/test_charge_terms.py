"""Charge terms: what the network feels of the charge, and what a larger cell makes of it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from pymatgen.core import Structure

from defect_mf_flows.campaign import TrainingSettings
from defect_mf_flows.core.charge import to_atoms, with_charge, with_spin
from defect_mf_flows.errors import ChargeError, DatasetError
from defect_mf_flows.learning.batches import collate, to_atomic_data
from defect_mf_flows.learning.compiling import COMPARED, Batches, compile_step
from defect_mf_flows.learning.network import build_network
from defect_mf_flows.learning.training import train
from defect_mf_flows.schemas.defect import DefectSet
from tests.learning.test_compiling import SMALL

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Labelled

HEADS = ["low", "high"]
CHARGES = [-1, 0, 1]
EMBEDDED = ["categorical", "continuous", "intensive"]


@pytest.fixture(scope="module", autouse=True)
def double() -> Any:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def graphs_of(structures: list[Structure], *, spin: bool = False, head: str = "high") -> list[Any]:
    return [
        to_atomic_data(
            to_atoms(item),
            head=head,
            heads=HEADS,
            atomic_numbers=[16, 30],
            cutoff=3.5,
            spin=spin,
        )
        for item in structures
    ]


def batch_of(structures: list[Structure], **options: Any) -> Any:
    return collate(graphs_of(structures, **options))


def untrained(
    tiny: TrainingSettings, host: Structure, term: str, spins: list[int] | None = None
) -> Any:
    """A network with random weights: what is true of it does not depend on training."""
    torch.manual_seed(3)
    network: Any = build_network(
        {**tiny.model_dump(mode="json"), "charge_term": term},
        heads=HEADS,
        charges=CHARGES,
        atomic_numbers=[16, 30],
        neighbours=4.0,
        scale=[1.0, 2.0],
        spins=spins,
        host=batch_of([with_charge(host, 0)]).to_dict(),
    )
    return network


def energies(network: Any, structures: list[Structure], **options: Any) -> np.ndarray:
    output = network(batch_of(structures, **options).to_dict(), compute_force=True)
    return np.asarray(output["energy"].detach().numpy())


def enlarged(vacancy: Structure, host: Structure) -> Structure:
    """The vacancy cell with a pristine cell beside it."""
    lattice = host.lattice.matrix.copy()
    lattice[0] *= 2
    coords = [*vacancy.cart_coords, *(host.cart_coords + host.lattice.matrix[0])]
    return Structure(lattice, [*vacancy.species, *host.species], coords, coords_are_cartesian=True)


def offset(network: Any, structure: Structure) -> float:
    one, zero = energies(network, [with_charge(structure, q) for q in (1, 0)])
    return float(one - zero)


# -- what the charge does --------------------------------------------------------------


@pytest.mark.parametrize("term", [*EMBEDDED, "per_charge"])
def test_a_flipped_charge_changes_energy_and_forces(
    tiny: TrainingSettings, defect_set: DefectSet, make_start: Any, term: str
) -> None:
    network = untrained(tiny, defect_set.host.primitive, term)
    structures = [with_charge(make_start(0, 5).structure, q) for q in CHARGES]
    output = network(batch_of(structures).to_dict(), compute_force=True)
    found = output["energy"].detach().numpy()
    assert len({round(float(e), 6) for e in found}) == 3
    forces = output["forces"].detach().numpy().reshape(3, 7, 3)
    assert np.abs(forces[0] - forces[1]).max() > 1e-6


def test_without_a_charge_term_only_the_reference_energy_knows_the_charge(
    tiny: TrainingSettings, defect_set: DefectSet, make_start: Any
) -> None:
    network = untrained(tiny, defect_set.host.primitive, "none")
    structures = [with_charge(make_start(0, 5).structure, q) for q in CHARGES]
    assert np.ptp(energies(network, structures)) < 1e-10


# -- the size of the cell --------------------------------------------------------------


def test_the_intensive_offset_between_charges_is_that_of_the_small_cell(
    tiny: TrainingSettings, defect_set: DefectSet
) -> None:
    host, vacancy = defect_set.host, defect_set.get("v_Zn").supercell
    network = untrained(tiny, host.primitive, "intensive")
    large = enlarged(vacancy, host.supercell)
    small = offset(network, vacancy)
    assert abs(small) > 1e-3
    assert offset(network, large) == pytest.approx(small, abs=1e-9)


def test_two_copies_of_a_defect_have_twice_the_intensive_offset(
    tiny: TrainingSettings, defect_set: DefectSet
) -> None:
    """Per defect, not per atom: two vacancies are two defects."""
    host, vacancy = defect_set.host, defect_set.get("v_Zn").supercell
    network = untrained(tiny, host.primitive, "intensive")
    twice = vacancy.copy()
    twice.make_supercell([2, 1, 1])
    assert offset(network, twice) == pytest.approx(2 * offset(network, vacancy), abs=1e-9)


@pytest.mark.parametrize("term", ["categorical", "continuous", "per_charge"])
def test_the_offset_of_the_other_terms_grows_with_the_cell(
    tiny: TrainingSettings, defect_set: DefectSet, term: str
) -> None:
    """Why the intensive term exists; the paper's term is kept as it is."""
    host, vacancy = defect_set.host, defect_set.get("v_Zn").supercell
    network = untrained(tiny, host.primitive, term)
    small, large = offset(network, vacancy), offset(network, enlarged(vacancy, host.supercell))
    assert abs(large - small) > 0.1 * abs(small)


def test_the_pristine_host_has_no_energy_of_its_own_in_any_charge_head_or_size(
    tiny: TrainingSettings, defect_set: DefectSet
) -> None:
    network = untrained(tiny, defect_set.host.primitive, "intensive")
    cells = [defect_set.host.primitive, defect_set.host.supercell]
    structures = [with_charge(cell, q) for cell in cells for q in CHARGES]
    for head in HEADS:
        assert np.abs(energies(network, structures, head=head)).max() < 1e-9


def test_the_host_is_taken_away_in_training_as_it_is_afterwards(
    tiny: TrainingSettings, defect_set: DefectSet, make_start: Any
) -> None:
    """There each graph has a host of its own, here each charge."""
    network = untrained(tiny, defect_set.host.primitive, "intensive")
    structures = [with_charge(make_start(0, s).structure, q) for s, q in ((1, 1), (2, -1), (3, 1))]
    data = batch_of(structures)
    later = network(data.to_dict(), compute_force=True)
    training = network(data.to_dict(), training=True, compute_force=True)
    for key in ("energy", "forces"):
        assert torch.allclose(training[key], later[key], atol=1e-10)


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("g++") is None, reason="SKIPPED: no C++ compiler (g++) for inductor"
)
def test_a_compiled_step_counts_from_the_host_of_every_charge_and_head(
    defect_set: DefectSet, make_start: Any
) -> None:
    small = SMALL.model_copy(update={"r_max": 3.5})
    network = untrained(small, defect_set.host.primitive, "intensive")
    cells = [make_start(0, seed).structure for seed in (1, 2)]
    graphs = [
        graphs_of([with_charge(cell, q) for cell, q in zip(cells, charges, strict=True)], head=head)
        for charges, head in (((1, 1), "low"), ((0, -1), "low"), ((-1, 1), "high"))
    ]
    compile_step(network, Batches.of([item for pair in graphs for item in pair], 2))
    first, *others = [collate(pair) for pair in graphs]
    compiled = network.__dict__["forward"]
    for _ in range(COMPARED):
        network(first.to_dict(), training=True)
    assert compiled.step is not None
    for data in others:
        found = network(data.to_dict(), training=True)
        assert set(found) == {"energy", "forces"}, "not the network's own forward"
        own = compiled._own(data.to_dict(), True, {})
        assert torch.allclose(found["energy"], own["energy"], atol=1e-8)
        assert torch.allclose(found["forces"], own["forces"], atol=1e-8)


@pytest.mark.parametrize("term", ["intensive", "per_charge"])
def test_forces_are_the_slope_of_the_energy(
    tiny: TrainingSettings, defect_set: DefectSet, make_start: Any, term: str
) -> None:
    network = untrained(tiny, defect_set.host.primitive, term)
    structure, step = make_start(-1, 5).structure, 1e-4
    output = network(batch_of([structure]).to_dict(), compute_force=True)
    moved = []
    for sign in (1, -1):
        copy = structure.copy()
        copy.translate_sites([2], [0, sign * step, 0], frac_coords=False)
        moved.append(with_charge(copy, -1))
    up, down = energies(network, moved)
    assert float(output["forces"][2, 1]) == pytest.approx(-(up - down) / (2 * step), abs=1e-6)


def test_a_mixed_batch_gives_each_charge_its_own_network(
    tiny: TrainingSettings, defect_set: DefectSet, make_start: Any
) -> None:
    network = untrained(tiny, defect_set.host.primitive, "per_charge")
    structures = [with_charge(make_start(0, s).structure, q) for s, q in ((1, 1), (2, -1), (3, 1))]
    together = energies(network, structures)
    alone = [energies(network, [item])[0] for item in structures]
    assert together == pytest.approx(alone, abs=1e-10)
    with pytest.raises(ChargeError, match=r"no network for charges \[2\]"):
        energies(network, [with_charge(structures[0], 2)])


# -- spin ------------------------------------------------------------------------------


@pytest.mark.parametrize("term", ["none", "categorical", "intensive", "per_charge"])
def test_a_flipped_spin_changes_the_energy_of_a_network_that_learns_it(
    tiny: TrainingSettings, defect_set: DefectSet, make_start: Any, term: str
) -> None:
    network = untrained(tiny, defect_set.host.primitive, term, spins=[0, 2])
    structure = make_start(0, 5).structure
    zero, two = energies(network, [with_spin(structure, s) for s in (0, 2)], spin=True)
    assert abs(zero - two) > 1e-6


def test_a_lost_spin_is_refused_instead_of_becoming_a_default(make_start: Any) -> None:
    structure = with_spin(make_start(0, 5).structure, 2)
    assert float(batch_of([structure], spin=True).total_spin) == 2
    with pytest.raises(ChargeError, match="no spin"):
        batch_of([with_charge(structure, 0)], spin=True)


# -- trained ---------------------------------------------------------------------------


def test_the_intensive_term_needs_the_host(
    labelled: Labelled, tiny: TrainingSettings, tmp_path: Path
) -> None:
    settings = tiny.model_copy(update={"charge_term": "intensive"})
    with pytest.raises(DatasetError, match="frame of the host"):
        train(
            labelled.frames,
            labelled.dataset,
            settings=settings,
            seed=1,
            scratch=tmp_path,
            threads=1,
        )


def test_learning_the_spin_needs_a_spin_on_every_label(
    labelled: Labelled, tiny: TrainingSettings, tmp_path: Path
) -> None:
    settings = tiny.model_copy(update={"spin_embedding": True})
    with pytest.raises(ChargeError, match="no spin"):
        train(
            labelled.frames,
            labelled.dataset,
            settings=settings,
            seed=1,
            scratch=tmp_path,
            threads=1,
        )
