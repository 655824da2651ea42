"""tblite as the reference: frames, failures, band edges, provenance, and above all charge."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.calculators.calculator import CalculationFailed
from ase.io import read
from pymatgen.io.ase import AseAtomsAdaptor
from tblite.ase import TBLite

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.core.charge import charge_of, with_charge
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.errors import ChargeError, EngineError
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind, FailureReason
from defect_mf_flows.schemas.defect import DefectSet, StartStructure

HARD_SCF = Path(__file__).parents[1] / "data/xtb/hard_scf.xyz"
MakeStart = Callable[..., StartStructure]
Compute = Callable[..., Calculation]


@pytest.fixture(scope="module")
def neutral(make_start: MakeStart, compute: Compute) -> Calculation:
    return compute(make_start(0))


@pytest.fixture(scope="module")
def relaxed(make_start: MakeStart, compute: Compute) -> Calculation:
    return compute(make_start(0), kind=CalculationKind.RELAX, uuid="job-7")


@pytest.mark.parametrize("charge", [-2, -1, 1])
def test_a_flipped_charge_changes_the_energy_of_the_same_geometry(
    make_start: MakeStart, compute: Compute, neutral: Calculation, charge: int
) -> None:
    charged = compute(make_start(charge))
    assert charged.failure is None
    here, there = charged.final_structure, neutral.final_structure
    assert np.allclose(here.frac_coords, there.frac_coords)
    assert abs(charged.final_energy - neutral.final_energy) > 1.0, "an electron is worth eV"
    assert not np.allclose(charged.frames[0].forces, neutral.frames[0].forces, atol=1e-3)


def test_another_method_gives_another_energy(
    make_start: MakeStart, compute: Compute, neutral: Calculation
) -> None:
    other = compute(make_start(0), method="GFN2-xTB")
    assert abs(other.final_energy - neutral.final_energy) > 1.0


def test_unpaired_electrons_change_the_energy(
    make_start: MakeStart, compute: Compute, neutral: Calculation
) -> None:
    triplet = compute(make_start(0, spin=2))
    assert triplet.spin == triplet.frames[0].spin == 2
    assert abs(triplet.final_energy - neutral.final_energy) > 1e-3


def test_a_single_point_has_one_frame_and_is_converged(neutral: Calculation) -> None:
    assert neutral.converged
    assert neutral.kind is CalculationKind.STATIC
    assert (neutral.n_frames, neutral.n_calls, len(neutral.frames)) == (1, 1, 1)
    assert neutral.final_energy == neutral.frames[0].energy


def test_a_single_point_leaves_the_geometry_alone(
    make_start: MakeStart, neutral: Calculation
) -> None:
    start = make_start(0).structure
    assert np.allclose(neutral.final_structure.frac_coords, start.frac_coords, atol=1e-12)


def test_forces_are_the_slope_of_the_energy(make_start: MakeStart, compute: Compute) -> None:
    start, step = make_start(-1), 0.01
    energies = []
    for sign in (+1, -1):
        moved = start.structure.copy()
        moved.translate_sites([2], [sign * step, 0, 0], frac_coords=False)
        moved = with_charge(moved, -1)
        energies.append(compute(make_start(-1, structure=moved)).final_energy)
    slope = (energies[0] - energies[1]) / (2 * step)
    force = compute(start).frames[0].forces[2][0]
    assert force == pytest.approx(-slope, abs=5e-3)


def test_a_relaxation_keeps_every_ionic_step_as_a_frame(relaxed: Calculation) -> None:
    assert relaxed.converged
    assert relaxed.failure is None
    assert relaxed.n_frames == relaxed.n_calls == len(relaxed.frames) > 3
    assert [frame.lineage.step for frame in relaxed.frames] == list(range(relaxed.n_frames))
    assert {frame.lineage.calculation for frame in relaxed.frames} == {"job-7"}
    assert {frame.lineage.start for frame in relaxed.frames} == {relaxed.start}
    assert {frame.fidelity for frame in relaxed.frames} == {"low"}


def test_a_relaxation_goes_downhill_to_small_forces(relaxed: Calculation) -> None:
    energies = [frame.energy for frame in relaxed.frames]
    assert energies[-1] == relaxed.final_energy == min(energies)
    assert energies[-1] < energies[0] - 0.05
    largest = [np.linalg.norm(frame.forces, axis=1).max() for frame in relaxed.frames]
    assert largest[-1] <= 0.05 < largest[0]


def test_a_relaxation_starts_at_the_start_and_keeps_cell_and_charge(
    make_start: MakeStart, compute: Compute
) -> None:
    start = make_start(-1)
    relaxation = compute(start, kind=CalculationKind.RELAX, steps=2)
    first = relaxation.frames[0].structure
    assert np.allclose(first.cart_coords, start.structure.cart_coords, atol=1e-10)
    for frame in relaxation.frames:
        assert frame.charge == charge_of(frame.structure) == -1
        assert np.allclose(frame.structure.lattice.matrix, start.structure.lattice.matrix)
    assert charge_of(relaxation.final_structure) == relaxation.charge == -1


def test_running_out_of_steps_is_a_failure_that_keeps_the_frames(
    make_start: MakeStart, compute: Compute
) -> None:
    relaxation = compute(make_start(0), kind=CalculationKind.RELAX, steps=2, fmax=1e-6)
    assert not relaxation.converged
    assert relaxation.failure.reason is FailureReason.STEPS
    assert relaxation.failure.fidelity == "low"
    assert relaxation.n_frames == 3


@pytest.mark.parametrize("kind", CalculationKind)
def test_an_scf_that_does_not_converge_is_a_failure_document(
    make_start: MakeStart, compute: Compute, kind: CalculationKind
) -> None:
    failed = compute(make_start(-1), kind=kind, max_iterations=1)
    assert not failed.converged
    assert failed.failure.reason is FailureReason.SCF
    assert failed.failure.stage == kind.value
    assert (failed.failure.defect, failed.failure.charge) == ("v_Zn", -1)
    assert failed.n_frames == 0
    assert failed.final_energy is None
    assert failed.final_structure is None
    assert failed.engine.settings["max_iterations"] == 1, "the settings are on record"


def test_an_scf_that_does_not_converge_is_tried_from_another_start(compute: Compute) -> None:
    """A vacancy in a cell of Zn(S,Se), on which tblite's default start does not converge."""
    cell = AseAtomsAdaptor.get_structure(read(HARD_SCF))
    start = StartStructure(defect="v_Zn", charge=0, label="hard", structure=with_charge(cell, 0))
    found = compute(start, method="GFN2-xTB")
    assert found.converged
    assert "not converged" in found.notes[0]
    assert found.engine.name == "tblite"


@pytest.mark.parametrize("charge", [-2, 1])
def test_the_second_attempt_has_the_charge_of_the_first(
    make_start: MakeStart, compute: Compute, charge: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = make_start(charge)
    direct = compute(asked)
    assert not direct.notes
    real = TBLite.calculate

    def failing_first(self: TBLite, *arguments: Any, **options: Any) -> None:
        real(self, *arguments, **options)
        if type(self) is not TBLite:
            raise CalculationFailed("SCF not converged in 250 cycles")

    monkeypatch.setattr(TBLite, "calculate", failing_first)
    second = compute(asked)
    assert second.notes
    assert second.charge == charge
    assert second.final_energy == pytest.approx(direct.final_energy, abs=1e-4)


def test_the_hosts_band_edges_enclose_a_gap(defect_set: DefectSet, compute: Compute) -> None:
    host = StartStructure(defect=None, charge=0, label="host", structure=defect_set.host.supercell)
    calculation = compute(host)
    edges = calculation.band_edges
    assert calculation.defect is None
    # ZnS is a semiconductor in any method; a gap in other units would be 27 times off.
    assert 1.0 < edges.gap < 15.0
    assert -30.0 < edges.vbm < 5.0


def test_an_acceptor_has_an_empty_orbital_just_above_the_filled_ones(
    defect_set: DefectSet, compute: Compute, neutral: Calculation
) -> None:
    host = StartStructure(defect=None, charge=0, label="host", structure=defect_set.host.supercell)
    assert neutral.band_edges.gap < compute(host).band_edges.gap


def test_the_provenance_has_program_version_settings_and_charge(
    make_start: MakeStart, compute: Compute
) -> None:
    record = compute(make_start(1), accuracy=0.5).engine
    assert record.name == "tblite"
    assert record.version == importlib.metadata.version("tblite")
    assert record.settings == {"method": "GFN1-xTB", "accuracy": 0.5, "charge": 1}


def test_a_start_whose_two_charges_differ_is_refused(
    make_start: MakeStart, compute: Compute
) -> None:
    start = make_start(-1)
    start.structure.properties["charge"] = 0
    with pytest.raises(ChargeError, match="with_charge"):
        compute(start)


def test_a_maker_without_settings_says_where_they_come_from(make_start: MakeStart) -> None:
    maker = reference_maker("low", FidelitySettings(engine="xtb"), CalculationKind.STATIC)
    maker.settings = None
    with pytest.raises(EngineError, match="build it from a campaign"):
        maker.compute(make_start(0), uuid="u")
