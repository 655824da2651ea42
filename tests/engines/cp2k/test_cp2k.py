"""Real CP2K on a molecule of LiH: charge, forces, an SCF that does not converge, a stop."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.campaign.cp2k import Cp2kSettings
from defect_mf_flows.core.charge import to_atoms, with_charge
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.engines.cp2k import calculator as calculators
from defect_mf_flows.engines.cp2k.calculator import GaussianPlaneWaveDFT
from defect_mf_flows.engines.cp2k.makers import runs, version
from defect_mf_flows.engines.reuse import input_hash
from defect_mf_flows.errors import ChargeError, EngineError
from defect_mf_flows.schemas.calculation import CalculationKind, FailureReason
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.settings import get_settings

pytestmark = [
    pytest.mark.cp2k,
    pytest.mark.skipif(
        not runs(get_settings().cp2k_cmd),
        reason="SKIPPED: CP2K is not installed (docs/cp2k.md says how)",
    ),
]

#: Quick. A coarser grid lets the energy of Li depend on where between its points it lies.
SMALL = {"functional": "PBE", "cutoff": 200, "rel_cutoff": 40, "basis": "SZV-MOLOPT-SR-GTH"}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def lih(length: float = 1.75) -> Structure:
    box = Lattice.cubic(5.5)
    return Structure(box, ["Li", "H"], [[0, 0, 0], [length, 0.1, 0]], coords_are_cartesian=True)


def start(charge: int, *, spin: int | None = None, length: float = 1.75) -> StartStructure:
    cell = with_charge(lih(length), charge)
    return StartStructure(defect=None, charge=charge, spin=spin, label="LiH", structure=cell)


def maker(kind=CalculationKind.STATIC, fmax=0.05, steps=10, **changes):
    settings = FidelitySettings(
        engine="cp2k", settings={**SMALL, **changes}, fmax=fmax, steps=steps
    )
    return reference_maker("level", settings, kind)


@pytest.fixture(scope="module")
def neutral():
    return maker().compute(start(0), uuid="neutral")


def test_a_flipped_charge_changes_the_energy_of_the_same_geometry(neutral):
    charged = maker().compute(start(2), uuid="charged")
    assert neutral.failure is None
    assert charged.failure is None
    assert charged.charge == charged.frames[0].charge == 2
    assert abs(charged.final_energy - neutral.final_energy) > 1.0, "two electrons are worth eV"
    assert not np.allclose(charged.frames[0].forces, neutral.frames[0].forces, atol=1e-2)


def test_forces_are_the_slope_of_the_energy(neutral):
    step = 0.01
    low, high = (
        maker(threshold=1e-7).compute(start(0, length=1.75 + d), uuid="x").final_energy
        for d in (-step, step)
    )
    slope = -(high - low) / (2 * step)
    assert neutral.frames[0].forces[1][0] == pytest.approx(slope, abs=0.05)


def test_an_odd_number_of_electrons_is_computed_with_one_unpaired():
    odd = maker().compute(start(1), uuid="odd")
    assert odd.failure is None
    assert odd.engine.settings["unpaired"] == 1


@pytest.mark.parametrize(("spin", "policy"), [(None, "none"), (2, "low")])
def test_impossible_spins_are_refused_before_anything_is_computed(spin, policy):
    with pytest.raises(ChargeError, match="odd number of electrons"):
        maker(spin=policy).compute(start(1, spin=spin), uuid="x")


def test_a_relaxation_lowers_the_energy_and_keeps_every_step(neutral):
    relaxed = maker(CalculationKind.RELAX, fmax=0.1).compute(start(0, length=1.9), uuid="r")
    assert relaxed.converged, relaxed.failure
    assert len(relaxed.frames) > 2
    assert relaxed.final_energy < relaxed.frames[0].energy
    assert {frame.charge for frame in relaxed.frames} == {0}


def test_an_scf_that_does_not_converge_is_a_failure_and_gives_no_label():
    """ASE's calculator returns the energy of such an SCF without a word."""
    failed = maker(threshold=1e-12, max_iterations=5).compute(start(0), uuid="scf")
    assert failed.failure.reason is FailureReason.SCF
    assert "DIIS" in failed.failure.message
    assert "CG" in failed.failure.message
    assert failed.frames == []


def test_charge_and_spin_are_read_back_from_what_was_computed(monkeypatch):
    told = GaussianPlaneWaveDFT(
        Cp2kSettings(**SMALL), charge=0, unpaired=0, command=get_settings().cp2k_cmd
    )
    atoms = to_atoms(with_charge(lih(), 0))
    real = calculators._Process.__init__

    def lost(self, *arguments, **parameters):
        real(self, *arguments, **{**parameters, "charge": 2})

    monkeypatch.setattr(calculators._Process, "__init__", lost)
    with pytest.raises(ChargeError, match=r"charge of \+2.0000, not \+0"):
        told.calculate(atoms)


def test_what_cp2k_said_at_its_end_is_told(monkeypatch):
    failed = maker(potential="GTH-NONE").compute(start(0), uuid="x")
    assert failed.failure.reason is FailureReason.OTHER
    assert "GTH-NONE" in failed.failure.message


def test_a_command_that_does_not_exist_is_told_with_the_variable(monkeypatch):
    monkeypatch.setenv("DEFECT_MF_CP2K_CMD", "no-such-cp2k")
    get_settings.cache_clear()
    try:
        with pytest.raises(EngineError, match="DEFECT_MF_CP2K_CMD"):
            maker().compute(start(0), uuid="x")
    finally:
        monkeypatch.undo()
        get_settings.cache_clear()


def test_version_settings_and_charge_are_recorded_and_part_of_the_hash(neutral):
    assert neutral.engine.name == "cp2k"
    assert neutral.engine.version == version(get_settings().cp2k_cmd)
    assert neutral.engine.version[0].isdigit()

    def key(made, begun):
        return input_hash(begun, made.kind, made.settings, made.engine_record(begun))

    same = key(maker(), start(0))
    assert same == key(maker(), start(0))
    for other in (key(maker(), start(1)), key(maker(cutoff=220), start(0))):
        assert other != same
