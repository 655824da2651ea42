"""Against the closed forms of a textbook: parabolic bands, one kind of defect."""

from pathlib import Path

import ase
import numpy as np
import pytest
from doped.thermodynamics import DefectThermodynamics, get_e_h_concs
from pymatgen.core import Lattice, Structure
from scipy.constants import physical_constants

from defect_mf_flows.core.concentrations import (
    Conditions,
    equilibrium,
    neutrality,
    parabolic_dos,
    vasprun_dos,
)
from defect_mf_flows.core.defects import doped_entry, quiet
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.schemas.calculation import BandEdges

BOLTZMANN = physical_constants["Boltzmann constant in eV/K"][0]
EDGES = BandEdges(vbm=-2.0, cbm=-0.5)
MASSES = {"electron": 0.2, "hole": 0.8}


def effective_density(mass: float, temperature: float) -> float:
    """2 (2 pi m kT / h^2)^(3/2), cm^-3: 2.51e19 for a free electron at 300 K."""
    return 2.5094e19 * (mass * temperature / 300.0) ** 1.5


@pytest.fixture(scope="module")
def cell() -> Structure:
    return Structure.from_spacegroup(
        "F-43m", Lattice.cubic(5.41), ["Zn", "S"], [[0, 0, 0], [0.25, 0.25, 0.25]]
    )


@pytest.fixture(scope="module")
def dos(cell):
    return parabolic_dos(cell, EDGES, **MASSES)[0]


def thermodynamics(defect, host, formation: dict[int, float]) -> DefectThermodynamics:
    """doped's object of charge states with these formation energies at the VBM."""
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    entries = []
    for charge, energy in formation.items():
        entry = doped_entry(defect, charge=charge)
        entry.bulk_entry = ComputedStructureEntry(host.supercell, 0.0)
        entry.sc_entry = ComputedStructureEntry(defect.supercell, energy - charge * EDGES.vbm)
        entry.calculation_metadata = {"vbm": EDGES.vbm, "band_gap": EDGES.gap}
        entry.degeneracy_factors = {"spin degeneracy": 1, "orientational degeneracy": 1}
        entries.append(entry)
    with quiet():
        return DefectThermodynamics(
            entries, vbm=EDGES.vbm, band_gap=EDGES.gap, check_compatibility=False
        )


def solved(thermo, dos, **conditions):
    zero = {"Zn": 0.0, "S": 0.0}
    return equilibrium(thermo, dos, Conditions(**conditions), potentials=zero, label="test")


@pytest.mark.parametrize("temperature", [200.0, 300.0, 1000.0])
@pytest.mark.parametrize("level", [0.4, 0.75, 1.1])
def test_carriers_of_parabolic_bands(dos, temperature, level):
    kt = BOLTZMANN * temperature
    electrons, holes = get_e_h_concs(dos, level + EDGES.vbm, temperature)
    expected = effective_density(0.2, temperature) * np.exp(-(EDGES.gap - level) / kt)
    assert electrons == pytest.approx(expected, rel=5e-3)
    assert holes == pytest.approx(
        effective_density(0.8, temperature) * np.exp(-level / kt), rel=5e-3
    )


@pytest.mark.parametrize("temperature", [300.0, 900.0])
def test_the_intrinsic_level_is_that_of_the_masses(vacancy, defect_set, dos, temperature):
    """Eg/2 + 3/4 kT ln(mh/me): a neutral defect takes no part."""
    found = solved(thermodynamics(vacancy, defect_set.host, {0: 5.0}), dos, temperature=temperature)
    expected = EDGES.gap / 2 + 0.75 * BOLTZMANN * temperature * np.log(0.8 / 0.2)
    assert found.fermi_level == pytest.approx(expected, abs=2e-4)
    assert found.electrons == pytest.approx(found.holes, rel=1e-6)
    assert neutrality(found) < 1e-6


def test_a_dopant_moves_the_level_to_the_band(vacancy, defect_set, dos):
    """n = N_D where holes and defects do not count: Ec - kT ln(Nc / N_D)."""
    found = solved(
        thermodynamics(vacancy, defect_set.host, {0: 5.0}), dos, temperature=300.0, dopant=1e16
    )
    depth = BOLTZMANN * 300 * np.log(effective_density(0.2, 300) / 1e16)
    assert found.fermi_level == pytest.approx(EDGES.gap - depth, abs=1e-3)
    assert found.electrons == pytest.approx(1e16, rel=1e-3)
    assert [d.defect for d in found.defects] == [vacancy.name]


def test_an_acceptor_that_is_always_ionised(vacancy, defect_set, dos):
    """p = [A-]: E_F = (E0 + kT ln(Nv / N)) / 2 with N sites and E0 its energy at the VBM."""
    thermo = thermodynamics(vacancy, defect_set.host, {-1: 0.9})
    found = solved(thermo, dos, temperature=800.0)
    kt = BOLTZMANN * 800
    entry = next(iter(thermo.defect_entries.values()))
    sites = entry.bulk_site_concentration
    volume = defect_set.host.supercell.volume * 1e-24
    zinc = defect_set.host.supercell.composition["Zn"]
    assert sites == pytest.approx(zinc / volume, rel=1e-6)
    expected = (0.9 + kt * np.log(effective_density(0.8, 800.0) / sites)) / 2
    assert found.fermi_level == pytest.approx(expected, abs=1e-3)
    assert found.defects[0].concentration == pytest.approx(found.holes, rel=1e-3)
    assert found.defects[0].formation == pytest.approx(0.9 - found.fermi_level, abs=1e-3)
    assert neutrality(found) < 1e-6


def test_frozen_defects_keep_their_number_and_change_their_charge(vacancy, defect_set, dos):
    thermo = thermodynamics(vacancy, defect_set.host, {0: 1.0, -1: 1.5})
    hot = solved(thermo, dos, temperature=900.0)
    cold = solved(thermo, dos, temperature=300.0, frozen_from=900.0)
    assert sum(d.concentration for d in cold.defects) == pytest.approx(
        sum(d.concentration for d in hot.defects), rel=1e-6
    )
    assert neutrality(cold) < 1e-6
    assert cold.fermi_level != pytest.approx(hot.fermi_level, abs=0.01)
    assert cold.frozen_from == 900.0


#: A small real vasprun.xml (NaCl, PBE) that comes with ASE.
REAL = Path(ase.__file__).parent / "test" / "testdata" / "vasp" / "vasprun_dfpt.xml"


needs_vasprun = pytest.mark.skipif(
    not REAL.is_file(), reason=f"NO VASPRUN: this ASE has no {REAL.name}"
)
NACL = BandEdges(vbm=0.1414, cbm=5.6402)  # of its eigenvalues


@needs_vasprun
def test_a_smeared_density_of_states_is_refused():
    """That file's has 301 points and edges that are half an eV wide."""
    with pytest.raises(ResultsError, match=r"smeared or coarse.*ISMEAR = -5"):
        vasprun_dos(REAL, BandEdges(vbm=10.0, cbm=15.4988))
    with pytest.raises(ResultsError, match=r"band gap is 5\.499 eV .* 3\.000 eV"):
        vasprun_dos(REAL, BandEdges(vbm=10.0, cbm=13.0))


@needs_vasprun
def test_a_density_of_states_of_vasp_is_read_and_moved_to_the_levels_edge(tmp_path):
    """The file's own, replaced by sharp parabolic bands whose carriers are known."""
    from pymatgen.io.vasp.outputs import Vasprun

    cell = Vasprun(str(REAL), parse_dos=False, parse_potcar_file=False).final_structure
    energies = np.arange(-6.0, 9.0, 2e-3)

    def band(depth, mass):
        root = np.sqrt(np.clip(depth, 0.0, None))
        return cell.volume / (2 * np.pi**2) * (mass / 3.80998) ** 1.5 * root

    valence = band(NACL.vbm - energies, 0.8)
    deep = (energies > -5.9) & (energies < -4.0)  # where the other electrons are
    valence[deep] += (8.0 - np.trapezoid(valence, energies)) / 1.9
    density = valence + band(energies - NACL.cbm, 0.2)
    rows = "\n".join(
        f"       <r> {e:.4f} {g:.8f} 0.0 </r>" for e, g in zip(energies, density, strict=True)
    )
    text = REAL.read_text()
    start = text.index('<set comment="spin 1">', text.index("<dos>")) + len(
        '<set comment="spin 1">'
    )
    path = tmp_path / "vasprun.xml"
    path.write_text(f"{text[:start]}\n{rows}\n{text[text.index('</set>', start) :]}")

    moved, label = vasprun_dos(path, BandEdges(vbm=10.0, cbm=15.4988))
    assert label == "vasprun.xml"
    kt = BOLTZMANN * 1000.0
    electrons, holes = get_e_h_concs(moved, 10.0 + 2.5, 1000.0)
    assert holes == pytest.approx(effective_density(0.8, 1000.0) * np.exp(-2.5 / kt), rel=0.03)
    expected = effective_density(0.2, 1000.0) * np.exp(-(5.4988 - 2.5) / kt)
    assert electrons == pytest.approx(expected, rel=0.03)


def test_what_is_no_band_structure_is_refused(cell, tmp_path):
    with pytest.raises(ResultsError, match="both are positive"):
        parabolic_dos(cell, EDGES, electron=-0.2, hole=1.0)
    with pytest.raises(ResultsError, match="--gap"):
        parabolic_dos(cell, BandEdges(vbm=0.0, cbm=0.0), electron=0.2, hole=1.0)
    cut = tmp_path / "vasprun.xml"
    cut.write_text("<modeling>")
    with pytest.raises(ResultsError, match="--masses"):
        vasprun_dos(cut, EDGES)
