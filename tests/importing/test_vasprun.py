"""vasprun.xml of the stand-in, in VASP's layout, and a ShakeNBreak tree of them."""

from __future__ import annotations

import gzip
import re
import shutil

import numpy as np
import pytest

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.engines.vasp.running import executions
from defect_mf_flows.engines.vasp.vasprun import VasprunXml
from defect_mf_flows.importing.plan import make_plan
from defect_mf_flows.importing.walk import Kind, walk
from defect_mf_flows.schemas.calculation import CalculationKind
from defect_mf_flows.testing.vasp import vasp_stand_in


@pytest.fixture(scope="module")
def finished(tmp_path_factory, make_start):
    place = tmp_path_factory.mktemp("run")
    settings = {"functional": "PBE", "encut": 300, "gamma_only": True}
    fidelity = FidelitySettings(engine="vasp", settings=settings, fmax=0.1)
    with vasp_stand_in(place):
        maker = reference_maker("pbe", fidelity, CalculationKind.RELAX)
        maker.compute(make_start(-1), uuid="run")
        (run,) = executions(maker.folder("run"))
    return run


def copied(finished, folder, *names):
    folder.mkdir(parents=True)
    for name in names:
        shutil.copy(finished / f"{name}.gz", folder)
    return folder


def test_both_files_of_a_run_are_one_calculation(finished, tmp_path):
    copied(finished, tmp_path / "v_Zn_-1" / "Bond_Distortion_-30.0%", "vasprun.xml", "OUTCAR")
    (source,) = walk([tmp_path])
    assert source.kind is Kind.VASPRUN
    assert source.label == "v_Zn_-1/Bond_Distortion_-30.0%"
    both = make_plan([source], "pbe").rows[0]
    alone = make_plan([source.other], "pbe").rows[0]
    assert (both.charge, both.n_frames) == (alone.charge, alone.n_frames) == (-1, both.n_frames)
    assert both.energy == pytest.approx(alone.energy, abs=1e-6)
    assert both.n_frames > 1


def test_it_reads_what_pymatgen_reads(finished):
    from pymatgen.io.vasp.outputs import Vasprun

    steps = list(VasprunXml(finished / "vasprun.xml.gz").steps())
    theirs = Vasprun(finished / "vasprun.xml.gz", parse_dos=False, parse_potcar_file=False)
    assert len(steps) == len(theirs.ionic_steps)
    for step, other in zip(steps, theirs.ionic_steps, strict=True):
        assert step.energy == pytest.approx(other["e_0_energy"])
        assert np.allclose(step.forces, other["forces"])
        assert np.allclose(step.positions, other["structure"].cart_coords)


def test_an_ionic_energy_of_zero_is_not_believed(finished, tmp_path):
    """VASP 5.4.4 wrote e_0_energy = 0 in hybrid runs; the last electronic step has it."""
    true = [s.energy for s in VasprunXml(finished / "vasprun.xml.gz").steps()]
    text = gzip.decompress((finished / "vasprun.xml.gz").read_bytes()).decode()
    ionic = re.compile(r'(</varray>\s*<energy>.*?name="e_0_energy">)\s*-?[\d.]+ ', re.DOTALL)
    text, changed = ionic.subn(r"\g<1> 0.00000000 ", text)
    assert changed == len(true)
    (tmp_path / "vasprun.xml").write_text(text)
    assert [s.energy for s in VasprunXml(tmp_path / "vasprun.xml").steps()] == true


def test_a_broken_vasprun_falls_back_to_the_outcar_and_says_so(finished, tmp_path):
    copied(finished, tmp_path / "run", "vasprun.xml", "OUTCAR")
    path = tmp_path / "run" / "vasprun.xml.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:900]))
    row = make_plan(walk([tmp_path]), "pbe").rows[0]
    assert row.n_frames > 1
    assert any(note.startswith("read from OUTCAR.gz, because") for note in row.notes)


def test_a_cut_off_vasprun_gives_its_complete_steps(finished, tmp_path):
    whole = [s.energy for s in VasprunXml(finished / "vasprun.xml.gz").steps()]
    text = gzip.decompress((finished / "vasprun.xml.gz").read_bytes())
    (tmp_path / "vasprun.xml").write_bytes(text[: int(0.7 * len(text))])
    file = VasprunXml(tmp_path / "vasprun.xml")
    part = [s.energy for s in file.steps()]
    assert 0 < len(part) < len(whole)
    assert part == whole[: len(part)]
    assert "ParseError" in file.head.broken
    assert not file.head.ended
