"""Vibrations against closed forms: a diatomic crystal of springs, one oscillator, one level."""

import ase.units
import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from defect_mf_flows.core.ccd import HBAR
from defect_mf_flows.core.charge import charge_of, spin_of, with_charge, with_spin
from defect_mf_flows.core.vibrations import (
    curvature,
    level_shifts,
    normal_modes,
    pushed,
    quasi_harmonic,
    scaled,
    stable_energies,
    thermodynamics,
)
from defect_mf_flows.errors import VibrationError

SPRING = 3.0  # eV/A^2
CELL = with_spin(
    with_charge(Structure(Lattice.cubic(4.0), ["Zn", "S"], [[0, 0, 0], [0.5, 0.5, 0.5]]), -1), 1
)
REDUCED = 1 / sum(1 / float(s.specie.atomic_mass) for s in CELL)


def springs(constants: tuple[float, float, float] = (SPRING,) * 3):
    """Forces of two atoms tied by a spring per direction; each call is checked for its charge."""

    def forces(structures: list[Structure]) -> list[np.ndarray]:
        found = []
        for structure in structures:
            assert charge_of(structure) == -1
            assert spin_of(structure) == 1
            stretch = structure.cart_coords[1] - structure.cart_coords[0]
            stretch = stretch - structure.lattice.matrix.sum(axis=0) / 2
            pull = np.array(constants) * stretch
            found.append(np.array([pull, -pull]))
        return found

    return forces


def test_two_atoms_on_a_spring_vibrate_with_their_reduced_mass():
    modes = normal_modes(CELL, springs())
    assert modes.energies == pytest.approx([HBAR * np.sqrt(SPRING / REDUCED)] * 3, rel=1e-6)
    assert modes.translation < 1e-4
    # The lighter atom moves more, the other way.
    zinc, sulphur = modes.vectors[0]
    masses = [float(s.specie.atomic_mass) for s in CELL]
    assert zinc * masses[0] == pytest.approx(-sulphur * masses[1], abs=1e-6)


def test_a_cell_of_lower_symmetry_gives_each_direction_its_own_mode():
    brick = Structure(Lattice.orthorhombic(4.0, 4.2, 4.5), CELL.species, CELL.frac_coords)
    modes = normal_modes(with_spin(with_charge(brick, -1), 1), springs((3.0, 1.0, 2.0)))
    expected = [HBAR * np.sqrt(k / REDUCED) for k in (1.0, 2.0, 3.0)]
    assert modes.energies == pytest.approx(expected, rel=1e-6)
    assert [int(np.abs(v[0]).argmax()) for v in modes.vectors] == [1, 2, 0]


def test_forces_and_imaginary_modes_are_refused_with_the_remedy():
    off = CELL.copy()
    off.translate_sites([1], [0.01, 0, 0])
    with pytest.raises(VibrationError, match=r"no minimum: 0\.1200 eV/A on atom 0.*--fmax"):
        normal_modes(off, springs())
    saddle = normal_modes(CELL, springs((-SPRING,) * 3))
    with pytest.raises(VibrationError, match=r"3 imaginary mode.*--follow"):
        stable_energies(saddle, where="v_Zn -1")


def test_modes_within_the_noise_are_raised_and_counted():
    soft = normal_modes(CELL, springs((1e-6,) * 3))
    energies, softened = stable_energies(soft, where="here", noise=0.0005)
    assert softened == 3
    assert energies.tolist() == [0.0005] * 3


def test_the_push_along_a_mode_keeps_charge_and_spin():
    modes = normal_modes(CELL, springs())
    moved = pushed(CELL, modes, length=0.1)
    assert (charge_of(moved), spin_of(moved)) == (-1, 1)
    shift = np.linalg.norm(moved.cart_coords - CELL.cart_coords, axis=1)
    assert shift.max() == pytest.approx(0.1)


@pytest.mark.parametrize("kelvin", [10.0, 300.0, 2000.0])
def test_one_oscillator_has_the_textbook_free_energy(kelvin):
    phonon, kt = 0.030, ase.units.kB * kelvin
    (row,) = thermodynamics(np.array([phonon]), [kelvin])
    free = phonon / 2 + kt * np.log1p(-np.exp(-phonon / kt))
    inner = phonon * (0.5 + 1 / np.expm1(phonon / kt))
    assert row.free_energy == pytest.approx(free, abs=1e-9)
    assert row.internal_energy == pytest.approx(inner, abs=1e-9)
    assert row.entropy == pytest.approx((inner - free) / kelvin, abs=1e-12)


def test_at_zero_kelvin_only_the_zero_point_energy_is_left():
    (row,) = thermodynamics(np.array([0.030, 0.010]), [0])
    assert (row.free_energy, row.entropy) == (pytest.approx(0.020), 0)


def test_softer_modes_of_the_lower_charge_pull_the_level_down():
    hard, soft = 0.030, 0.027
    rows = [thermodynamics(np.array([e] * 10), [0, 5000]) for e in (hard, soft)]
    free = [[row.free_energy for row in state] for state in rows]
    shift = level_shifts(0, free[0], -1, free[1])
    assert shift[0] == pytest.approx(-10 * 0.003 / 2)
    assert shift[1] == pytest.approx(10 * ase.units.kB * 5000 * np.log(soft / hard), rel=0.001)
    double = level_shifts(2, free[0], 0, free[1])
    assert double == pytest.approx([s / 2 for s in shift])
    with pytest.raises(VibrationError, match="more positive first"):
        level_shifts(-1, free[0], 0, free[1])


def test_a_scaled_cell_keeps_its_charge_and_its_shape():
    larger = scaled(CELL, 0.02)
    assert charge_of(larger) == -1
    assert larger.volume == pytest.approx(CELL.volume * 1.02**3)
    assert larger.frac_coords == pytest.approx(CELL.frac_coords)


def test_classical_expansion_follows_from_the_grueneisen_parameter():
    """E = B V0 x^2 / 2 and omega ~ V^-gamma: expansion 3 N kB gamma / (B V0) when classical."""
    bulk, v0, gamma, modes = 0.5, 100.0, 2.0, 30
    strains = [-0.02, -0.01, 0.0, 0.01, 0.02, 0.03]
    volumes = [v0 * (1 + s) ** 3 for s in strains]
    energies = [0.5 * bulk * v0 * np.log(v / v0) ** 2 for v in volumes]
    kelvins = [300.0, 400.0, 500.0]
    thermal = [
        thermodynamics(np.array([0.001 * (v / v0) ** -gamma] * modes), kelvins) for v in volumes
    ]
    found = quasi_harmonic("v_Zn", -1, strains, volumes, energies, thermal)
    expected = modes * ase.units.kB * gamma / bulk / v0
    assert found.expansion[1] == pytest.approx(expected, rel=0.05)
    assert found.bulk_modulus[0] == pytest.approx(bulk / ase.units.GPa, rel=0.1)
    with pytest.raises(VibrationError, match="--strain"):
        quasi_harmonic(None, 0, strains, volumes, [5.0 - v / v0 for v in volumes], thermal)
    with pytest.raises(VibrationError, match="five"):
        quasi_harmonic(None, 0, strains[:3], volumes[:3], energies[:3], thermal[:3])


def test_the_curvature_of_springs_is_their_stiffness_also_away_from_the_minimum():
    brick = Structure(Lattice.orthorhombic(4.0, 4.2, 4.5), CELL.species, CELL.frac_coords)
    off = brick.copy()
    off.translate_sites([1], [0.01, 0.02, 0.0])
    for cell in (brick, off):
        found = curvature(with_spin(with_charge(cell, -1), 1), springs((3.0, 1.0, 2.0)))
        stiff = np.diag([3.0, 1.0, 2.0])
        np.testing.assert_allclose(found, np.block([[stiff, -stiff], [-stiff, stiff]]), atol=1e-6)
