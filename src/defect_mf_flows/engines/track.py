"""What one calculation has produced so far: frames as they are made, on disk at once."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from defect_mf_flows.core.charge import from_atoms
from defect_mf_flows.engines.checkpoint import Checkpoint, StoredEnd, StoredStep
from defect_mf_flows.errors import CheckpointError
from defect_mf_flows.schemas.calculation import (
    BandEdges,
    Calculation,
    Failure,
    FailureReason,
    FrontierLevel,
)
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.frame import Frame, Lineage

logger = logging.getLogger(__name__)

#: A relaxation with a larger force (eV/A) or displacement (A) has exploded.
EXPLODED_FORCE = 500.0
EXPLODED_DISPLACEMENT = 6.0


@dataclass
class Track:
    """The frames of one calculation and how it stands.

    Attributes
    ----------
    start, uuid, fidelity
        What is computed, by which job, how.
    checkpoint
        Where every step goes as it is made.
    frames
        One per evaluation that gave numbers.
    calls
        Evaluations that this calculation has paid for.
    guide_calls
        Evaluations of the method that guides it.
    failure
        Reason and message, or None.
    converged
        Forces below the threshold.
    edges, frontier
        Band edges and levels next to the gap at the last frame, where the engine gives them.
    notes
        What was tried in vain, with its step.
    """

    start: StartStructure
    uuid: str
    fidelity: str
    checkpoint: Checkpoint
    frames: list[Frame] = field(default_factory=list)
    calls: int = 0
    guide_calls: int = 0
    failure: tuple[FailureReason, str] | None = None
    converged: bool = False
    edges: BandEdges | None = None
    frontier: list[FrontierLevel] | None = None
    notes: list[str] = field(default_factory=list)
    _earlier: float = 0.0
    _began: float = field(default_factory=time.monotonic)

    @property
    def largest_force(self) -> float:
        """Largest force on an atom in the last frame, eV/Angstrom; 0 if the method has none."""
        forces = self.frames[-1].forces
        return 0.0 if forces is None else float(np.linalg.norm(forces, axis=1).max())

    @property
    def seconds(self) -> float:
        """Wall time, s, over all processes that worked on it."""
        return self._earlier + time.monotonic() - self._began

    def add(
        self,
        atoms: Atoms,
        energy: float,
        forces: np.ndarray | None,
        *,
        notes: list[str],
        taken: bool = False,
        failed: int = 0,
    ) -> None:
        """Keep one evaluation, in memory and on disk.

        Parameters
        ----------
        atoms
            The geometry.
        energy
            eV per cell.
        forces
            Shape (n_atoms, 3), eV/Angstrom, or None where the method has none.
        notes
            What was tried in vain before it succeeded.
        taken
            Whether another calculation has paid for it.
        failed
            Calls that failed before it.
        """
        self._frame(atoms, energy, forces)
        numbered = [f"step {len(self.frames) - 1}: {note}" for note in notes]
        self.notes += numbered
        self.checkpoint.append(
            StoredStep(
                positions=atoms.positions,
                energy=energy,
                forces=forces,
                seconds=self.seconds,
                band_edges=self.edges,
                frontier=self.frontier,
                notes=numbered,
                content_hash=self.frames[-1].content_hash,
                taken=taken,
                failed=failed,
                guide_calls=self.guide_calls,
            )
        )

    def recall(self, atoms: Atoms) -> None:
        """Make the stored steps its frames.

        Parameters
        ----------
        atoms
            The start; it is not moved.

        Raises
        ------
        CheckpointError
            If geometry, labels, charge, spin or fidelity of a step are not those of its hash.
        """
        there = atoms.copy()
        for number, step in enumerate(self.checkpoint.steps):
            if np.shape(step.positions) != atoms.positions.shape:
                raise CheckpointError(f"step {number} has another number of atoms.")
            there.positions = step.positions
            forces = None if step.forces is None else np.asarray(step.forces)
            self._frame(there, step.energy, forces)
            if self.frames[-1].content_hash != step.content_hash:
                raise CheckpointError(
                    f"step {number}: geometry, labels, charge {self.start.charge:+d} or fidelity "
                    f"{self.fidelity!r} do not match its SHA-256."
                )
            self.edges, self.frontier = step.band_edges, step.frontier
            self._earlier, self.guide_calls = step.seconds, step.guide_calls
            self.notes += step.notes
        if self.checkpoint.steps:
            logger.info("%s: %d steps were stored already", self.start.label, len(self.frames))
        self.calls = sum(step.failed + (not step.taken) for step in self.checkpoint.steps)

    def forget(self, why: str) -> None:
        """Begin anew: what is stored cannot be used, and is set aside.

        Parameters
        ----------
        why
            What is wrong with it.
        """
        self.checkpoint.set_aside(why)
        self.frames, self.calls, self.failure, self.notes = [], 0, None, []
        self.edges = self.frontier = None

    def take_up(self, atoms: Atoms, begun: Calculation, *, fmax: float, steps: int) -> None:
        """Make the steps of another relaxation the first of this one, as far as it would go.

        Parameters
        ----------
        atoms
            The start; it is not moved.
        begun
            The other relaxation, with its frames.
        fmax, steps
            Where this one ends, eV/Angstrom and ionic steps.
        """
        there = atoms.copy()
        usable = begun.frames[: steps + 1]
        for number, frame in enumerate(usable):
            there.positions = frame.structure.cart_coords
            forces = np.asarray(frame.forces)
            enough = float(np.linalg.norm(forces, axis=1).max()) < fmax
            if number == begun.n_frames - 1:
                self.edges, self.frontier = begun.band_edges, begun.frontier
            last = enough or number == len(usable) - 1
            notes = [f"continues {begun.job_uuid}"] if last else []
            self.add(there, frame.energy, forces, notes=notes, taken=True)
            if enough:
                break
        logger.info("%s: %d steps of %s", self.start.label, len(self.frames), begun.job_uuid)

    def finish(self) -> None:
        """Write down how it ended."""
        self.checkpoint.finish(
            StoredEnd(
                job=self.uuid,
                steps=len(self.frames),
                converged=self.converged,
                failure=self.failure,
                calls=self.calls,
                seconds=self.seconds,
                guide_calls=self.guide_calls,
            )
        )

    def has_ended(self) -> bool:
        """Whether it ended in another process; it then stands as it stood there."""
        end = self.checkpoint.end
        if end is None:
            return False
        self.converged, self.failure = end.converged, end.failure
        self.calls, self.guide_calls = end.calls, end.guide_calls
        self._earlier, self._began = end.seconds, time.monotonic()
        return True

    def failed(self, stage: str) -> Failure | None:
        """Its failure, with all that says where it happened.

        Parameters
        ----------
        stage
            Kind of the calculation.
        """
        if self.failure is None:
            return None
        reason, message = self.failure
        return Failure(
            stage=stage,
            reason=reason,
            message=message,
            fidelity=self.fidelity,
            defect=self.start.defect,
            charge=self.start.charge,
            start=self.start.label,
        )

    def _frame(self, atoms: Atoms, energy: float, forces: np.ndarray | None) -> None:
        """Make a frame of one evaluation and see whether the cell still holds together."""
        start = self.start
        self.frames.append(
            Frame(
                structure=from_atoms(atoms),
                charge=start.charge,
                spin=start.spin,
                fidelity=self.fidelity,
                energy=energy,
                forces=forces,
                lineage=Lineage(
                    defect=start.defect,
                    charge=start.charge,
                    start=start.label,
                    calculation=self.uuid,
                    step=len(self.frames),
                ),
            )
        )
        largest = self.largest_force
        moved = np.linalg.norm(atoms.positions - start.structure.cart_coords, axis=1).max()
        if largest > EXPLODED_FORCE or moved > EXPLODED_DISPLACEMENT:
            self.failure = (
                FailureReason.EXPLODED,
                f"force {largest:.0f} eV/A, displacement {moved:.1f} A",
            )
