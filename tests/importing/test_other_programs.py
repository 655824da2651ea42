"""Outputs of GPAW 26.7 and CP2K 2023.1: bulk Si, and its vacancy at charge +2, own runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.units import Bohr, Hartree
from pymatgen.io.ase import AseAtomsAdaptor

from defect_mf_flows.importing.identify import Host
from defect_mf_flows.importing.plan import make_plan
from defect_mf_flows.importing.rows import State
from defect_mf_flows.importing.sources import read
from defect_mf_flows.importing.walk import walk

DATA = Path(__file__).parent / "data"


def plan_of(*paths, bulk=None):
    return make_plan(walk(list(paths)), "pbe", bulk=bulk)


@pytest.fixture
def silicon() -> Host:
    structure = AseAtomsAdaptor.get_structure(bulk("Si", "diamond", a=5.43, cubic=True))
    return Host(structure, {}, "silicon")


def test_gpaw(tmp_path):
    host, vacancy = plan_of(DATA / "gpaw").rows
    assert (host.defect, host.charge, host.n_frames) == (None, 0, 1)
    assert (vacancy.defect, vacancy.charge, vacancy.n_frames) == ("v_Si", 2, 2)
    assert vacancy.energy == pytest.approx(-39.622880)
    assert vacancy.method == {"xc": "XC(name='PBE')", "mode": "PW(ecut=200.0)"}
    assert (vacancy.program, vacancy.version, vacancy.kpoints) == ("gpaw", "26.7.0", "1x1x1")
    (reading,) = read(vacancy.source)
    assert np.allclose(reading.steps[0].forces[0], [0.00717, 1.12770, 0.57955])
    assert np.allclose(reading.steps[1].positions[0] - reading.steps[0].positions[0], 0.01)


def test_cp2k(silicon):
    unconverged, vacancy = plan_of(DATA / "cp2k", bulk=silicon).rows
    assert unconverged.state is State.REFUSED, "its only SCF did not converge"
    assert "step 0: the SCF did not converge; left out" in unconverged.notes
    assert (vacancy.defect, vacancy.charge) == ("v_Si", 2)
    assert (vacancy.n_frames, vacancy.left_out) == (2, 1)
    assert "step 0: the SCF did not converge; left out" in vacancy.notes
    assert vacancy.energy == pytest.approx(-27.499830091284842 * Hartree)
    assert vacancy.method["functional"] == "PBE"
    (reading,) = read(vacancy.source)
    assert np.allclose(
        reading.steps[0].forces[0],
        np.array([-0.01141272, 0.01597069, 0.00265515]) * Hartree / Bohr,
    ), "CP2K prints Hartree per Bohr"
    assert np.allclose(reading.steps[1].positions[0], [1.3711836566, 1.3899162842, 1.3783591570])


def test_cp2k_without_its_trajectory_is_refused(tmp_path, silicon):
    shutil.copytree(DATA / "cp2k" / "v_Si_2", tmp_path / "c" / "v_Si_2")
    (tmp_path / "c" / "v_Si_2" / "v_Si_2-pos-1.xyz").unlink()
    refused = plan_of(tmp_path / "c", bulk=silicon).of(State.REFUSED)
    assert len(refused) == 1
    assert "v_Si_2-pos-1.xyz, which is missing" in refused[0].notes[0]


def test_programs_do_not_mix():
    (refused,) = plan_of(DATA / "gpaw", DATA / "cp2k" / "v_Si_2").of(State.REFUSED)
    assert refused.program == "cp2k"
    assert "not comparable: encut 100" in refused.notes[0]
