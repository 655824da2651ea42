"""Real GPAW on two atoms of LiH: charge, forces of a hybrid, fallbacks, failures."""

from __future__ import annotations

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.campaign.gpaw import GpawSettings
from defect_mf_flows.core.charge import to_atoms, with_charge
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.engines.gpaw.calculator import PlaneWaveDFT
from defect_mf_flows.engines.reuse import input_hash
from defect_mf_flows.errors import ChargeError, FidelityError
from defect_mf_flows.schemas.calculation import CalculationKind, FailureReason
from defect_mf_flows.schemas.defect import StartStructure

gpaw = pytest.importorskip(
    "gpaw", reason="SKIPPED: GPAW is not installed (extra 'gpaw', see docs/gpaw.md)"
)
pytestmark = pytest.mark.gpaw

SMALL = {"functional": "PBE", "encut": 200, "gamma_only": True}
TIGHT = {"density": 1e-6, "energy": 1e-7, "eigenstates": 1e-10}


def lih(shift: float = 0.1) -> Structure:
    primitive = Lattice(2.04 * (1 - np.eye(3)))
    cell = Structure(primitive, ["Li", "H"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    cell.translate_sites([1], [shift, 0, 0], frac_coords=False)
    return cell


def start(charge: int, *, spin: int | None = None, shift: float = 0.1) -> StartStructure:
    cell = with_charge(lih(shift), charge)
    return StartStructure(defect=None, charge=charge, spin=spin, label="LiH", structure=cell)


def maker(kind=CalculationKind.STATIC, fmax=0.05, steps=10, **changes):
    settings = FidelitySettings(
        engine="gpaw", settings={**SMALL, **changes}, fmax=fmax, steps=steps
    )
    return reference_maker("level", settings, kind)


@pytest.fixture(scope="module")
def neutral():
    return maker().compute(start(0), uuid="neutral")


@pytest.fixture(scope="module")
def hybrid():
    return maker(functional="HSE06", **TIGHT).compute(start(0), uuid="hybrid")


def test_a_flipped_charge_changes_the_energy_of_the_same_geometry(neutral):
    charged = maker().compute(start(2), uuid="charged")
    assert neutral.failure is None
    assert charged.failure is None
    assert charged.charge == charged.frames[0].charge == 2
    assert abs(charged.final_energy - neutral.final_energy) > 1.0, "two electrons are worth eV"
    assert not np.allclose(charged.frames[0].forces, neutral.frames[0].forces, atol=1e-2)


def test_an_odd_number_of_electrons_is_computed_with_one_unpaired():
    odd = maker().compute(start(1), uuid="odd")
    assert odd.failure is None
    assert odd.engine.settings["unpaired"] == 1


@pytest.mark.parametrize(("spin", "policy"), [(None, "none"), (2, "low")])
def test_impossible_spins_are_refused_before_anything_is_computed(spin, policy):
    with pytest.raises(ChargeError, match="odd number of electrons"):
        maker(spin=policy).compute(start(1, spin=spin), uuid="x")


def test_charge_and_functional_are_read_back_from_what_was_computed():
    calculator = PlaneWaveDFT(GpawSettings(**SMALL), charge=0, unpaired=0)
    atoms = to_atoms(with_charge(lih(), 0))
    atoms.calc = calculator
    atoms.get_potential_energy()
    solver = calculator._gpaw
    calculator.parameters["charge"] = 1
    with pytest.raises(ChargeError, match=r"a charge of [+-]0.0000, not \+1"):
        calculator._check(solver)
    calculator.parameters["charge"] = 0
    calculator.settings = GpawSettings(**{**SMALL, "functional": "HSE06"})
    with pytest.raises(FidelityError, match="PBE, not HSE06"):
        calculator._check(solver)


def test_band_edges_and_provenance_are_recorded(neutral):
    grid = maker(gamma_only=False, kpoints=[2, 2, 2]).compute(start(0), uuid="grid")
    # LiH has its edges at the border of the zone: more k-points, a smaller gap.
    assert 1.0 < grid.band_edges.gap < neutral.band_edges.gap - 1.0
    engine = neutral.engine
    assert (engine.name, engine.version) == ("gpaw", gpaw.__version__)
    assert engine.settings["charge"] == 0
    assert engine.settings["encut"] == 200
    assert set(engine.settings["setups"]) == {"Li", "H"}


def test_levels_next_to_the_gap_are_recorded_per_k_point(neutral):
    grid = maker(gamma_only=False, kpoints=[2, 2, 2]).compute(start(0), uuid="levels")
    assert len(neutral.frontier) == 1
    assert len(grid.frontier) > 1, "unequal weights must not make full bands look empty"
    for done in (neutral, grid):
        assert max(level.occupied for level in done.frontier) == pytest.approx(done.band_edges.vbm)
        assert min(level.empty for level in done.frontier) == pytest.approx(done.band_edges.cbm)


def test_the_empty_spin_channel_of_a_hole_is_empty():
    hole = maker().compute(start(1), uuid="hole")
    [level] = hole.frontier
    assert level.occupied == pytest.approx(hole.band_edges.vbm)
    assert level.empty == pytest.approx(hole.band_edges.cbm)


def test_the_same_input_is_recognised_and_another_cutoff_is_another_input(neutral):
    same, other = maker(), maker(encut=250)
    asked = same.engine_record(start(0))
    assert asked == neutral.engine
    keys = [
        input_hash(start(0), m.kind, m.settings, m.engine_record(start(0))) for m in (same, other)
    ]
    assert keys[0] == same.hashed(neutral, start(0), neutral.engine).input_hash
    assert keys[0] != keys[1]


@pytest.mark.slow
def test_forces_of_hse06_are_the_slope_of_its_energy(hybrid):
    step = 0.02
    energies = [
        maker(functional="HSE06", **TIGHT).compute(start(0, shift=0.1 + d), uuid="d").final_energy
        for d in (-step, step)
    ]
    slope = -(energies[1] - energies[0]) / (2 * step)
    force = np.asarray(hybrid.frames[0].forces)[1, 0]
    assert abs(force) > 0.05
    assert force == pytest.approx(slope, abs=0.01)


def test_a_hybrid_from_pbe_orbitals_is_the_hybrid_from_atomic_ones(hybrid):
    calculator = PlaneWaveDFT(
        GpawSettings(**{**SMALL, "functional": "HSE06", **TIGHT}), charge=0, unpaired=0
    )
    atoms = to_atoms(with_charge(lih(), 0))
    cold = calculator._solver(atoms, "HSE06")
    assert hybrid.notes == []
    assert hybrid.final_energy == pytest.approx(cold.get_potential_energy(atoms), abs=2e-4)


def test_an_scf_that_converges_with_no_attempt_is_recorded_with_every_reason():
    failed = maker(max_iterations=5, **TIGHT).compute(start(0), uuid="failed")
    assert failed.failure.reason is FailureReason.SCF
    for attempt in ("atomic orbitals", "second mixer", "broader smearing"):
        assert attempt in failed.failure.message
    assert failed.frames == []
    assert failed.charge == failed.failure.charge == 0


@pytest.mark.parametrize("failures", [1, 2])
def test_fallbacks_end_in_the_same_method_and_are_noted(neutral, monkeypatch, failures):
    real = PlaneWaveDFT._fresh
    left = [failures]

    def failing(self, atoms, mixer=None):
        if left[0]:
            left[0] -= 1
            raise gpaw.KohnShamConvergenceError
        return real(self, atoms, mixer)

    monkeypatch.setattr(PlaneWaveDFT, "_fresh", failing)
    done = maker().compute(start(0), uuid="fallback")
    assert done.failure is None
    assert len(done.notes) == failures
    assert all(note.startswith("step 0: SCF from atomic orbitals") for note in done.notes)
    assert done.final_energy == pytest.approx(neutral.final_energy, abs=2e-3)


def test_a_relaxation_lowers_the_energy_in_a_fixed_cell():
    relaxed = maker(CalculationKind.RELAX, fmax=0.1).compute(start(0, shift=0.2), uuid="r")
    assert relaxed.converged, relaxed.failure
    assert relaxed.final_energy < relaxed.frames[0].energy
    assert relaxed.final_structure.lattice == start(0).structure.lattice


def test_a_hybrid_relaxes_over_several_steps():
    """Each step starts from PBE orbitals of its own geometry: moved ones lack eigenvalues."""
    relaxed = maker(CalculationKind.RELAX, functional="HSE06", fmax=0.05, steps=2).compute(
        start(0, shift=0.2), uuid="h"
    )
    assert relaxed.n_frames == 3
    assert relaxed.frames[-1].energy < relaxed.frames[0].energy
    assert relaxed.notes == []
