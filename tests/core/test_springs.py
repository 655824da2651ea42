"""Springs tell what forces ask for, whatever the cell is called."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from defect_mf_flows.core.springs import spring_gain, springs


@pytest.fixture
def cell():
    atoms = bulk("ZnS", "zincblende", a=5.41, cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


@pytest.fixture
def forces(cell):
    found = np.random.default_rng(2).normal(size=(len(cell), 3))
    return found - found.mean(axis=0)


def test_the_gain_is_that_of_a_step_to_the_minimum_of_the_springs(cell, forces):
    laid = springs(cell, scale=1.0)
    laid.make_precon(cell)
    step = laid.solve(forces.ravel())
    energy = 0.5 * step @ laid.Pdot(step) - forces.ravel() @ step
    assert spring_gain(cell, forces) == pytest.approx(-energy)


def test_twice_the_forces_gain_four_times_as_much(cell, forces):
    assert spring_gain(cell, 2 * forces) == pytest.approx(4 * spring_gain(cell, forces))
    assert spring_gain(cell, np.zeros_like(forces)) == 0.0


def test_a_sum_of_forces_gains_nothing(cell, forces):
    assert spring_gain(cell, forces + np.array([0.3, 0.0, -0.1])) == pytest.approx(
        spring_gain(cell, forces)
    )


def test_stiffer_springs_gain_less(cell, forces):
    stiff = springs(cell, scale=4.0)
    stiff.make_precon(cell)
    gain = 0.5 * forces.ravel() @ stiff.solve(forces.ravel())
    assert gain == pytest.approx(spring_gain(cell, forces) / 4, rel=0.1)


def test_the_gain_does_not_depend_on_how_the_cell_lies_or_on_the_order_of_its_atoms(cell, forces):
    expected = spring_gain(cell, forces)
    order = np.random.default_rng(3).permutation(len(cell))
    turned = cell[order]
    turned.rotate(37, (1, 2, 3), rotate_cell=True)
    turned.translate([0.7, 0.1, 0.4])
    carrier = cell.copy()
    carrier.set_cell(np.eye(3))
    carrier.positions = forces
    carrier.rotate(37, (1, 2, 3))
    assert spring_gain(turned, carrier.positions[order]) == pytest.approx(expected)
