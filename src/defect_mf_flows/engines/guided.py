"""Relaxations at an expensive method that a cheap one guides: fewer expensive force calls."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorError, all_changes
from ase.calculators.singlepoint import SinglePointCalculator
from ase.optimize.gpmin.gp import GaussianProcess
from ase.optimize.gpmin.kernel import SquaredExponential
from ase.optimize.gpmin.prior import ZeroPrior
from ase.optimize.precon import Exp

from defect_mf_flows.core.springs import springs
from defect_mf_flows.engines.relaxer import LONGEST, Relaxer

logger = logging.getLogger(__name__)

#: Over such a distance of the whole cell what the methods differ by is alike, Angstrom. The
#: likelihood of relaxations with GFN1- and GFN2-xTB is largest between 0.5 and 1.
ALIKE = 0.7
#: Size of the difference, eV, and its noise; their ratio alone enters the prediction.
SIZE, NOISE = 2.0, 0.002
#: The shortest limit on a step, Angstrom: where energies still rise, springs take over.
SHORTEST = 0.03
#: An energy that is higher by less than this has not risen, eV.
LEVEL = 1e-3
#: Guided steps in a relaxation; what has not converged by then goes on from springs.
MOST_STEPS = 25
#: Cheap calls per step.
MOST_CALLS = 40
#: The corrected surface is relaxed to this share of the relaxation's force threshold.
TIGHTER = 0.3
#: Geometries closer than this are one, Angstrom.
SAME = 1e-5
#: Energies and force components that are learned from: a matrix of their square is kept.
MOST_NUMBERS = 6000


class GuideError(RuntimeError):
    """The cheap method has failed, and the relaxation goes on without it."""


@dataclass(frozen=True)
class Seen:
    """A geometry at which both methods were asked.

    Attributes
    ----------
    positions
        Shape (n_atoms, 3), Angstrom.
    energy
        Of the expensive method, eV.
    guide
        Energy, eV, and forces, shape (n_atoms, 3), eV/Angstrom, of the cheap method.
    difference
        Shape (1 + 3 n_atoms,): energy, eV, and its gradient, eV/Angstrom, by which the
        expensive method lies above the cheap one.
    """

    positions: np.ndarray
    energy: float
    guide: tuple[float, np.ndarray]
    difference: np.ndarray


class GuidedRelaxer:
    """Relaxes on the cheap method's surface, corrected by what both methods have said so far.

    Their difference (:class:`Difference`) is fitted to the energies and forces of both at the
    steps taken. Each step goes to the minimum of the corrected surface, as far as no atom moves
    further than a limit from the lowest geometry so far; where the energy rose, the limit is half
    of the step that led there.

    Where the cheap method fails, or energies keep rising, it goes on from springs between
    neighbours (:class:`~defect_mf_flows.engines.relaxer.Relaxer`) as if there had been no guide.

    What it does next depends on the geometries, energies and forces that it has seen and on
    nothing else, so a relaxation that was killed goes on as if it had not been.

    Parameters
    ----------
    atoms
        To relax, with the expensive method's calculator, at the geometry where it begins.
    guide
        The same cell with the cheap method's calculator, told the same charge.
    fmax
        Force threshold of the relaxation, eV/Angstrom.

    Attributes
    ----------
    guide_calls
        Force calls of the cheap method.
    given_up
        Why it goes on from springs; empty while it is guided.
    """

    def __init__(self, atoms: Atoms, guide: Atoms, fmax: float) -> None:
        self.atoms, self.fmax = atoms, fmax
        self.guide_calls = 0
        self.given_up = ""
        self._guide = guide.copy()
        self._guide.calc = guide.calc
        self._alone = Relaxer(atoms)
        self._steps: list[Atoms] = []
        self._seen: list[Seen] = []
        self._latest: tuple[np.ndarray, tuple[float, np.ndarray]] | None = None

    def replay_trajectory(self, images: Sequence[Atoms]) -> None:
        """Take up the steps of a relaxation that was stopped.

        Parameters
        ----------
        images
            All its geometries with their labels; the next step goes on from the last.
        """
        self._steps = list(images[:-1])
        try:
            for image in self._steps:
                self._see(image)
        except GuideError as error:
            self._give_up(str(error), images)

    def step(self) -> None:
        """Move the atoms once."""
        if not self.given_up:
            here = _frozen(self.atoms)
            self._steps.append(here)
            try:
                self._see(here)
                self.atoms.positions = self._proposal()
                return
            except GuideError as error:
                self._give_up(str(error), self._steps)
        self._alone.step()

    def _give_up(self, reason: str, images: Sequence[Atoms]) -> None:
        self.given_up = reason
        logger.info("the relaxation goes on from springs: %s", reason)
        self._alone.replay_trajectory(list(images))

    def _see(self, image: Atoms) -> None:
        """Ask the cheap method where the expensive one was asked."""
        if len(self._seen) == MOST_STEPS:
            raise GuideError(f"{MOST_STEPS} guided steps have not converged")
        energy, forces = float(image.get_potential_energy()), centred(image.get_forces())
        guide = self._ask(image.positions)
        difference = np.concatenate([[energy - guide[0]], (guide[1] - forces).ravel()])
        self._seen.append(Seen(image.positions.copy(), energy, guide, difference))

    def _ask(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        known = [(seen.positions, seen.guide) for seen in self._seen]
        for there, told in known if self._latest is None else [*known, self._latest]:
            if np.array_equal(there, positions):
                return told
        self.guide_calls += 1
        self._guide.positions = positions
        try:
            energy = float(self._guide.get_potential_energy())
            forces = centred(self._guide.get_forces())
        except (CalculatorError, RuntimeError, ArithmeticError) as error:
            raise GuideError(f"the guide failed: {type(error).__name__}: {error}"[:300]) from error
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise GuideError("the guide gave numbers that are not finite")
        self._latest = positions.copy(), (energy, forces)
        return energy, forces

    def _proposal(self) -> np.ndarray:
        """Minimum of the corrected surface, as far as a step may go from the lowest geometry."""
        lowest, limit = self._lowest()
        start = self._seen[lowest].positions
        there = self._guide.copy()
        there.positions = start
        there.calc = Corrected(self._ask, self._difference(lowest))
        walker, before = Relaxer(there), start
        for _ in range(MOST_CALLS):
            try:
                forces = there.get_forces()
            except GuideError as error:
                if not _furthest(before - start):
                    raise
                logger.info("%s; the step ends before", error)
                there.positions = before
                break
            if np.linalg.norm(forces, axis=1).max() < TIGHTER * self.fmax:
                break
            before = there.positions.copy()
            walker.step()
            if _furthest(there.positions - start) > limit:
                there.positions = _within(start, before, there.positions, limit)
                break
        if any(_furthest(there.positions - seen.positions) < SAME for seen in self._seen):
            raise GuideError("the corrected surface leads to no other geometry")
        return np.asarray(there.positions)

    def _lowest(self) -> tuple[int, float]:
        """Which geometry is the lowest, and how far a step may go from it, Angstrom."""
        lowest, limit = 0, LONGEST
        for number, seen in enumerate(self._seen[1:], start=1):
            if seen.energy < self._seen[lowest].energy + LEVEL:
                lowest, limit = number, min(LONGEST, 1.5 * limit)
            else:
                step = _furthest(seen.positions - self._seen[lowest].positions)
                limit = 0.5 * min(limit, step)
            if limit < SHORTEST:
                raise GuideError("the energy keeps rising along guided steps")
        return lowest, limit

    def _difference(self, lowest: int) -> Difference:
        """Fit the difference to the latest geometries and the lowest."""
        most = max(2, MOST_NUMBERS // len(self._seen[0].difference))
        latest = [k for k in range(len(self._seen)) if k != lowest][-(most - 1) :]
        return Difference(self._guide, [self._seen[k] for k in (*latest, lowest)], self._stiffer())

    def _stiffer(self) -> float:
        """Median over the steps of what the difference bends by, in springs of 1 eV/Angstrom^2."""
        found = []
        for before, after in pairwise(self._seen):
            step = (after.positions - before.positions).ravel()
            there = self._guide.copy()
            there.positions = before.positions
            bent = float(step @ (after.difference - before.difference)[1:])
            found.append(bent / float(step @ unit_springs(there).Pdot(step)))
        return max(0.0, float(np.median(found))) if found else 0.0


class Difference:
    """By how much the expensive method lies above the cheap one, learned from a relaxation.

    A Gaussian process of the geometry, as in GPMin (Garijo del Rio, Mortensen and Jacobsen, Phys.
    Rev. B 100, 104103 (2019)) and through ASE's own process and kernel, around springs between
    neighbours: where the expensive method is stiffer along the steps so far, it is taken to be
    stiffer along the others, too.

    Parameters
    ----------
    atoms
        The cell.
    known
        Geometries at which both methods were asked, the lowest last.
    stiffer
        Scale of the springs, eV/Angstrom^2.
    """

    def __init__(self, atoms: Atoms, known: Sequence[Seen], stiffer: float) -> None:
        self.middle, self.stiffer = known[-1].positions.ravel(), stiffer
        there = atoms.copy()
        there.positions = known[-1].positions
        self.springs = unit_springs(there)
        geometries = np.array([seen.positions.ravel() for seen in known])
        values = np.array([seen.difference for seen in known])
        values[:, 0] -= values[-1, 0]
        values -= [self._spring_part(x) for x in geometries]
        self.process = GaussianProcess(ZeroPrior(), SquaredExponential())
        self.process.set_hyperparams(np.array([SIZE, ALIKE, NOISE]))
        self.process.train(geometries, values)

    def at(self, positions: np.ndarray) -> tuple[float, np.ndarray]:
        """Predict the difference.

        Parameters
        ----------
        positions
            Shape (n_atoms, 3), Angstrom.

        Returns
        -------
        energy
            eV, from that at the lowest geometry.
        forces
            Shape (n_atoms, 3), eV/Angstrom.
        """
        x = positions.ravel()
        energy, *gradient = np.asarray(self.process.predict(x)) + self._spring_part(x)
        return float(energy), -np.reshape(gradient, (-1, 3))

    def _spring_part(self, x: np.ndarray) -> np.ndarray:
        moved = x - self.middle
        gradient = self.stiffer * np.asarray(self.springs.Pdot(moved))
        return np.concatenate([[0.5 * moved @ gradient], gradient])


def unit_springs(atoms: Atoms) -> Exp:
    """Springs of 1 eV/Angstrom^2 laid into a geometry."""
    found = springs(atoms, scale=1.0)
    found.make_precon(atoms)
    return found


class Corrected(Calculator):
    """The cheap method's surface plus a prediction of the difference.

    Parameters
    ----------
    ask
        Energy, eV, and forces, eV/Angstrom, of the cheap method at positions.
    difference
        Between the methods.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (ASE declares it so)

    def __init__(
        self, ask: Callable[[np.ndarray], tuple[float, np.ndarray]], difference: Difference
    ) -> None:
        super().__init__()
        self.ask, self.difference = ask, difference

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Compute energy and forces; see ASE."""
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        energy, forces = self.ask(self.atoms.positions)
        above, correction = self.difference.at(self.atoms.positions)
        self.results = {"energy": energy + above, "forces": centred(forces + correction)}


def centred(forces: np.ndarray) -> np.ndarray:
    """Forces without their sum, which is noise and would only move the cell as a whole.

    Parameters
    ----------
    forces
        Shape (n_atoms, 3), eV/Angstrom.
    """
    return np.asarray(forces - forces.mean(axis=0))


def _frozen(atoms: Atoms) -> Atoms:
    """Copy that keeps its labels when the calculator computes something else."""
    image = atoms.copy()
    image.calc = SinglePointCalculator(
        image, energy=atoms.get_potential_energy(), forces=atoms.get_forces()
    )
    return image


def _furthest(moves: np.ndarray) -> float:
    return float(np.linalg.norm(moves, axis=1).max())


def _within(start: np.ndarray, inside: np.ndarray, outside: np.ndarray, limit: float) -> np.ndarray:
    """Where the way from one geometry to another leaves the limit around the start."""
    low, high = 0.0, 1.0
    for _ in range(20):
        middle = 0.5 * (low + high)
        if _furthest(inside + middle * (outside - inside) - start) > limit:
            high = middle
        else:
            low = middle
    return np.asarray(inside + low * (outside - inside))
