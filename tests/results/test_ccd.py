from types import SimpleNamespace

import pytest
from ase.build import bulk
from pymatgen.core import Lattice, Structure

from defect_mf_flows.core.ccd import HBAR, mass_weighted_distance, oriented
from defect_mf_flows.core.charge import charge_of, with_charge
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.report.ccd_figure import ccd_lines, write_ccd
from defect_mf_flows.results.ccd import coordinate_diagram
from defect_mf_flows.schemas.calculation import BandEdges

PHONON = {0: 0.030, -1: 0.025}


def minimum(charge: int) -> Structure:
    atoms = bulk("ZnS", "zincblende", a=5.41, cubic=True).repeat((2, 2, 1))
    cell = Structure(
        Lattice(atoms.cell), atoms.get_chemical_symbols(), atoms.get_scaled_positions()
    )
    near = sorted(cell.get_neighbors(cell[0], 2.5), key=lambda n: n.index)[:2]
    for n, neighbour in enumerate(near):
        pull = 0.05 + 0.05 * n - 0.1 * charge
        cell.translate_sites(
            [neighbour.index], pull * (cell[0].coords - neighbour.coords), frac_coords=False
        )
    cell.remove_sites([0])
    return with_charge(cell, charge)


#: Less the rigid shift of the cell, which no energy of a crystal would feel.
NEAREST = oriented(minimum(0), minimum(-1))


def results(level: float | None = 0.9, edges: BandEdges | None = None) -> SimpleNamespace:
    levels = [SimpleNamespace(defect="v_Zn", from_charge=0, to_charge=-1, hf=level, model=0.8)] * (
        level is not None
    )
    return SimpleNamespace(
        ground_states=[
            SimpleNamespace(defect="v_Zn", charge=q, structure=minimum(q)) for q in (0, -1)
        ],
        transition_levels=levels,
        band_edges=edges or BandEdges(vbm=-1.0, cbm=2.0),
        correction="none",
        disclaimer=None,
    )


def springs(structures: list[Structure]) -> list[float]:
    """Exact parabolas about either minimum, in the mass-weighted distance from it."""
    found, minima = [], {0: minimum(0), -1: NEAREST}
    for structure in structures:
        charge = charge_of(structure)
        distance = mass_weighted_distance(minima[charge], structure)
        found.append(-50.0 - 3 * charge + 0.5 * (PHONON[charge] / HBAR) ** 2 * distance**2)
    return found


def test_two_springs_give_back_their_modes_and_factors():
    found = coordinate_diagram(results(), "v_Zn", (-1, 0), springs)
    assert [c.charge for c in found.curves] == [0, -1]
    dq = mass_weighted_distance(minimum(0), NEAREST)
    assert found.dq == pytest.approx(dq)
    for curve, own in zip(found.curves, (0.0, dq), strict=True):
        assert curve.phonon_energy == pytest.approx(PHONON[curve.charge], rel=1e-4)
        assert curve.minimum == pytest.approx(own, abs=1e-4)
        expected = 0.5 * PHONON[curve.charge] * dq**2 / HBAR**2
        assert found.huang_rhys[f"{curve.charge:+d}"] == pytest.approx(expected, rel=1e-4)
    assert found.notes == []


def test_barriers_start_at_the_band_edges():
    found = coordinate_diagram(results(), "v_Zn", (0, -1), springs)
    released = {(b.carrier, b.initial, b.final): b.energy for b in found.barriers}
    assert released == {
        ("electron", 0, -1): pytest.approx(3.0 - 0.9),
        ("hole", -1, 0): pytest.approx(0.9),
    }
    assert coordinate_diagram(results(level=None), "v_Zn", (0, -1), springs).barriers == []


def test_the_charge_of_every_geometry_is_the_curves():
    seen = []

    def energies(structures: list[Structure]) -> list[float]:
        seen.append({charge_of(s) for s in structures})
        return springs(structures)

    coordinate_diagram(results(), "v_Zn", (0, -1), energies, points=21)
    assert seen == [{0}, {-1}]


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ResultsError, match="differ by one"):
        coordinate_diagram(results(), "v_Zn", (0, -2), springs)
    with pytest.raises(ResultsError, match="no ground state of v_S"):
        coordinate_diagram(results(), "v_S", (0, -1), springs)


def test_the_figure_and_the_text_hold_the_numbers(tmp_path):
    found = coordinate_diagram(results(level=2.9), "v_Zn", (0, -1), springs)
    write_ccd(found, tmp_path / "ccd.png")
    assert (tmp_path / "ccd.png").read_bytes().startswith(b"\x89PNG")
    text = "\n".join(ccd_lines(found))
    assert f"dQ = {found.dq:.3f}" in text
    assert "electron capture 0 -> -1" in text
    assert found.barriers[0].sampled == pytest.approx(found.barriers[0].harmonic, abs=0.005)
