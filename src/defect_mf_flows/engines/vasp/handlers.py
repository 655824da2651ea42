"""What custodian may change while VASP runs, and when it must give up.

A correction may change how VASP gets to its answer (algorithm, mixing, step length, memory),
never the method: k-points, smearing and cell belong to the fidelity, and custodian's handlers
that change them are left out. What cannot be corrected ends the run and becomes a failure.
"""

from __future__ import annotations

import json
import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from custodian.ansible.actions import FileActions
from custodian.ansible.interpreter import Modder
from custodian.custodian import ErrorHandler
from custodian.utils import backup
from custodian.vasp.handlers import (
    VASP_BACKUP_FILES,
    FrozenJobErrorHandler,
    NonConvergingErrorHandler,
    PositiveEnergyErrorHandler,
    PotimErrorHandler,
    StdErrHandler,
    UnconvergedErrorHandler,
    VaspErrorHandler,
    WalltimeHandler,
)
from custodian.vasp.interpreter import VaspModder
from custodian.vasp.io import load_vasprun
from pymatgen.core import Structure
from pymatgen.io.vasp.inputs import Incar, Poscar
from pymatgen.io.vasp.outputs import Oszicar

from defect_mf_flows.campaign.vasp import VaspSettings
from defect_mf_flows.engines.track import EXPLODED_DISPLACEMENT

#: Corrections of these errors change k-points, smearing or the cell, and so the fidelity.
CHANGES_FIDELITY = {
    "brmix",
    "dentet",
    "incorrect_shift",
    "inv_rot_mat",
    "rot_matrix",
    "tet",
    "tetirr",
    "triple_product",
}

#: Names under which the handlers below report, in custodian's log.
WALLTIME, STALLED, EXPLODED = "Walltime reached", "Stalled tail", "Exploded relaxation"
HIGH_ENERGY, POSITIVE, MEMORY = "High energy", "Positive energy", "Out of memory"

#: A distorted start may begin at a positive energy; ShakeNBreak gives it as many steps.
POSITIVE_STEPS_ALLOWED = 5
SMALLEST_POTIM = 0.05


def ionic_energies(directory: str) -> list[float]:
    """Energies of the ionic steps so far, eV; empty while OSZICAR has none."""
    try:
        steps = Oszicar(str(Path(directory) / "OSZICAR")).ionic_steps
        return [float(step["E0"]) for step in steps if "E0" in step]
    except Exception:  # being written, or not there yet
        return []


def has_stalled(energies: list[float], *, steps: int, tolerance: float) -> bool:
    """Tell whether a relaxation's energy no longer moves.

    Parameters
    ----------
    energies
        Of all ionic steps, eV.
    steps
        Length of the tail.
    tolerance
        Largest spread of the tail, eV.

    Returns
    -------
    bool
        False for relaxations that are shorter than the tail.
    """
    tail = energies[-steps:]
    return len(tail) == steps and max(tail) - min(tail) <= tolerance


def has_exploded(first: Structure, last: Structure) -> bool:
    """Tell whether an atom has moved as far as no relaxation moves it.

    VASP wraps positions, so that displacements are those of the nearest image; in small cells
    these cannot reach the limit of large ones, and the limit shrinks with the cell.
    """
    shift = last.frac_coords - first.frac_coords
    moved = first.lattice.get_cartesian_coords(shift - np.round(shift))
    limit = min(EXPLODED_DISPLACEMENT, 0.4 * min(first.lattice.abc))
    return bool(np.linalg.norm(moved, axis=1).max() > limit)


class ScfHandler(UnconvergedErrorHandler):
    """Changes the algorithm when the SCF does not converge; leaves ionic steps alone."""

    def check(self, directory: str = "./") -> bool:
        """Look at the last ionic step's SCF."""
        try:
            run = load_vasprun(os.path.join(directory, self.output_filename))  # noqa: PTH118
            return not run.converged_electronic
        except Exception:  # no complete file: other handlers deal with it
            return False


class PositiveEnergyHandler(PositiveEnergyErrorHandler):
    """Shortens the steps, twice, when the energy stays positive; then gives up."""

    def check(self, directory: str = "./") -> bool:
        """Look at the energy after the steps that a distorted start may need."""
        energies = ionic_energies(directory)
        moving = Incar.from_file(str(Path(directory) / "INCAR")).get("NSW", 0) > 0
        enough = POSITIVE_STEPS_ALLOWED if moving else 0
        return len(energies) > enough and energies[-1] > 0

    def correct(self, directory: str = "./") -> dict[str, Any]:
        """Halve POTIM."""
        incar = Incar.from_file(str(Path(directory) / "INCAR"))
        potim = round(incar.get("POTIM", 0.5) / 2, 3)
        if incar.get("NSW", 0) == 0 or potim < SMALLEST_POTIM:
            return {"errors": [POSITIVE], "actions": None}
        backup(VASP_BACKUP_FILES | {self.output_filename}, directory=directory)
        actions = [{"dict": "INCAR", "action": {"_set": {"POTIM": potim}}}]
        VaspModder(directory=directory).apply_actions(actions)
        return {"errors": [POSITIVE], "actions": actions}


class MemoryHandler(ErrorHandler):
    """Halves KPAR when VASP was killed for memory."""

    is_monitor = False
    patterns = (
        "Allocation would exceed memory limit",
        "Cannot allocate memory",
        "insufficient virtual memory",
        "oom-kill",
        "oom_kill",
        "Out Of Memory",
        "out of memory",
    )

    def check(self, directory: str = "./") -> bool:
        """Look for the words of compilers, MPI and Slurm."""
        for name in ("std_err.txt", "vasp.out"):
            path = Path(directory) / name
            if path.is_file() and any(p in path.read_text(errors="replace") for p in self.patterns):
                return True
        return False

    def correct(self, directory: str = "./") -> dict[str, Any]:
        """Fewer groups of k-points hold fewer copies of the orbitals."""
        kpar = int(Incar.from_file(str(Path(directory) / "INCAR")).get("KPAR", 1))
        if kpar == 1:
            return {"errors": [MEMORY], "actions": None}
        backup(VASP_BACKUP_FILES | {"std_err.txt"}, directory=directory)
        actions = [{"dict": "INCAR", "action": {"_set": {"KPAR": kpar // 2}}}]
        VaspModder(directory=directory).apply_actions(actions)
        return {"errors": [MEMORY], "actions": actions}


class ExplodedHandler(ErrorHandler):
    """Ends a relaxation in which an atom has flown away."""

    is_monitor = True

    def check(self, directory: str = "./") -> bool:
        """Compare CONTCAR with the geometry of the start."""
        folder = Path(directory)
        try:
            first = Poscar.from_file(folder / "POSCAR.orig").structure
            last = Poscar.from_file(folder / "CONTCAR").structure
        except Exception:  # not there yet, or being written
            return False
        return has_exploded(first, last)

    def correct(self, directory: str = "./") -> dict[str, Any]:
        """Nothing to correct."""
        return {"errors": [EXPLODED], "actions": None}


class HighEnergyHandler(ErrorHandler):
    """Ends a distorted start that stays high above the relaxed unperturbed one.

    Parameters
    ----------
    reference
        File with the unperturbed energy, which its own run writes when it has finished.
    limit
        eV per cell.
    after
        Ionic steps that every start may take.
    """

    is_monitor = True

    def __init__(self, reference: str, limit: float, after: int) -> None:
        self.reference, self.limit, self.after = reference, limit, after

    def check(self, directory: str = "./") -> bool:
        """Compare the lowest energy so far."""
        energies = ionic_energies(directory)
        path = Path(self.reference)
        if len(energies) < self.after or not path.is_file():
            return False
        return bool(min(energies) > json.loads(path.read_text())["energy"] + self.limit)

    def correct(self, directory: str = "./") -> dict[str, Any]:
        """Nothing to correct."""
        return {"errors": [HIGH_ENERGY], "actions": None}


class StalledHandler(ErrorHandler):
    """Asks VASP to stop a relaxation whose energy no longer moves; its end is accepted.

    Parameters
    ----------
    steps, tolerance
        Length of the tail, and the largest spread of its energies, eV.
    """

    is_monitor = True
    is_terminating = False
    raises_runtime_error = False

    def __init__(self, steps: int, tolerance: float) -> None:
        self.steps, self.tolerance = steps, tolerance

    def check(self, directory: str = "./") -> bool:
        """Look at the tail, once."""
        if (Path(directory) / "STOPCAR").is_file():
            return False
        energies = ionic_energies(directory)
        return has_stalled(energies, steps=self.steps, tolerance=self.tolerance)

    def correct(self, directory: str = "./") -> dict[str, Any]:
        """Let VASP end after the ionic step that it is at."""
        content = {"_file_create": {"content": "LSTOP = .TRUE."}}
        Modder(actions=[FileActions], directory=directory).modify(content, "STOPCAR")
        return {"errors": [STALLED], "actions": None}


class TimeLeftHandler(WalltimeHandler):
    """Counts the seconds that it was given from when it is made.

    Custodian counts every walltime from the first job of a process and its children, which fits
    the whole time of a queue's job (PBS_WALLTIME, SBATCH_TIMELIMIT) and stays so; what remains
    for one of many jobs begins now.
    """

    def __init__(
        self,
        wall_time: int | None = None,
        buffer_time: int = 300,
        electronic_step_stop: bool = False,
    ) -> None:
        super().__init__(wall_time, buffer_time, electronic_step_stop)
        if wall_time is not None:
            self.start_time = self.prev_check_time = datetime.now()


def time_left(limit: int | None, *, began: float) -> int | None:
    """Seconds that remain for a job: of its own time, and of its Slurm allocation.

    Parameters
    ----------
    limit
        ``vasp_walltime`` of this machine's settings.
    began
        When the job began, seconds since the epoch; its executions share its time.

    Returns
    -------
    int or None
        At least 1. None where nothing is known (custodian then asks PBS_WALLTIME).
    """
    now = time.time()
    ends = [] if limit is None else [began + limit]
    allocation = os.environ.get("SLURM_JOB_END_TIME", "")
    if allocation.isdigit():
        ends.append(float(allocation))
    return max(int(min(ends) - now), 1) if ends else None


def handlers(
    settings: VaspSettings,
    *,
    relax: bool,
    reference: Path | None,
    limit: int | None,
    buffer: int,
    frozen: int,
    began: float | None = None,
) -> list[ErrorHandler]:
    """Handlers of one run.

    Parameters
    ----------
    settings
        Of the fidelity.
    relax
        Relaxation or single point.
    reference
        Where the unperturbed energy is or will be; None for the unperturbed start itself.
    limit
        Seconds that the job may take in all, or None.
    buffer
        Seconds before the limit at which VASP is asked to stop.
    frozen
        Seconds without output after which VASP is taken for dead.
    began
        When the job began, seconds since the epoch; None: now.

    Returns
    -------
    list
        In the order in which custodian asks them.
    """
    known = [e for e in VaspErrorHandler.error_msgs if e not in CHANGES_FIDELITY]
    # A single point has no ionic step to stop after; its SCF continues from the WAVECAR.
    seconds = time_left(limit, began=time.time() if began is None else began)
    stop = TimeLeftHandler(seconds, buffer_time=buffer, electronic_step_stop=not relax)
    found: list[ErrorHandler] = [stop, MemoryHandler(), VaspErrorHandler("vasp.out", known)]
    found += [StdErrHandler(), ScfHandler(), FrozenJobErrorHandler(timeout=frozen)]
    found.append(PositiveEnergyHandler())
    if relax:
        found += [
            NonConvergingErrorHandler(nionic_steps=5),
            PotimErrorHandler(),
            ExplodedHandler(),
            StalledHandler(settings.stalled_steps, settings.stalled_energy),
        ]
        if reference is not None and settings.high_energy is not None:
            found.append(
                HighEnergyHandler(str(reference), settings.high_energy, settings.high_energy_after)
            )
    return found
