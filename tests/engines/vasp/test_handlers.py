"""What custodian may correct: written files in, decisions out."""

from __future__ import annotations

import gzip
import json
import time
from datetime import datetime, timedelta

import numpy as np
import pytest
from custodian.vasp.handlers import VaspErrorHandler, WalltimeHandler
from pymatgen.core import Lattice, Structure
from pymatgen.io.vasp.inputs import Incar

from defect_mf_flows.campaign.vasp import VaspSettings
from defect_mf_flows.engines.vasp import handlers as watch

SETTINGS = VaspSettings(functional="PBE", encut=400, gamma_only=True)


def oszicar(folder, energies):
    lines = ["       N       E                     dE             d eps       ncg     rms"]
    for i, e in enumerate(energies, start=1):
        lines.append(f"DAV:   1    {e:.8E}    0.1E+00   0.1E+00   100   0.1E+00")
        lines.append(f"{i:4d} F= {e:.8E} E0= {e:.8E}  d E =0.000000E+00  mag=     0.0000")
    (folder / "OSZICAR").write_text("\n".join(lines) + "\n")


def chosen(**options):
    arguments = {"relax": True, "reference": None, "limit": None, "buffer": 60, "frozen": 600}
    return watch.handlers(SETTINGS, **{**arguments, **options})


def test_no_handler_may_change_kpoints_smearing_or_cell():
    vasp = next(h for h in chosen() if isinstance(h, VaspErrorHandler))
    assert not set(vasp.errors_subset_to_catch) & watch.CHANGES_FIDELITY
    assert set(VaspErrorHandler.error_msgs) >= watch.CHANGES_FIDELITY, "custodian renamed one"
    names = {type(h).__name__ for h in chosen()}
    assert not names & {
        "MeshSymmetryErrorHandler",
        "LargeSigmaHandler",
        "IncorrectSmearingHandler",
        "KspacingMetalHandler",
        "UnconvergedErrorHandler",
    }


def test_only_relaxations_of_distorted_starts_are_compared(tmp_path):
    def kinds(**options):
        return {type(h).__name__ for h in chosen(**options)}

    assert "HighEnergyHandler" in kinds(reference=tmp_path / "u.json")
    assert "HighEnergyHandler" not in kinds()
    assert "StalledHandler" not in kinds(relax=False)


def test_a_start_is_too_high_only_against_a_finished_unperturbed_one(tmp_path):
    reference = tmp_path / "u.json"
    handler = watch.HighEnergyHandler(str(reference), 2.0, 3)
    oszicar(tmp_path, [-90, -91, -92])
    assert not handler.check(str(tmp_path)), "the unperturbed start has not finished"
    reference.write_text(json.dumps({"energy": -100.0}))
    assert handler.check(str(tmp_path))
    oszicar(tmp_path, [-90, -91])
    assert not handler.check(str(tmp_path)), "every start may take some steps"
    oszicar(tmp_path, [-90, -91, -98.5])
    assert not handler.check(str(tmp_path)), "within the limit"
    assert handler.correct(str(tmp_path)) == {"errors": [watch.HIGH_ENERGY], "actions": None}


def test_a_stalled_tail_asks_vasp_to_stop_once(tmp_path):
    handler = watch.StalledHandler(4, 0.002)
    oszicar(tmp_path, [-5.0, -9.0, -9.0005, -9.001])
    assert not handler.check(str(tmp_path))
    oszicar(tmp_path, [-5.0, -9.0, -9.0005, -9.001, -9.0011])
    assert handler.check(str(tmp_path))
    handler.correct(str(tmp_path))
    assert "LSTOP = .TRUE." in (tmp_path / "STOPCAR").read_text()
    assert not handler.check(str(tmp_path))


def test_energies_may_be_positive_for_a_few_steps_and_then_steps_get_shorter(
    machine, make_start, vasp
):
    from defect_mf_flows.core.charge import with_charge
    from defect_mf_flows.schemas.calculation import CalculationKind

    start = make_start(0)
    inputs = vasp(kind=CalculationKind.RELAX).inputs(start)
    inputs.get_input_set(with_charge(start.structure, 0)).write_input(machine / "run")
    run = str(machine / "run")
    handler = watch.PositiveEnergyHandler()
    oszicar(machine / "run", [50.0] * 5)
    assert not handler.check(run)
    oszicar(machine / "run", [50.0] * 5 + [-1.0])
    assert not handler.check(run)
    oszicar(machine / "run", [50.0] * 6)
    assert handler.check(run)
    potims = []
    while handler.correct(run)["actions"]:
        potims.append(Incar.from_file(machine / "run" / "INCAR")["POTIM"])
    assert potims == [0.25, 0.125, 0.062]


@pytest.mark.parametrize("moved", [5.0, 7.0])
def test_an_atom_that_has_flown_away_ends_the_run(tmp_path, moved):
    cell = Structure(Lattice.cubic(30), ["Zn", "S"], [[0.1, 0, 0], [0.95, 0.5, 0.5]])
    cell.to(filename=str(tmp_path / "POSCAR.orig"), fmt="poscar")
    handler = watch.ExplodedHandler()
    assert not handler.check(str(tmp_path)), "no CONTCAR yet"
    cell.translate_sites([1], np.array([moved, 0, 0]) / 30, to_unit_cell=True)
    cell.to(filename=str(tmp_path / "CONTCAR"), fmt="poscar")
    assert handler.check(str(tmp_path)) == (moved > 6.0)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("slurmstepd: error: Detected 2 oom_kill events", True),
        ("forrtl: severe (41): insufficient virtual memory", True),
        ("all is well", False),
    ],
)
def test_memory_is_recognised_in_what_slurm_and_compilers_say(tmp_path, text, seen):
    (tmp_path / "std_err.txt").write_text(text)
    assert watch.MemoryHandler().check(str(tmp_path)) == seen


def test_the_time_left_is_the_shorter_of_the_jobs_and_the_allocations(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    monkeypatch.setattr(watch.time, "time", lambda: 1000.0)
    assert watch.time_left(None, began=400.0) is None
    assert watch.time_left(3600, began=400.0) == 3000
    assert watch.time_left(300, began=400.0) == 1, "0 would be no limit for custodian"
    monkeypatch.setenv("SLURM_JOB_END_TIME", "2800")
    assert watch.time_left(None, began=400.0) == 1800
    assert watch.time_left(900, began=1000.0) == 900
    assert watch.time_left(3600, began=400.0) == 1800


def stops(handlers, folder):
    stop = next(h for h in handlers if isinstance(h, WalltimeHandler))
    return stop.check(str(folder))


@pytest.fixture
def running(machine, vasp, make_start, monkeypatch):
    """A folder with VASP's output, in a process whose first job began two hours ago."""
    maker = vasp()
    maker.compute(make_start(0), uuid="earlier")
    with gzip.open(maker.folder("earlier") / "run_001" / "OUTCAR.gz") as packed:
        (machine / "OUTCAR").write_bytes(packed.read())
    for name in ("SLURM_JOB_END_TIME", "PBS_WALLTIME", "SBATCH_TIMELIMIT"):
        monkeypatch.delenv(name, raising=False)
    began = datetime.now() - timedelta(hours=2)
    monkeypatch.setenv("CUSTODIAN_WALLTIME_START", began.strftime("%a %b %d %H:%M:%S UTC %Y"))
    return machine


@pytest.mark.parametrize("source", ["allocation", "setting"])
def test_a_later_job_of_the_same_worker_has_its_own_time(running, monkeypatch, source):
    if source == "allocation":
        monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 3600))
    limit = 3600 if source == "setting" else None
    first, second = chosen(limit=limit), chosen(limit=limit)
    assert not stops(first, running)
    assert not stops(second, running)


def test_executions_of_one_job_share_its_time(running):
    an_hour_ago = time.time() - 3600
    assert stops(chosen(limit=3630, began=an_hour_ago), running), "within the buffer of its end"
    assert not stops(chosen(limit=7200, began=an_hour_ago), running)


def test_a_queues_total_walltime_counts_from_the_first_job(running, monkeypatch):
    """Neither Torque's nor sbatch's own variable tells what remains."""
    monkeypatch.setenv("PBS_WALLTIME", "7230")
    assert stops(chosen(), running)
    monkeypatch.setenv("PBS_WALLTIME", "10800")
    assert not stops(chosen(), running)


def test_a_single_point_stops_within_its_scf_and_a_relaxation_after_a_step():
    stop = next(h for h in chosen(relax=False, limit=3600) if hasattr(h, "electronic_step_stop"))
    assert stop.electronic_step_stop
    stop = next(h for h in chosen(limit=3600) if hasattr(h, "electronic_step_stop"))
    assert not stop.electronic_step_stop
