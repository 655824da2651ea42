"""Relaxations of the reference engines: few force calls, one per step, and they go on."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.optimize import LBFGS

from defect_mf_flows.engines.relaxer import LONGEST, Relaxer

FMAX = 0.03


class Counted(EMT):
    """EMT that counts the geometries it computes, and whose forces may not add up to nothing."""

    def __init__(self, drift: float = 0.0) -> None:
        super().__init__()
        self.calls, self.drift = 0, drift

    def calculate(self, *arguments: Any, **options: Any) -> None:
        self.calls += 1
        super().calculate(*arguments, **options)
        self.results["forces"] = self.results["forces"] + self.drift


def vacancy(seed: int = 1, size: tuple[int, int, int] = (2, 2, 2), rattle: float = 0.15) -> Atoms:
    """Copper with a vacancy and displaced atoms."""
    atoms = bulk("Cu", cubic=True) * size
    del atoms[0]
    atoms.positions += np.random.default_rng(seed).normal(0, rattle, atoms.positions.shape)
    atoms.calc = Counted()
    return atoms


def force(atoms: Atoms) -> float:
    return float(np.linalg.norm(atoms.get_forces(), axis=1).max())


def path_of(atoms: Atoms, relaxer: Any, most: int = 200) -> list[Atoms]:
    """Geometries of a relaxation, each with its labels."""
    path = []
    for _ in range(most):
        image = atoms.copy()
        image.calc = SinglePointCalculator(
            image, energy=atoms.get_potential_energy(), forces=atoms.get_forces()
        )
        path.append(image)
        if force(atoms) < FMAX:
            return path
        relaxer.step()
    raise AssertionError(f"{force(atoms)} eV/A after {most} steps")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_ends_in_the_minimum_that_ase_finds_too(seed: int) -> None:
    mine, theirs = vacancy(seed), vacancy(seed)
    path_of(mine, Relaxer(mine))
    path_of(theirs, LBFGS(theirs, logfile=None))
    assert mine.get_potential_energy() == pytest.approx(theirs.get_potential_energy(), abs=0.01)


def test_where_many_atoms_move_together_it_needs_far_fewer_calls() -> None:
    """A wave along a long cell is the mode that springs between neighbours know of."""
    counts = []
    for kind in (Relaxer, lambda atoms: LBFGS(atoms, logfile=None, alpha=30.0, maxstep=LONGEST)):
        atoms = vacancy(size=(2, 2, 8), rattle=0.05)
        height = atoms.cell[2, 2]
        atoms.positions[:, 2] += np.sin(2 * np.pi * atoms.positions[:, 2] / height)
        path_of(atoms, kind(atoms))
        counts.append(atoms.calc.calls)
    assert counts[0] < 0.7 * counts[1]


def test_every_step_costs_one_force_call() -> None:
    atoms = vacancy()
    path = path_of(atoms, Relaxer(atoms))
    assert atoms.calc.calls == len(path)


def test_no_atom_moves_further_than_allowed() -> None:
    atoms = vacancy(rattle=0.35)
    path = path_of(atoms, Relaxer(atoms))
    moves = [np.linalg.norm(b.positions - a.positions, axis=1).max() for a, b in pairwise(path)]
    assert max(moves) == pytest.approx(LONGEST)


def test_a_sum_of_forces_that_is_noise_moves_no_cell() -> None:
    """Plane waves have one; nothing but noise would hold the cell in its place."""
    atoms, without = vacancy(), vacancy()
    middle = atoms.positions.mean(axis=0)
    atoms.calc = Counted(drift=0.01)
    path = path_of(atoms, Relaxer(atoms))
    np.testing.assert_allclose(atoms.positions.mean(axis=0), middle, atol=1e-6)
    assert abs(len(path) - len(path_of(without, Relaxer(without)))) <= 2


def test_where_only_a_sum_of_forces_is_left_it_ends_and_says_so() -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.calc = Counted(drift=0.5)
    with pytest.raises(RuntimeError, match="only a sum of forces is left"):
        Relaxer(atoms).step(np.full((len(atoms), 3), 0.5))


def second_derivatives(atoms: Atoms) -> np.ndarray:
    """Of EMT at the geometry, by differences."""
    probe, rows = atoms.copy(), []
    probe.calc = EMT()
    for k in range(3 * len(atoms)):
        sides = []
        for shift in (0.01, -0.01):
            moved = atoms.positions.copy().ravel()
            moved[k] += shift
            probe.positions = moved.reshape(-1, 3)
            sides.append(probe.get_forces().ravel())
        rows.append((sides[1] - sides[0]) / 0.02)
    return np.array(rows)


def test_the_curvature_of_a_minimum_spares_force_calls_on_the_way_to_it() -> None:
    relaxed = vacancy(rattle=0.0)
    path_of(relaxed, Relaxer(relaxed))
    bends, counts = second_derivatives(relaxed), []
    for known in (None, bends):
        atoms = vacancy(rattle=0.05)
        path_of(atoms, Relaxer(atoms, known))
        counts.append(atoms.calc.calls)
    assert counts[1] <= 0.6 * counts[0]


def test_a_wrong_curvature_costs_calls_but_not_the_minimum() -> None:
    right, wrong = vacancy(), vacancy()
    path_of(right, Relaxer(right))
    random = np.random.default_rng(3).normal(scale=5.0, size=(3 * len(wrong), 3 * len(wrong)))
    path_of(wrong, Relaxer(wrong, random + random.T))
    assert wrong.get_potential_energy() == pytest.approx(right.get_potential_energy(), abs=0.01)


def test_where_a_known_curvature_bends_downwards_the_step_goes_downhill() -> None:
    atoms = vacancy()
    before, energy = atoms.positions.copy(), atoms.get_potential_energy()
    forces = atoms.get_forces()
    Relaxer(atoms, -second_derivatives(atoms)).step()
    step = (atoms.positions - before).ravel()
    assert step @ (forces - forces.mean(axis=0)).ravel() > 0
    assert atoms.get_potential_energy() < energy


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("done", [1, 2, 5])
def test_after_a_kill_it_goes_on_exactly_as_it_would_have(done: int, known: bool) -> None:
    whole = vacancy()
    bends = second_derivatives(whole) if known else None
    path = path_of(whole, Relaxer(whole, bends))
    again = vacancy()
    relaxer = Relaxer(again, bends)
    relaxer.replay_trajectory(path[:done])
    again.positions = path[done - 1].positions
    rest = path_of(again, relaxer)
    assert len(rest) == len(path) - done + 1
    np.testing.assert_allclose(rest[-1].positions, path[-1].positions, atol=1e-10)


def test_a_step_of_negative_curvature_is_not_learned_from() -> None:
    """Else the next direction would lead uphill."""
    atoms = vacancy()
    relaxer = Relaxer(atoms)
    here, forces = atoms.positions.copy(), atoms.get_forces()
    relaxer.replay_trajectory([])
    relaxer.update(here, forces, None, None)
    relaxer.update(here + 0.01 * forces, 1.1 * forces, here, forces)
    assert relaxer.s == []
    relaxer.update(here + 0.01 * forces, 0.9 * forces, here, forces)
    assert len(relaxer.s) == 1
