"""Corrections from potentials against closed forms: a screened Gaussian in a periodic cell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp.inputs import Poscar
from pymatgen.io.vasp.outputs import Locpot

from defect_mf_flows.core.corrections import efnv, far_potential, fnv, point_charge
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.schemas.levels import CorrectionMethod

#: e^2 / (4 pi eps_0), eV A.
COULOMB = 14.399645
EPSILON, WIDTH, GRID = 8.0, 0.8, 28
#: Both cells have a potential without a zero of its own: the defect's electrons sit higher, eV.
SHIFT = 0.15


@pytest.fixture(scope="module")
def host() -> Structure:
    cubic = Structure.from_spacegroup(
        "F-43m", Lattice.cubic(5.41), ["Zn", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]]
    )
    return cubic.make_supercell([2, 2, 2])


@pytest.fixture(scope="module")
def vacancy(host: Structure) -> tuple[Structure, np.ndarray]:
    cell, index = host.copy(), 5
    site = np.array(host[index].frac_coords)
    cell.remove_sites([index])
    return cell, site


def gaussian_potential(lattice: Lattice, site: np.ndarray, charge: int, points: np.ndarray):
    """Potential (V) of a Gaussian charge in a neutralising background, at fractional points."""
    reach = GRID // 2
    axis = np.arange(-reach + 1, reach)
    numbers = np.array(np.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, -1).T
    numbers = numbers[np.any(numbers != 0, axis=1)]
    squares = np.sum((numbers @ lattice.reciprocal_lattice.matrix) ** 2, axis=1)
    weights = np.exp(-squares * WIDTH**2 / 4) / squares
    keep = weights > 1e-9 * weights.max()
    numbers, weights = numbers[keep], weights[keep]
    found = np.concatenate(
        [
            np.cos(2 * np.pi * (some - site) @ numbers.T) @ weights
            for some in np.array_split(points, max(1, len(points) // 200))
        ]
    )
    return 4 * np.pi * COULOMB * charge / (EPSILON * lattice.volume) * found


def ripple(points: np.ndarray) -> np.ndarray:
    """Potential of the host, V: anything with its period, the same in both cells."""
    return 3.0 * np.cos(4 * np.pi * points).sum(axis=1)


def write_locpot(path: Path, cell: Structure, values: np.ndarray) -> Path:
    # Without negative zeros, which the writer does not know.
    Locpot(Poscar(cell), {"total": values.reshape(GRID, GRID, GRID) + 0.0}).write_file(path)
    return path


@pytest.mark.parametrize("charge", [-2, 1])
def test_fnv_of_a_screened_gaussian_is_its_images_and_the_shift(
    host: Structure, vacancy: tuple[Structure, np.ndarray], tmp_path: Path, charge: int
) -> None:
    cell, site = vacancy
    axis = np.arange(GRID) / GRID
    grid = np.array(np.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, -1).T
    # LOCPOT is what an electron feels: the other sign, and the shift lifts it.
    electron = -ripple(grid) - gaussian_potential(host.lattice, site, charge, grid) + SHIFT
    found = fnv(
        cell,
        host,
        charge,
        EPSILON,
        locpot=write_locpot(tmp_path / "LOCPOT", cell, electron),
        host_locpot=write_locpot(tmp_path / "LOCPOT_host", host, -ripple(grid)),
        defect="v_Zn",
    )
    images = point_charge(cell, charge, EPSILON).energy
    assert found.method is CorrectionMethod.FNV
    assert found.charge == charge
    assert found.site == pytest.approx(site, abs=1e-6)
    assert found.point_charge == pytest.approx(images, rel=0.01)
    assert found.alignment == pytest.approx(charge * SHIFT, abs=0.02)
    assert found.energy == pytest.approx(images + charge * SHIFT, abs=0.03)
    assert [Path(source).name for source in found.source] == ["LOCPOT", "LOCPOT_host"]


@pytest.mark.parametrize(
    "tensor", [[9.0, 9.0, 7.0], [[9.0, 1.0, 0.0], [1.0, 9.0, 0.0], [0.0, 0.0, 9.0]]]
)
def test_fnv_refuses_an_anisotropic_dielectric_tensor(
    host: Structure, vacancy: tuple[Structure, np.ndarray], tmp_path: Path, tensor: list
) -> None:
    nowhere = {"locpot": tmp_path / "LOCPOT", "host_locpot": tmp_path / "LOCPOT_host"}
    with pytest.raises(ResultsError, match=r"v_Zn -2: FNV is for isotropic .* choose eFNV"):
        fnv(vacancy[0], host, -2, tensor, **nowhere, defect="v_Zn")


@pytest.mark.parametrize("charge", [-2, 1])
def test_efnv_of_the_same_potentials_agrees(
    host: Structure, vacancy: tuple[Structure, np.ndarray], charge: int
) -> None:
    cell, site = vacancy
    own = gaussian_potential(host.lattice, site, charge, cell.frac_coords)
    found = efnv(
        cell,
        host,
        charge,
        EPSILON,
        potentials=ripple(cell.frac_coords) + own - SHIFT,
        host_potentials=ripple(host.frac_coords),
    )
    images = point_charge(cell, charge, EPSILON).energy
    assert found.point_charge == pytest.approx(images)
    assert found.alignment == pytest.approx(charge * SHIFT, abs=0.02)
    far = far_potential(
        cell,
        host,
        potentials=ripple(cell.frac_coords) + own - SHIFT,
        host_potentials=ripple(host.frac_coords),
    )
    assert far == pytest.approx(found.far_potential)
