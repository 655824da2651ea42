"""A few structures relaxed together in one process: ASE's FIRE, one force call for all.

A force call of a small cell is mostly overhead, which a batch shares: eight cells of 31 atoms
take about as long as two alone.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.neighborlist import neighbor_list
from ase.optimize import FIRE
from pymatgen.core import Structure

from defect_mf_flows.core.charge import charge_of, from_atoms, to_atoms
from defect_mf_flows.core.stratified import evenly_spaced
from defect_mf_flows.errors import DefectMFError
from defect_mf_flows.learning.compiling import COMPARED, Batches
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.relaxed import Limits, Problem, Relaxed, Trajectory, explosion, lost

logger = logging.getLogger(__name__)

#: Atoms per force call on one core; larger batches fall out of its caches.
BATCH_ATOMS = 256
#: Structures whose atoms and edges are counted before calls are compiled.
SAMPLED = 16
#: Neighbours this far beyond the cutoff get room as well, Angstrom: a shell that a rattled start
#: has half outside comes in when it relaxes.
DRAWN_IN = 0.3


def relax_here(
    structures: Sequence[Structure],
    potential: Potential,
    limits: Limits,
    *,
    compiled: bool = False,
    report: Callable[[int], None] = lambda done: None,
) -> list[Relaxed]:
    """Relax structures in this process, a few at a time.

    Parameters
    ----------
    structures
        Charged structures.
    potential
        Model and head.
    limits
        When to end.
    compiled
        Whether to compile the force calls first.
    report
        Called with the number of structures done.

    Returns
    -------
    list of Relaxed
        In the order of the structures.
    """
    if compiled and structures:
        compile_flock(structures, potential)
    flock, ends = Flock(potential), dict[int, Relaxed]()
    waiting = deque(enumerate(structures))
    while len(ends) < len(structures):
        while waiting and flock.room(len(waiting[0][1])):
            flock.add(*waiting.popleft(), limits)
        for number, end in flock.step():
            ends[number] = end
            report(len(ends))
    return [ends[i] for i in range(len(structures))]


def compile_flock(
    structures: Sequence[Structure], potential: Potential, *, processes: int = 1
) -> Batches | None:
    """Let the force calls of flocks be computed by compiled ones.

    Parameters
    ----------
    structures
        To be relaxed; the sizes of some, evenly spaced, are taken.
    potential
        Model and head. It computes batches of that shape by compiled calls from now on.
    processes
        Flocks that share the structures.

    Returns
    -------
    Batches
        Shape of a flock's calls; None if they could not be compiled, and the log says why.
    """
    chosen = [structures[k] for k in evenly_spaced(len(structures), min(SAMPLED, len(structures)))]
    mean = sum(len(structure) for structure in chosen) / len(chosen)
    share = -(-len(structures) // processes)
    size = max(1, min(int(BATCH_ATOMS // mean), share))
    atoms = [to_atoms(structure) for structure in chosen]
    reach = potential.cutoff + DRAWN_IN
    edges = [len(neighbor_list("i", item, reach)) for item in atoms]
    batches = Batches([len(item) for item in atoms], edges, size)
    potential.compile(batches)
    first = [atoms[k % len(atoms)] for k in range(size)]
    try:
        for _ in range(COMPARED):
            potential.evaluate(first)
    except DefectMFError:
        raise
    except Exception as error:  # a start that has no neighbour list, for one: it fails alone
        logger.warning("force calls are not compiled: %s: %s", type(error).__name__, error)
        potential.compile(None)
    return batches if potential.compiled else None


class Flock:
    """Structures on their way; one that ends makes room for another.

    Parameters
    ----------
    potential
        Model and head.
    """

    def __init__(self, potential: Potential) -> None:
        self.potential = potential
        self.walks: list[_Walk] = []

    def room(self, atoms: int) -> bool:
        """Whether a structure of so many atoms may join; one alone always may."""
        return has_room([len(walk.atoms) for walk in self.walks], atoms)

    def add(self, number: int, structure: Structure, limits: Limits) -> None:
        """Let a structure join.

        Raises
        ------
        ChargeError
            If the model was not trained on its charge or cell.
        """
        offset = self.potential.offset(charge_of(structure), structure)
        self.walks.append(_Walk(number, structure, offset, limits))

    def step(self) -> list[tuple[int, Relaxed]]:
        """Move all by one FIRE step, and return what has ended."""
        found = self._forces([walk.atoms for walk in self.walks])
        ended = []
        for walk, forces in zip(self.walks, found, strict=True):
            end = walk.failed(forces) if isinstance(forces, str) else walk.take(*forces)
            if end is not None:
                ended.append((walk.number, end))
        done = {number for number, _ in ended}
        self.walks = [walk for walk in self.walks if walk.number not in done]
        return ended

    def _forces(self, atoms: list[Atoms]) -> list[tuple[float, np.ndarray] | str]:
        """Energies and forces; where a batch fails, each alone, and what was seen."""
        try:
            return list(self.potential.evaluate(atoms))
        except DefectMFError:
            raise
        except Exception as error:  # the neighbour list of an exploded cell, for one
            if len(atoms) == 1:
                return [f"{type(error).__name__}: {str(error)[:200]}"]
            return [found for item in atoms for found in self._forces([item])]


class _Walk:
    """One structure on its way."""

    def __init__(self, number: int, structure: Structure, offset: float, limits: Limits) -> None:
        self.number, self.structure, self.limits = number, structure, limits
        self.offset = offset
        self.atoms = to_atoms(structure)
        self.start = self.atoms.get_positions()
        self.optimiser = FIRE(self.atoms, logfile=os.devnull)
        self.calls = 0
        self.path: list[tuple[np.ndarray, float]] = []

    def take(self, energy: float, forces: np.ndarray) -> Relaxed | None:
        """Take a step with the forces at the present geometry, unless that is the end."""
        self.calls += 1
        energy += self.offset
        if self.limits.trajectories:
            self.path.append((self.atoms.get_positions(), energy))
        message = explosion(forces, self.atoms.get_positions() - self.start)
        if message:
            return self.failed(message)
        converged = bool(np.linalg.norm(forces, axis=1).max() < self.limits.fmax)
        if converged or self.calls > self.limits.steps:
            return Relaxed(
                structure=from_atoms(self.atoms),
                energy=energy,
                converged=converged,
                steps=self.calls,
                trajectory=self._trajectory(),
            )
        self.atoms.calc = SinglePointCalculator(self.atoms, energy=energy, forces=forces)
        self.optimiser.step()
        return None

    def failed(self, message: str) -> Relaxed:
        """Record that there is no end."""
        return lost(
            self.structure,
            Problem.EXPLODED,
            message,
            steps=self.calls,
            trajectory=self._trajectory(),
        )

    def _trajectory(self) -> Trajectory | None:
        if not self.limits.trajectories:
            return None
        return Trajectory(np.array([p for p, _ in self.path]), np.array([e for _, e in self.path]))


def has_room(present: list[int], atoms: int) -> bool:
    """Whether a structure fits beside others of these sizes."""
    return not present or sum(present) + atoms <= BATCH_ATOMS
