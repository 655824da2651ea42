"""Executions of VASP: one folder per calculation, one subfolder per execution.

The folder is named after the job, so that a job that was stopped before its walltime, killed, or
repeated finds what it had reached: ionic steps, CONTCAR and WAVECAR.
"""

from __future__ import annotations

import json
import logging
import shutil
import tarfile
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.core.charge import charge_of, with_charge
from defect_mf_flows.engines.vasp.begun import read_begun
from defect_mf_flows.engines.vasp.outcar import RawStep
from defect_mf_flows.engines.vasp.runs import Run, read_run
from defect_mf_flows.errors import EngineError
from defect_mf_flows.schemas.frame import content_hash, structure_key
from defect_mf_flows.schemas.structures import symbols_of
from defect_mf_flows.settings import get_settings

if TYPE_CHECKING:
    from atomate2.vasp.sets.base import VaspInputGenerator

    from defect_mf_flows.engines.vasp.sets import ChargedCellSet

logger = logging.getLogger(__name__)

OUTCOME = "outcome.json"
#: Subfolder of a hybrid's calculation in which PBE orbitals are made for it.
PBE_FIRST = "pbe"
#: An execution that was stopped sooner began too late in its allocation to tell anything, s.
FAIR_CHANCE = 300.0
#: Geometries closer than this are the same ionic step, read twice, A.
SAME_GEOMETRY = 1e-4


@dataclass
class Progress:
    """What all executions of a calculation have reached so far.

    Attributes
    ----------
    runs
        Every execution that VASP began, in order; attempts that custodian corrected included.
    steps
        Ionic steps with a converged SCF, without repeats.
    calls
        Ionic steps in all, those with an unconverged SCF included.
    saved
        Ionic steps that another campaign's relaxation made.
    seconds
        Wall time.
    errors
        Errors of the last execution, as custodian named them.
    finished
        The last execution ended by itself.
    executions
        Number of executions.
    idle
        Executions in a row, at the end, that had time and yet added no ionic step.
    notes
        Where steps come from that no execution made.
    """

    runs: list[Run] = field(default_factory=list)
    steps: list[RawStep] = field(default_factory=list)
    calls: int = 0
    saved: int = 0
    seconds: float = 0.0
    errors: list[str] = field(default_factory=list)
    finished: bool = False
    executions: int = 0
    idle: int = 0
    notes: list[str] = field(default_factory=list)


def read_progress(folder: Path) -> Progress:
    """Read everything that a calculation's folder holds.

    Parameters
    ----------
    folder
        Of the calculation; need not exist.

    Returns
    -------
    Progress
        Also of an execution that was killed without a word.
    """
    progress = Progress()
    if (begun := read_begun(folder)) is not None:
        progress.steps, progress.notes = begun.passed, [begun.note]
        progress.saved = len(begun.passed)
    for execution in executions(folder):
        before = len(progress.steps)
        for run in _attempts(execution):
            progress.runs.append(run)
            progress.calls += len(run.steps)
            for step in run.steps:
                if step.scf_converged:
                    _append(progress.steps, step)
        outcome = _outcome(execution)
        progress.executions += 1
        progress.seconds += outcome["seconds"]
        progress.errors = outcome["errors"]
        progress.finished = outcome["ended"]
        had_time = outcome["seconds"] >= FAIR_CHANCE or not outcome["ended"]
        if len(progress.steps) > before:
            progress.idle = 0
        elif had_time:
            progress.idle += 1
    return progress


def seconds_below(folder: Path) -> float:
    """Wall time of what went before a calculation: guesses of the spin, PBE orbitals."""
    before = folder.glob("*/**/run_[0-9][0-9][0-9]")
    return sum(_outcome(execution)["seconds"] for execution in before)


def executions(folder: Path) -> list[Path]:
    """Folders of a calculation's executions, first to last."""
    return sorted(folder.glob("run_[0-9][0-9][0-9]"))


def next_execution(folder: Path) -> Path:
    """Make the folder of the next execution."""
    path = folder / f"run_{len(executions(folder)) + 1:03d}"
    path.mkdir(parents=True)
    return path


def _append(steps: list[RawStep], step: RawStep) -> None:
    """Append, unless it repeats the last geometry: a continued run may compute it again."""
    if steps:
        shift = fractional(step.positions - steps[-1].positions, step.cell)
        moved = (shift - np.round(shift)) @ step.cell
        if np.abs(moved).max() < SAME_GEOMETRY:
            steps[-1] = step
            return
    steps.append(step)


def fractional(positions: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Cartesian vectors, shape (n, 3), in units of the cell's vectors."""
    return np.asarray(np.linalg.solve(cell.T, positions.T).T)


def _attempts(execution: Path) -> list[Run]:
    """Runs of one execution: those that custodian corrected (in its archives) and the last."""
    found: list[Run | None] = []
    archives = sorted(execution.glob("error.*.tar.gz"), key=lambda p: int(p.name.split(".")[1]))
    for archive in archives:
        with tempfile.TemporaryDirectory() as place, tarfile.open(archive) as tar:
            for member in tar.getmembers():
                member.name = Path(member.name).name
                if member.name in ("vasprun.xml", "OUTCAR"):
                    tar.extract(member, place, filter="data")
            if any(Path(place).iterdir()):
                found.append(read_run(Path(place)))
    try:
        found.append(read_run(execution))
    except EngineError as error:
        logger.warning("%s", error)
    return [run for run in found if run is not None]


def _outcome(execution: Path) -> dict[str, Any]:
    path = execution / OUTCOME
    if path.is_file():
        return dict(json.loads(path.read_text()))
    return {"seconds": 0.0, "errors": ["Killed"], "ended": False}


def last_geometry(folder: Path, start: Structure) -> Structure:
    """Geometry from which the next execution starts.

    Parameters
    ----------
    folder
        Of the calculation.
    start
        The start structure in the order of POSCAR, with its charge.

    Returns
    -------
    Structure
        The last readable CONTCAR on the lattice of the start; before there is one, where another
        campaign's relaxation stopped, or the start itself.
    """
    from pymatgen.io.vasp.inputs import Poscar

    for execution in reversed(executions(folder)):
        try:
            reached = Poscar.from_file(execution / "CONTCAR").structure
        except Exception:  # none, empty or cut off
            continue
        if symbols_of(reached) == symbols_of(start):
            moved = Structure(start.lattice, reached.species, reached.frac_coords)
            return with_charge(moved, charge_of(start))
    begun = read_begun(folder)
    return start if begun is None else begun.continued(start)


def last_wavecar(folder: Path, incar: Mapping[str, Any]) -> Path | None:
    """WAVECAR of the last execution that left one.

    Parameters
    ----------
    folder
        Of the calculation.
    incar
        Tags of the run that is to start from it: with another number of spin channels, as after
        an update of this package, it cannot.

    Returns
    -------
    Path or None
        None where there is none that fits.
    """
    from pymatgen.io.vasp.inputs import Incar

    for execution in reversed(executions(folder)):
        path = execution / "WAVECAR"
        if path.is_file() and path.stat().st_size > 0:
            written = Incar.from_file(execution / "INCAR")
            return path if written.get("ISPIN") == incar.get("ISPIN") else None
    return None


def shared_wavecar(structure: Structure, written: Any) -> Path:
    """Where a run leaves its orbitals for others that may start from them.

    Parameters
    ----------
    structure
        Geometry with its charge.
    written
        Input set of either run.

    Returns
    -------
    Path
        Named after geometry, charge, cutoff, k-points and spin; need not exist.
    """
    shared, incar = ("ENCUT", "ISPIN", "LSORBIT", "NUPDOWN", "NELECT"), written["INCAR"]
    tags = {tag: incar[tag] for tag in shared if tag in incar}
    geometry = {
        "lattice": np.round(structure.lattice.matrix, 5).tolist(),
        "species": structure_key(structure)["species"],
        "frac": (np.round(structure.frac_coords, 6) % 1.0).tolist(),
    }
    decisive = {"geometry": geometry, "charge": charge_of(structure), "tags": tags}
    key = content_hash(decisive | {"kpoints": str(written["KPOINTS"])})
    return get_settings().scratch.resolve() / "vasp" / "wavecars" / key


def write_inputs(geometry: Structure, inputs: ChargedCellSet, execution: Path) -> None:
    """Write the inputs of one execution, with this package's settings alone.

    Parameters
    ----------
    geometry
        In POSCAR's order, with its charge.
    inputs
        What to write for it.
    execution
        Folder.
    """
    from atomate2.vasp.files import write_vasp_input_set

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Settings of atomate2 for all its users must not change a fidelity.
        write_vasp_input_set(
            geometry,
            cast("VaspInputGenerator", inputs),
            execution,
            apply_incar_updates=False,
            clean_prev=False,
        )


def copy_whole(source: Path, target: Path) -> None:
    """Copy orbitals whole or not at all; VASP writes into its WAVECAR, so a link will not do."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target.with_suffix(".part"))
    target.with_suffix(".part").replace(target)


def run_in(
    execution: Path,
    *,
    commands: tuple[str, str],
    auto_gamma: bool,
    found_handlers: list[Any],
    poll: float,
) -> None:
    """Run VASP under custodian and write down how it ended.

    Parameters
    ----------
    execution
        Folder with the inputs.
    commands
        For the standard and for the Gamma-only executable.
    auto_gamma
        Use the second where the grid is Gamma.
    found_handlers
        Custodian's handlers.
    poll
        Seconds between looks at the process.
    """
    from atomate2.vasp.run import run_vasp
    from custodian.custodian import CustodianError

    began = time.monotonic()
    errors: list[str] = []
    try:
        run_vasp(
            vasp_cmd=commands[0],
            vasp_gamma_cmd=commands[1],
            handlers=found_handlers,
            max_errors=10,
            scratch_dir=cast("str", None),  # run where the inputs are
            vasp_job_kwargs={"auto_gamma": auto_gamma},
            custodian_kwargs={
                "directory": str(execution),
                "polling_time_step": poll,
                "monitor_freq": 6,
            },
        )
    except CustodianError as error:
        errors.append(f"{type(error).__name__}: {error}"[:300])
    errors = [*_corrections(execution), *errors]
    outcome = {"seconds": time.monotonic() - began, "errors": errors, "ended": True}
    part = execution / f"{OUTCOME}.part"
    part.write_text(json.dumps(outcome))
    part.replace(execution / OUTCOME)


def _corrections(execution: Path) -> list[str]:
    """Errors that ended the run: those for which custodian had no correction."""
    path = execution / "custodian.json"
    if not path.is_file():
        return []
    corrections = [c for entry in json.loads(path.read_text()) for c in entry["corrections"]]
    return [str(error) for c in corrections if not c["actions"] for error in c["errors"]]


def tidy(folder: Path) -> None:
    """Compress outputs and drop orbitals, also of what went before, once it has ended."""
    from atomate2.common.files import gzip_output_folder

    for execution in sorted(folder.rglob("run_[0-9][0-9][0-9]")):
        for name in ("WAVECAR", "CHG", "CHGCAR"):
            (execution / name).unlink(missing_ok=True)
        gzip_output_folder(execution, "atomate", ["OUTCAR", "vasprun.xml", "LOCPOT", "XDATCAR"])
