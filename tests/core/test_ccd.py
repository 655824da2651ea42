import ase.units
import numpy as np
import pytest
from ase.build import bulk
from pymatgen.core import Lattice, Structure

from defect_mf_flows.core.ccd import (
    HBAR,
    barrier,
    fitted,
    huang_rhys,
    mass_weighted_distance,
    oriented,
    path,
)
from defect_mf_flows.core.charge import charge_of, with_charge
from defect_mf_flows.errors import ResultsError

Q = np.linspace(-2, 4, 61)
PHONON, DQ = 0.030, 2.0
OMEGA = PHONON / HBAR  # (eV/amu)^(1/2) per Angstrom


def parabola(origin: float, phonon: float = PHONON) -> np.ndarray:
    return 0.5 * (phonon / HBAR) ** 2 * (Q - origin) ** 2 - 12.3


def vacancy(shift: float = 0.0) -> Structure:
    """A vacancy with its first neighbour pulled towards it."""
    atoms = bulk("ZnS", "zincblende", a=5.41, cubic=True).repeat((2, 2, 2))
    cell = Structure(
        Lattice(atoms.cell), atoms.get_chemical_symbols(), atoms.get_scaled_positions()
    )
    near = min(cell.get_neighbors(cell[0], 2.5), key=lambda n: n.index)
    cell.translate_sites([near.index], shift * (cell[0].coords - near.coords), frac_coords=False)
    cell.remove_sites([0])
    return cell


def test_the_unit_of_the_phonon_energy():
    # 1 amu on a spring of 1 eV/A^2
    omega = np.sqrt(ase.units._e * 1e20 / ase.units._amu)  # rad/s
    assert pytest.approx(ase.units._hbar * omega / ase.units._e) == HBAR


def test_two_displaced_parabolas_have_the_textbook_huang_rhys_factor():
    curve = fitted(0, Q, parabola(0.5), 0.5, DQ)
    assert curve.phonon_energy == pytest.approx(PHONON)
    assert curve.minimum == pytest.approx(0.5)
    assert curve.fit_rmse < 1e-9
    relaxation = 0.5 * OMEGA**2 * DQ**2
    assert huang_rhys(curve, DQ) == pytest.approx(relaxation / PHONON)


@pytest.mark.parametrize("energy", [0.05, 0.4, 1.0])
def test_the_barrier_of_equal_parabolas_is_marcus(energy):
    initial, final = (fitted(q, Q, parabola(o), o, DQ) for q, o in ((0, 0.0), (-1, DQ)))
    reorganisation = 0.5 * OMEGA**2 * DQ**2
    found = barrier(initial, final, energy, carrier="electron")
    expected = (reorganisation - energy) ** 2 / 4 / reorganisation
    assert found.harmonic == pytest.approx(expected, abs=1e-6)
    crossing = initial.minimum + DQ * (reorganisation - energy) / 2 / reorganisation
    if Q[0] < crossing < Q[-1]:
        assert found.sampled == pytest.approx(expected, abs=0.002)


def test_an_anharmonic_curve_is_told_apart():
    bent = parabola(0.0) + 0.02 * Q**3
    assert fitted(0, Q, bent, 0.0, DQ).fit_rmse > 1e-4


def test_a_curve_without_a_minimum_is_refused():
    with pytest.raises(ResultsError, match="no minimum"):
        fitted(-1, Q, -parabola(0.0), 0.0, DQ)


def test_the_equivalent_geometry_is_the_nearest_one():
    first = with_charge(vacancy(0.05), 0)
    turned = vacancy(0.20)
    # A fourfold improper turn about the vacancy moves the neighbour's displacement elsewhere.
    turn = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, -1]])
    second = with_charge(Structure(turned.lattice, turned.species, turned.frac_coords @ turn.T), -1)
    direct = mass_weighted_distance(with_charge(vacancy(0.05), 0), with_charge(vacancy(0.20), -1))
    found = oriented(first, second)
    assert charge_of(found) == -1
    # A rigid shift of the whole cell, which no energy feels, may bring them nearer still.
    assert 0.98 * direct < mass_weighted_distance(first, found) <= direct + 1e-3
    assert mass_weighted_distance(first, second) > 1.05 * direct


def test_the_path_ends_at_the_minima_and_goes_the_short_way():
    first, second = with_charge(vacancy(0.0), 0), vacancy(0.2)
    second.translate_sites(range(len(second)), [1, 0, -1], to_unit_cell=False)
    made = path(first, second, [0.0, 0.5, 1.0], -1, None)
    whole = mass_weighted_distance(made[0], made[2])
    assert [charge_of(s) for s in made] == [-1, -1, -1]
    assert mass_weighted_distance(made[0], made[1]) == pytest.approx(whole / 2)
    assert np.abs(made[2].frac_coords - made[0].frac_coords).max() < 0.5


def test_dq_is_the_root_of_the_mass_weighted_squares():
    first = vacancy(0.0)
    second = first.copy()
    zinc = next(n for n, site in enumerate(first) if site.specie.symbol == "Zn")
    sulphur = next(n for n, site in enumerate(first) if site.specie.symbol == "S")
    second.translate_sites([zinc], [0.3, 0.0, 0.0], frac_coords=False)
    second.translate_sites([sulphur], [0.0, -0.2, 0.1], frac_coords=False)
    expected = np.sqrt(65.38 * 0.3**2 + 32.06 * (0.2**2 + 0.1**2))
    assert mass_weighted_distance(first, second) == pytest.approx(expected, abs=2e-3)
    # Through the boundary of the cell, the short way.
    second.translate_sites([zinc], [1.0, 0.0, 0.0], to_unit_cell=False)
    assert mass_weighted_distance(first, second) == pytest.approx(expected, abs=2e-3)


def test_dq_of_hydrogen_moved_by_half_a_cell():
    cells = [Structure(Lattice.cubic(1.0), ["H"], [[x] * 3]) for x in (0.0, 0.5)]
    # The value that nonrad's tests hold.
    assert mass_weighted_distance(*cells) == pytest.approx(0.86945, abs=1e-4)
