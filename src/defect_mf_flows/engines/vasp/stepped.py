"""Relaxations whose steps this package takes, each a single point of VASP in its own folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes
from pymatgen.core import Structure

from defect_mf_flows.core.charge import CHARGE, with_charge
from defect_mf_flows.engines.ase import AseReferenceMaker
from defect_mf_flows.engines.base import ReferenceMaker
from defect_mf_flows.errors import EngineError
from defect_mf_flows.schemas.calculation import (
    BandEdges,
    Calculation,
    EngineRecord,
    Failure,
    FailureReason,
    FrontierLevel,
)
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.frame import content_hash

#: Computes a single point; the second argument names its folder below that of the relaxation.
Run = Callable[[StartStructure, str], Calculation]
#: Geometries that agree to this are one single point, Angstrom.
SAME_POINT = 1e-5


class OutOfTimeError(Exception):
    """The job's time did not suffice for a single point; another job goes on from there."""


class PointFailedError(CalculationFailed):
    """A single point has failed.

    Parameters
    ----------
    failure
        As VASP's calculation records it.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.reason = failure.reason


class SinglePoints(Calculator):
    """Single points of one cell, as an ASE calculator.

    A geometry has a folder named after it, so one that was computed, in this job or in one that
    was stopped, is read and not computed again.

    Parameters
    ----------
    run
        Computes a single point.
    start
        Cell, charge and spin.
    role
        Folder below that of the relaxation.

    Attributes
    ----------
    last
        The last single point that succeeded; None before there is one.
    calls, seconds
        Calls, and wall time in s, of each folder, those that failed and guesses of the spin
        included, over all jobs.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (ASE declares it so)

    def __init__(self, run: Run, start: StartStructure, role: str) -> None:
        super().__init__()
        self.run, self.start, self.role = run, start, PurePath(role)
        self.parameters[CHARGE] = start.charge
        self.last: Calculation | None = None
        self.calls: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute energy and forces; see ASE.

        Raises
        ------
        OutOfTimeError
            If the job's time does not suffice.
        PointFailedError
            If VASP fails for another reason.
        """
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        done = self.at(self.atoms.positions)
        if done.failure is not None:
            raise PointFailedError(done.failure)
        assert done.final_energy is not None
        self.last = done
        forces = np.asarray(done.frames[-1].forces)
        self.results = {"energy": done.final_energy, "forces": forces}

    def at(self, positions: np.ndarray) -> Calculation:
        """Compute a geometry, or read it.

        Parameters
        ----------
        positions
            Cartesian, Angstrom, shape (n_atoms, 3).

        Returns
        -------
        Calculation
            Also of one that failed.

        Raises
        ------
        OutOfTimeError
            If the job's time does not suffice.
        """
        old = self.start.structure
        moved = Structure(
            old.lattice,
            [site.specie for site in old],
            positions,
            coords_are_cartesian=True,
            site_properties=old.site_properties,
        )
        start = self.start.model_copy(update={"structure": with_charge(moved, self.start.charge)})
        key = content_hash((np.round(positions / SAME_POINT).astype(int) + 0).tolist())[:16]
        done = self.run(start, str(self.role / key))
        self.calls[key] = max(done.n_calls, self.calls.get(key, 0))
        self.seconds[key] = done.seconds
        if done.failure is not None and done.failure.reason is FailureReason.WALLTIME:
            raise OutOfTimeError(done.failure.message)
        return done


@dataclass
class SteppedMaker(AseReferenceMaker):
    """Takes the steps of a relaxation with VASP's single points; made within its job.

    Parameters
    ----------
    points
        Single points of the start.
    engine
        Program and inputs that compute them.
    """

    points: SinglePoints | None = field(default=None)
    engine: EngineRecord | None = field(default=None)

    def start_calculator(self, start: StartStructure) -> Calculator:
        """Single points of the start, which this Maker was made for.

        Raises
        ------
        EngineError
            If there are none.
        """
        if self.points is None:
            raise EngineError(f"{self.name}: no single points to take steps with; it is no engine.")
        return self.points

    def describe(self, calculator: Calculator, start: StartStructure) -> EngineRecord:
        """Program and inputs."""
        assert self.engine is not None
        return self.engine

    def engine_record(self, start: StartStructure) -> EngineRecord | None:
        """Program and inputs."""
        return self.engine

    def scratch(self, uuid: str) -> Path | None:
        """None: every single point has a folder from which it is read again."""
        return None

    def band_edges(self, atoms: Atoms) -> BandEdges | None:
        """Band edges of the last single point."""
        return None if self._last is None else self._last.band_edges

    def frontier(self, atoms: Atoms) -> list[FrontierLevel] | None:
        """Levels next to the gap of the last single point."""
        return None if self._last is None else self._last.frontier

    def notes(self, atoms: Atoms) -> list[str]:
        """What was tried in vain in the last single point."""
        return [] if self._last is None else self._last.notes

    @property
    def _last(self) -> Calculation | None:
        return None if self.points is None else self.points.last


def out_of_time(
    start: StartStructure,
    uuid: str,
    maker: ReferenceMaker,
    points: SinglePoints,
    engine: EngineRecord,
    message: str,
) -> Calculation:
    """Document of a relaxation that another job goes on with; its steps lie in its folder.

    Parameters
    ----------
    start, uuid, maker
        What is relaxed, by which job, how.
    points
        Its single points so far.
    engine
        Program and inputs.
    message
        What was seen.
    """
    failure = Failure(
        stage=maker.kind.value,
        reason=FailureReason.WALLTIME,
        message=message,
        fidelity=maker.fidelity,
        defect=start.defect,
        charge=start.charge,
        start=start.label,
    )
    return Calculation(
        job_uuid=uuid,
        kind=maker.kind,
        fidelity=maker.fidelity,
        defect=start.defect,
        charge=start.charge,
        spin=start.spin,
        start=start.label,
        n_atoms=len(start.structure),
        converged=False,
        failure=failure,
        n_calls=sum(points.calls.values()),
        seconds=0.0,
        engine=engine,
        n_frames=0,
    )
