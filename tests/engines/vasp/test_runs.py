"""Reading what VASP left: real HSE06 OUTCARs, and files of the project's own making."""

from __future__ import annotations

import gzip
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.units import GPa
from pymatgen.io.vasp.outputs import Vasprun

from defect_mf_flows.core.charge import charged_structure, with_charge
from defect_mf_flows.engines.vasp.method import accuracy_of, method_of
from defect_mf_flows.engines.vasp.results import CellOrder, check_run, frames_of
from defect_mf_flows.engines.vasp.running import executions, read_progress
from defect_mf_flows.engines.vasp.runs import read_outcar, read_run, read_vasprun
from defect_mf_flows.errors import EngineError, FidelityError
from defect_mf_flows.schemas.calculation import CalculationKind
from defect_mf_flows.schemas.defect import StartStructure
from tests.importing.conftest import OWN, REAL

real = pytest.mark.skipif(
    not REAL.is_dir(), reason=f"NO REAL VASP OUTPUT: {REAL} is absent; these checks do not run"
)


@pytest.fixture(params=["own", pytest.param("real", marks=real)])
def files(request) -> dict[str, Path]:
    """OUTCARs by folder: of our own making, and real ones where they are."""
    return outcars(OWN if request.param == "own" else REAL)


def outcars(folder: Path) -> dict[str, Path]:
    return {p.relative_to(folder).parts[0]: p for p in sorted(folder.glob("**/OUTCAR.gz"))}


@real
def test_charges_come_from_nelect_and_valences_and_fit_the_folders():
    found = {name: read_outcar(path) for name, path in outcars(REAL).items()}
    assert len(found) == 18
    assert sum(len(run.steps) for run in found.values()) == 124
    named = {name: int(name.rpartition("_")[2]) for name in found if name != "bulk"}
    assert {name: found[name].charge for name in named} == named
    assert found["bulk"].charge == 0
    assert sum(q != 0 for q in named.values()) == 14
    assert all(step.scf_converged for run in found.values() for step in run.steps)
    assert {float(run.head.tags["HFSCREEN"]) for run in found.values()} == {0.208}


def test_charges_of_our_own_files_fit_their_folders():
    found = {name: read_outcar(path) for name, path in outcars(OWN).items()}
    assert len(found) == 5
    assert all(run.head.ended and not run.head.broken for run in found.values())
    for name, run in found.items():
        assert run.charge == (0 if name == "bulk" else int(name.rpartition("_")[2]))


def test_labels_are_those_that_the_file_prints(files):
    path = files["vac_1_Zn_-2"]
    text = gzip.decompress(path.read_bytes()).decode()
    run = read_outcar(path)
    printed = [float(e) for e in re.findall(r"energy  without entropy=.*=\s+(-?[\d.]+)", text)]
    assert [step.energy for step in run.steps] == printed
    block = text.split("TOTAL-FORCE (eV/Angst)")[-1].splitlines()[2 : 2 + len(run.head.species)]
    numbers = np.array([[float(x) for x in line.split()] for line in block])
    assert np.allclose(run.steps[-1].forces, numbers[:, 3:])
    assert np.allclose(run.steps[-1].positions, numbers[:, :3], atol=1e-5)
    kbar = [float(x) for x in re.findall(r"in kB\s+(.*)", text)[-1].split()]
    stress = run.steps[-1].stress
    assert np.allclose(np.diag(stress), -0.1 * GPa * np.array(kbar[:3]))
    assert stress[0, 1] == stress[1, 0] == pytest.approx(-0.1 * GPa * kbar[3])
    assert run.head.magnetization == 0.0


@real
def test_one_hole_is_one_unpaired_electron():
    assert read_outcar(outcars(REAL)["vac_1_Zn_-1"]).head.magnetization == 1.0


def test_steps_become_frames_with_charge_and_fidelity(files):
    run = read_outcar(files["vac_2_S_2"])
    structure = charged_structure(
        run.steps[0].cell, run.head.species, run.steps[0].positions, run.charge
    )
    start = StartStructure(defect="v_S", charge=2, label="x", structure=structure)
    frames = frames_of(run.steps, start, CellOrder.of(structure), fidelity="hse06", uuid="u")
    assert [frame.charge for frame in frames] == [2] * len(run.steps)
    assert len(frames) > 1
    assert np.allclose(frames[-1].forces, run.steps[-1].forces)


@real
def test_screening_of_another_hybrid_is_not_hse06():
    """0.208 is Krukau's value and 0.2 VASP's HSE06: labels of the one are not the other's."""
    run = read_outcar(outcars(REAL)["vac_2_S_2"])
    first = run.steps[0]
    structure = charged_structure(first.cell, run.head.species, first.positions, 2)
    start = StartStructure(defect="v_S", charge=2, label="x", structure=structure)
    asked = {**run.head.tags, "HFSCREEN": 0.2}
    with pytest.raises(FidelityError, match=r"HFSCREEN is 0\.208"):
        check_run(run, asked, start, "hse06")
    check_run(run, run.head.tags, start, "hse06")


@pytest.mark.parametrize("fraction", [0.3, 0.5, 0.9])
def test_a_cut_off_outcar_gives_its_complete_steps(tmp_path, files, fraction):
    path = files["vac_1_Zn_0"]
    text = gzip.decompress(path.read_bytes()).decode()
    (tmp_path / "OUTCAR").write_text(text[: int(fraction * len(text))])
    whole, part = read_outcar(path), read_run(tmp_path)
    assert 0 < len(part.steps) < len(whole.steps)
    assert [s.energy for s in part.steps] == [s.energy for s in whole.steps[: len(part.steps)]]
    raw = path.read_bytes()
    (tmp_path / "zipped").mkdir()
    (tmp_path / "zipped" / "OUTCAR.gz").write_bytes(raw[: int(fraction * len(raw))])
    zipped = read_run(tmp_path / "zipped")
    assert zipped is None or len(zipped.steps) < len(whole.steps)


@pytest.fixture(scope="module")
def finished_folder(tmp_path_factory, make_start):
    """One relaxation with the stand-in, whose files are in VASP's layout."""
    from defect_mf_flows.campaign import FidelitySettings
    from defect_mf_flows.engines import reference_maker
    from defect_mf_flows.testing.vasp import vasp_stand_in

    place = tmp_path_factory.mktemp("run")
    settings = {"functional": "PBE", "encut": 300, "gamma_only": True}
    fidelity = FidelitySettings(engine="vasp", settings=settings, fmax=0.1)
    with vasp_stand_in(place):
        maker = reference_maker("pbe", fidelity, CalculationKind.RELAX)
        maker.compute(make_start(-1), uuid="run")
        folder = maker.folder("run")
    (run,) = executions(folder)
    for name in ("vasprun.xml", "OUTCAR"):
        (run / name).write_bytes(gzip.decompress((run / f"{name}.gz").read_bytes()))
    return folder


def copy(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder, tmp_path / "copy")
    return executions(tmp_path / "copy")[0]


def test_vasprun_and_outcar_tell_the_same(finished_folder):
    (run,) = executions(finished_folder)
    xml, text = read_vasprun(run / "vasprun.xml"), read_outcar(run / "OUTCAR")
    assert (xml.charge, xml.head.nelect) == (text.charge, text.head.nelect)
    assert xml.head.valence == text.head.valence
    assert xml.head.species == text.head.species
    assert method_of(xml.head.tags) == method_of(text.head.tags)
    assert accuracy_of(xml.head.tags) == accuracy_of(text.head.tags)
    assert xml.charge == -1
    assert len(xml.steps) == len(text.steps) > 1
    for one, other in zip(xml.steps, text.steps, strict=True):
        assert one.energy == pytest.approx(other.energy, abs=1e-7)
        assert np.allclose(one.forces, other.forces, atol=1e-5)
        assert np.allclose(one.stress, other.stress, atol=1e-7)


def test_an_energy_of_zero_in_the_ionic_step_is_not_believed(finished_folder, tmp_path):
    """VASP 5.4.4 wrote e_0_energy = 0 in hybrid runs; the last electronic step has it."""
    run = copy(finished_folder, tmp_path)
    true = read_vasprun(run / "vasprun.xml").steps[-1].energy
    text = (run / "vasprun.xml").read_text()
    ionic = re.compile(r'(</varray>\s*<energy>.*?name="e_0_energy">)\s*-?[\d.]+ ', re.DOTALL)
    text, changed = ionic.subn(r"\g<1> 0.00000000 ", text)
    assert changed == len(read_vasprun(run / "vasprun.xml").steps)
    (run / "vasprun.xml").write_text(text)
    assert Vasprun(run / "vasprun.xml", parse_potcar_file=False).ionic_steps[-1]["e_0_energy"] == 0
    assert read_vasprun(run / "vasprun.xml").steps[-1].energy == pytest.approx(true, abs=1e-7)
    text = re.sub(
        r'(</varray>\s*<energy>\s*<i name="e_fr_energy">)\s*-?[\d.]+ ', r"\g<1> 0.0 ", text
    )
    (run / "vasprun.xml").write_text(text)
    assert read_vasprun(run / "vasprun.xml").steps[-1].energy == pytest.approx(true, abs=1e-7)


def test_the_dispersion_energy_which_electronic_steps_lack_is_kept(finished_folder, tmp_path):
    run = copy(finished_folder, tmp_path)
    before = read_vasprun(run / "vasprun.xml").steps[-1].energy
    text = (run / "vasprun.xml").read_text()

    def shift(match: re.Match) -> str:
        return f"{match[1]} {float(match[2]) - 1.5:.8f} "

    ionic = r'(</varray>\s*<energy>\s*<i name="e_fr_energy">)\s*(-?[\d.]+) '
    (run / "vasprun.xml").write_text(re.sub(ionic, shift, text))
    after = read_vasprun(run / "vasprun.xml").steps[-1].energy
    assert after == pytest.approx(before - 1.5, abs=1e-7)


def test_a_cut_off_vasprun_gives_its_complete_steps(finished_folder, tmp_path):
    run = copy(finished_folder, tmp_path)
    text = (run / "vasprun.xml").read_text()
    (run / "vasprun.xml").write_text(text[: text.rindex("<calculation>") + 2000])
    whole = read_vasprun(executions(finished_folder)[0] / "vasprun.xml")
    part = read_run(run)
    assert len(part.steps) == len(whole.steps) - 1
    assert part.charge == -1


@pytest.mark.parametrize("end", [0, 100, 3000])
def test_a_file_that_ends_before_its_atoms_gives_nothing(finished_folder, tmp_path, end):
    run = copy(finished_folder, tmp_path)
    for name in ("vasprun.xml", "OUTCAR"):
        (run / name).write_text((run / name).read_text()[: end // 10 if name == "OUTCAR" else end])
    assert read_run(run) is None


def test_an_scf_that_was_stopped_gives_no_label(finished_folder, tmp_path):
    """LABORT ends an SCF early: fewer steps than NELM, and yet not converged."""
    run = copy(finished_folder, tmp_path)
    text = (run / "OUTCAR").read_text()
    head, _, tail = text.rpartition("aborting loop because EDIFF is reached")
    (run / "OUTCAR").write_text(f"{head}aborting loop because hard stop was set{tail}")
    assert [s.scf_converged for s in read_run(run).steps][-2:] == [True, False]
    progress = read_progress(run.parent)
    assert len(progress.steps) == progress.calls - 1


def test_a_folder_without_outputs_is_named(tmp_path):
    with pytest.raises(EngineError, match="did VASP start"):
        read_run(tmp_path)


def test_a_cell_that_changed_is_refused(finished_folder, make_start):
    run = read_run(executions(finished_folder)[0])
    start = make_start(-1)
    cell = start.structure.copy()
    cell.apply_strain(0.01)
    other = start.model_copy(update={"structure": with_charge(cell, -1)})
    with pytest.raises(FidelityError, match="cell has changed"):
        frames_of(run.steps, other, CellOrder.of(cell), fidelity="pbe", uuid="u")


def test_band_edges_are_those_that_pymatgen_finds(machine, vasp, defect_set):
    cell = with_charge(defect_set.host.supercell, 0)
    vasp().compute(StartStructure(defect=None, charge=0, label="h", structure=cell), uuid="host")
    path = executions(vasp().folder("host"))[0] / "vasprun.xml.gz"
    found = read_vasprun(path).edges
    theirs = Vasprun(path, parse_potcar_file=False, parse_dos=False)
    gap, cbm, vbm, _ = theirs.eigenvalue_band_properties
    assert gap > 0
    assert (found.vbm, found.cbm) == pytest.approx((vbm, cbm))


def test_levels_that_overlap_have_no_band_edges(finished_folder, tmp_path):
    """An empty level of one spin below a full one of the other."""
    run = copy(finished_folder, tmp_path)
    text = (run / "vasprun.xml").read_text()
    head, rows = text.rsplit("<eigenvalues>", 1)
    (run / "vasprun.xml").write_text(
        f"{head}<eigenvalues>"
        + rows.replace(" 1.0000 </r>", " 0.0000 </r>", 2).replace(" 0.0000 </r>", " 1.0000 </r>", 1)
    )
    assert read_vasprun(run / "vasprun.xml").edges is None


def test_the_outcar_of_another_run_adds_nothing_and_is_named(finished_folder, tmp_path):
    run = copy(finished_folder, tmp_path)
    text = (run / "OUTCAR").read_text().replace("EDIFF is reached", "hard stop was set")
    moved = re.sub(
        r"(energy\(sigma->0\) =\s*)(-?[\d.]+)", lambda m: f"{m[1]}{float(m[2]) - 1:.8f}", text
    )
    (run / "OUTCAR").write_text(moved)
    found = read_run(run)
    assert all(step.scf_converged for step in found.steps)
    assert found.head.magnetization is None
    assert "OUTCAR beside it is of another run (energy" in found.notes[0]
    (run / "OUTCAR").write_text(text)
    assert not any(step.scf_converged for step in read_run(run).steps)


def test_digits_that_the_list_rounds_away_come_from_the_echo(finished_folder, tmp_path):
    text = (executions(finished_folder)[0] / "OUTCAR").read_text()
    assert "   SIGMA = 0.05\n" in text
    text = text.replace("SIGMA = 0.05\n", "SIGMA = 0.004\n").replace(
        "SIGMA  =   0.05", "SIGMA  =   0.00"
    )
    assert "SIGMA  =   0.00" in text
    (tmp_path / "OUTCAR").write_text(text)
    assert accuracy_of(read_outcar(tmp_path / "OUTCAR").head.tags)["SIGMA"] == 0.004
    (tmp_path / "OUTCAR").write_text(text.replace("SIGMA  =   0.00", "SIGMA  =   0.20"))
    assert accuracy_of(read_outcar(tmp_path / "OUTCAR").head.tags)["SIGMA"] == 0.2, "in force"


@pytest.mark.parametrize("tag", ["LASPH", "METAGGA", "IVDW", "SIGMA", "NUPDOWN"])
def test_every_setting_of_the_method_is_compared(finished_folder, make_start, tag):
    run, start = read_run(executions(finished_folder)[0]), make_start(-1)
    asked = dict(run.head.tags)
    check_run(run, asked, start, "pbe")
    other = {"LASPH": "F", "METAGGA": "R2SCAN", "IVDW": "12", "SIGMA": "0.01", "NUPDOWN": "3"}
    with pytest.raises(FidelityError, match=f"vasprun.xml: {tag} is"):
        check_run(run, {**asked, tag: other[tag]}, start, "pbe")


def test_other_atoms_than_the_start_s_are_refused(finished_folder, make_start):
    run, start = read_run(executions(finished_folder)[0]), make_start(-1)
    swapped = start.structure.copy()
    swapped.replace(0, "Cd")
    other = start.model_copy(update={"structure": with_charge(swapped, -1)})
    with pytest.raises(FidelityError, match="its atoms are not those of"):
        check_run(run, run.head.tags, other, "pbe")


def test_a_level_that_is_less_than_half_full_is_one_that_holes_sit_in(finished_folder, tmp_path):
    """Band edges count it as occupied, as pymatgen does; carriers in bands do not."""
    run = copy(finished_folder, tmp_path)
    plain = read_vasprun(run / "vasprun.xml")
    text = (run / "vasprun.xml").read_text()
    head, rows = text.rsplit("<eigenvalues>", 1)
    before, full, after = rows.rpartition(" 1.0000 </r>")
    assert full
    (run / "vasprun.xml").write_text(f"{head}<eigenvalues>{before} 0.3000 </r>{after}")
    holed = read_vasprun(run / "vasprun.xml")
    assert holed.edges == plain.edges
    assert holed.head.frontier == plain.head.frontier
    assert min(holed.frontier.empty.values()) < min(plain.frontier.empty.values())
