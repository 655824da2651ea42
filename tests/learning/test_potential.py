"""A trained model: it knows its heads and charges, and refuses all others."""

from __future__ import annotations

import base64
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Structure

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.core.charge import charge_of, to_atoms, with_charge
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.errors import ChargeError, FidelityError, TrainingError
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.schemas.calculation import CalculationKind
from defect_mf_flows.schemas.defect import DefectSet, StartStructure
from defect_mf_flows.schemas.model import Model


@pytest.fixture(scope="module", params=["low", "high"])
def potential(request: pytest.FixtureRequest, model: Model) -> Potential:
    return Potential(model, head=request.param)


@pytest.fixture(scope="module")
def geometry(make_start: Callable[..., StartStructure]) -> Structure:
    """A geometry that the training set does not contain."""
    return make_start(0, 11).structure


def bare_energy(potential: Potential, structure: Structure) -> float:
    """What the network itself says, without the reference energy."""
    energy, _ = potential.predict([structure])[0]
    return energy - potential.offset(charge_of(structure), structure)


# -- charge and head matter ------------------------------------------------------------


def test_a_flipped_charge_changes_energy_and_forces(
    potential: Potential, geometry: Structure
) -> None:
    (e0, f0), (e1, f1) = potential.predict([with_charge(geometry, q) for q in (0, -1)])
    assert abs(e0 - e1) > 1e-6
    assert np.abs(f0 - f1).max() > 1e-6


def test_the_network_itself_feels_the_charge_and_not_only_its_reference_energy(
    potential: Potential, geometry: Structure
) -> None:
    energies = [bare_energy(potential, with_charge(geometry, q)) for q in (0, -1)]
    assert abs(energies[0] - energies[1]) > 1e-6


def test_the_charge_changes_energy_differences_between_geometries(
    potential: Potential, geometry: Structure, make_start: Callable[..., StartStructure]
) -> None:
    """It acts through message passing, not as a constant alone."""
    other = make_start(0, 12).structure
    gaps = []
    for charge in (0, -1):
        pair = [with_charge(item, charge) for item in (geometry, other)]
        energies = [energy for energy, _ in potential.predict(pair)]
        gaps.append(energies[1] - energies[0])
    assert abs(gaps[0] - gaps[1]) > 1e-6


@pytest.mark.parametrize("charge", [0, -1])
def test_a_flipped_head_changes_energy_and_forces(
    model: Model, geometry: Structure, charge: int
) -> None:
    structure = with_charge(geometry, charge)
    low, high = (Potential(model, head=head) for head in ("low", "high"))
    assert abs(bare_energy(low, structure) - bare_energy(high, structure)) > 1e-6
    assert abs(low.predict([structure])[0][0] - high.predict([structure])[0][0]) > 1.0
    assert np.abs(low.predict([structure])[0][1] - high.predict([structure])[0][1]).max() > 1e-6


def test_a_mixed_batch_gives_each_structure_what_it_gets_alone(
    potential: Potential, geometry: Structure, make_start: Callable[..., StartStructure]
) -> None:
    structures = [with_charge(geometry, q) for q in (0, -1, 0)]
    structures += [make_start(-1, seed).structure for seed in (20, 21, 22)]
    together = potential.predict(structures, batch=4)
    for structure, (energy, forces) in zip(structures, together, strict=True):
        ((alone, alone_forces),) = potential.predict([structure])
        assert energy == pytest.approx(alone, abs=1e-9)
        assert np.allclose(forces, alone_forces, atol=1e-9)
        assert forces.shape == (7, 3)


def test_no_structures_give_no_results(potential: Potential) -> None:
    assert potential.predict([]) == []


@pytest.mark.parametrize("charge", [0, -1])
def test_forces_are_the_slope_of_the_energy_for_every_charge(
    potential: Potential, geometry: Structure, charge: int
) -> None:
    step = 1e-3
    structure = with_charge(geometry, charge)
    _, forces = potential.predict([structure])[0]
    for atom, axis in ((0, 0), (3, 1), (6, 2)):
        moved = []
        for sign in (+1, -1):
            shift = np.zeros(3)
            shift[axis] = sign * step
            copy = structure.copy()
            copy.translate_sites([atom], shift, frac_coords=False)
            moved.append(copy)
        (up, _), (down, _) = potential.predict(moved)
        assert forces[atom, axis] == pytest.approx(-(up - down) / (2 * step), abs=1e-5)


# -- the ASE calculator ----------------------------------------------------------------


@pytest.mark.parametrize("charge", [0, -1])
def test_the_calculator_agrees_with_predict(
    potential: Potential, geometry: Structure, charge: int
) -> None:
    structure = with_charge(geometry, charge)
    atoms = to_atoms(structure)
    atoms.calc = potential.calculator(structure)
    ((energy, forces),) = potential.predict([structure])
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-8)
    assert np.allclose(atoms.get_forces(), forces, atol=1e-8)


@pytest.mark.parametrize("key", ["charge", "total_charge", "both"])
@pytest.mark.parametrize("before", [True, False], ids=["after a result", "at once"])
def test_the_calculator_refuses_atoms_of_another_charge(
    potential: Potential, geometry: Structure, key: str, before: bool
) -> None:
    """Also when the positions are those of the last result, which ASE would hand out again."""
    structure = with_charge(geometry, 0)
    atoms = to_atoms(structure)
    atoms.calc = potential.calculator(structure)
    if before:
        atoms.get_potential_energy()
    for name in ("charge", "total_charge") if key == "both" else (key,):
        atoms.info[name] = -1
    with pytest.raises(ChargeError):
        atoms.get_potential_energy()


def test_the_calculator_refuses_atoms_that_lost_their_charge(
    potential: Potential, geometry: Structure
) -> None:
    structure = with_charge(geometry, -1)
    atoms = to_atoms(structure)
    atoms.info.clear()
    atoms.calc = potential.calculator(structure)
    with pytest.raises(ChargeError, match="no charge"):
        atoms.get_potential_energy()


def test_a_mace_calculator_serves_as_an_engine_that_reads_the_charge_from_info(
    model: Model, make_start: Callable[..., StartStructure], tmp_path: Path
) -> None:
    """``charge_info`` of the ase engine, with a real calculator that reads it."""
    path = tmp_path / "model.pt"
    path.write_bytes(base64.b64decode(model.blob))
    settings = {
        "calculator": "mace.calculators.MACECalculator",
        "kwargs": {
            "model_paths": str(path),
            "device": "cpu",
            "default_dtype": "float64",
            "head": "high",
            "info_keys": {"total_charge": "q_of_the_cell"},
        },
        "charge_info": "q_of_the_cell",
    }
    fidelity = FidelitySettings(engine="ase", settings=settings)
    maker = reference_maker("mlip", fidelity, CalculationKind.STATIC)
    potential = Potential(model, head="high")
    energies = []
    for charge in (0, -1):
        start = make_start(charge, 11)
        calculation = maker.compute(start, uuid="u")
        expected = bare_energy(potential, start.structure)
        assert calculation.final_energy == pytest.approx(expected, abs=1e-8)
        energies.append(calculation.final_energy)
    assert abs(energies[0] - energies[1]) > 1e-6


# -- refusals --------------------------------------------------------------------------


@pytest.mark.parametrize("charge", [-3, -2, 1, 2])
def test_a_charge_that_was_not_trained_is_refused(
    potential: Potential, geometry: Structure, charge: int
) -> None:
    structure = with_charge(geometry, charge)
    with pytest.raises(ChargeError, match=re.escape(f"not trained on charge {charge:+d}")):
        potential.predict([with_charge(geometry, 0), structure])
    with pytest.raises(ChargeError, match="not trained"):
        potential.calculator(structure)


@pytest.mark.parametrize("head", ["LOW", "pbe", "Default", ""])
def test_a_head_that_the_model_does_not_have_is_refused(model: Model, head: str) -> None:
    with pytest.raises(FidelityError, match="choose one of"):
        Potential(model, head=head)


def test_a_cell_of_another_composition_is_refused(
    potential: Potential, defect_set: DefectSet
) -> None:
    with pytest.raises(ChargeError, match="S4 Zn4"):
        potential.predict([defect_set.host.supercell])


@pytest.mark.parametrize("value", [0.5, None, True, "0", float("nan")], ids=repr)
def test_a_structure_without_a_proper_charge_is_refused(
    potential: Potential, geometry: Structure, value: Any
) -> None:
    structure = with_charge(geometry, 0)
    structure.properties["charge"] = value
    with pytest.raises(ChargeError):
        potential.predict([structure])
    with pytest.raises(ChargeError):
        potential.calculator(structure)


def test_a_structure_whose_two_charges_differ_is_refused(
    potential: Potential, geometry: Structure
) -> None:
    structure = with_charge(geometry, 0)
    structure.properties["charge"] = -1
    with pytest.raises(ChargeError, match="in one place"):
        potential.predict([structure])


@pytest.mark.parametrize("damage", ["lost", "altered", "truncated"])
def test_a_model_file_that_is_not_the_one_that_was_trained_is_refused(
    model: Model, damage: str
) -> None:
    content = bytearray(base64.b64decode(model.blob))
    content[len(content) // 2] ^= 1
    blob = {
        "lost": "",
        "altered": base64.b64encode(content).decode(),
        "truncated": model.blob[: len(model.blob) // 8 * 4],
    }[damage]
    with pytest.raises(TrainingError, match="load=True"):
        Potential(model.model_copy(update={"blob": blob}), head="low")


def test_a_document_with_other_heads_than_its_file_is_refused(model: Model) -> None:
    swapped = model.model_copy(update={"heads": ["high", "low"]})
    with pytest.raises(FidelityError, match="its document"):
        Potential(swapped, head="low")


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return (open, (self.path, "w"))


def test_a_foreign_model_file_is_not_even_opened(model: Model, tmp_path: Path) -> None:
    blob = base64.b64encode(pickle.dumps(Trap(tmp_path / "ran"))).decode()
    with pytest.raises(TrainingError, match="load=True"):
        Potential(model.model_copy(update={"blob": blob}), head="low")
    assert not (tmp_path / "ran").exists()
    pickle.loads(base64.b64decode(blob)).close()
    assert (tmp_path / "ran").exists()  # the trap works


def test_a_model_of_an_earlier_version_still_predicts(model: Model, geometry: Structure) -> None:
    """Documents that were written before hosts, spins and charge terms existed."""
    content = json.loads(model.model_dump_json())
    for key in ("host", "spins"):
        del content[key]
    for key in ("charge_term", "strategy", "spin_embedding"):
        del content["settings"][key]
    old = Model.model_validate(content)
    for head in model.heads:
        expected = Potential(model, head=head).predict([geometry])[0][0]
        assert Potential(old, head=head).predict([geometry])[0][0] == expected
