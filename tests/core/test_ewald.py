import numpy as np
import pytest

from defect_mf_flows.core.ewald import COULOMB, AnisotropicEwald, dielectric_tensor
from defect_mf_flows.errors import ResultsError

E2 = COULOMB / 4 / np.pi  # eV Angstrom
SKEWED = np.array([[3.0, 0.0, 1.0], [0.3, 9.0, 0.0], [2.0, 1.0, 14.0]])


@pytest.mark.parametrize(
    ("lattice", "madelung"),
    [
        (np.eye(3), 2.837297479),  # simple cubic
        (np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]) / 2, 3.639233450),  # body-centred
        (np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2, 4.584862200),  # face-centred
    ],
)
def test_energy_is_the_madelung_energy_of_a_known_lattice(lattice, madelung):
    edge, eps = 11.0, 7.5
    found = AnisotropicEwald(edge * lattice, np.eye(3) * eps).energy()
    assert found == pytest.approx(-madelung * E2 / (2 * eps * edge), rel=1e-6)


@pytest.mark.parametrize("eps", [1.0, 10.0, 100.0, 1000.0])
def test_energy_falls_exactly_with_an_isotropic_dielectric_constant(eps):
    vacuum = AnisotropicEwald(SKEWED, np.eye(3)).energy()
    assert AnisotropicEwald(SKEWED, eps * np.eye(3)).energy() == pytest.approx(vacuum / eps, 1e-10)


def test_nothing_depends_on_the_screening():
    tensor = np.diag([3.0, 20.0, 400.0])
    sums = [AnisotropicEwald(SKEWED, tensor, width=w) for w in (0.7, 1.0, 1.5)]
    place = np.array([0.3, 0.4, 0.1])
    assert np.ptp([s.energy() for s in sums]) < 1e-10
    assert np.ptp([s.potential(place) for s in sums]) < 1e-10


def test_an_anisotropic_medium_is_a_stretched_vacuum():
    # r -> eps^(-1/2) r turns the medium into vacuum with the charge's energy over det^(1/2).
    tensor = np.array([[6.0, 1.0, 0.0], [1.0, 20.0, 2.0], [0.0, 2.0, 90.0]])
    values, vectors = np.linalg.eigh(tensor)
    stretched = SKEWED @ (vectors / np.sqrt(values)) @ vectors.T
    vacuum = AnisotropicEwald(stretched, np.eye(3)).energy()
    expected = vacuum / np.sqrt(np.linalg.det(tensor))
    assert AnisotropicEwald(SKEWED, tensor).energy() == pytest.approx(expected, rel=1e-9)


def test_pydefects_sum_agrees_where_it_converges_and_not_at_100():
    from pydefect.corrections.ewald import Ewald

    lattice, ours, theirs = 10.86 * np.eye(3), {}, {}
    for eps in (8.9, 100.0):
        ours[eps] = AnisotropicEwald(lattice, eps * np.eye(3)).energy()
        theirs[eps] = COULOMB * Ewald(lattice, eps * np.eye(3)).lattice_energy
    assert theirs[8.9] == pytest.approx(ours[8.9], abs=1e-6)
    assert abs(theirs[100.0] - ours[100.0]) > 1e-3


def test_the_potential_averages_to_zero():
    ewald = AnisotropicEwald(8 * np.eye(3), np.diag([4.0, 4.0, 12.0]))
    grid = (np.arange(12) + 0.5) / 12
    mean = np.mean([ewald.potential((x, y, z)) for x in grid for y in grid for z in grid])
    assert abs(mean) < 5e-3 * abs(ewald.potential((0.05, 0, 0)))


def test_tensors_are_checked():
    assert np.array_equal(dielectric_tensor(["8.9", "8.9", "7"]), np.diag([8.9, 8.9, 7.0]))
    for wrong, word in (
        ([1, 2], "2 numbers"),
        (0.5, "vacuum"),
        ([[2, 1, 0], [0, 2, 0], [0, 0, 2]], "symmetric"),
    ):
        with pytest.raises(ResultsError, match=word):
            dielectric_tensor(wrong)
