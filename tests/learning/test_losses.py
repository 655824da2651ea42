"""Losses of a training step: what they weigh, and what they leave out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from defect_mf_flows.learning.losses import LOSSES, AbsoluteErrorLoss, CellErrorLoss


class Batch(SimpleNamespace):
    """The part of mace's batch that a loss reads."""

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


def batch(sizes: list[int], weights: list[float]) -> Batch:
    """Graphs whose labels are all zero."""
    return Batch(
        ptr=torch.tensor([0, *sizes]).cumsum(0),
        weight=torch.tensor(weights),
        energy_weight=torch.ones(len(sizes)),
        forces_weight=torch.ones(len(sizes)),
        energy=torch.zeros(len(sizes)),
        forces=torch.zeros(sum(sizes), 3),
        num_graphs=len(sizes),
    )


def prediction(labels: Batch, energies: list[float]) -> dict[str, torch.Tensor]:
    return {"energy": torch.tensor(energies), "forces": labels.forces.clone()}


def test_energies_count_per_atom_and_forces_by_their_length() -> None:
    labels = batch([2, 4], [1.0, 1.0])
    found = prediction(labels, [0.2, -0.8])
    found["forces"][0] = torch.tensor([3.0, 0.0, 4.0])
    loss = AbsoluteErrorLoss(energy_weight=10.0, forces_weight=0.6)
    expected = 10.0 * (0.1 + 0.2) / 2 + 0.6 * 5.0 / 6
    assert float(loss(labels, found)) == pytest.approx(expected)


@pytest.mark.parametrize("weights", [(2.0, 0.0), (0.0, 2.0)])
def test_the_weight_of_a_frame_enters_energies_and_forces(weights: tuple[float, float]) -> None:
    """mace's own L1-L2 loss gives forces of every frame and head the same weight."""
    labels = batch([2, 2], list(weights))
    found = prediction(labels, [0.2, 0.4])
    found["forces"][:2, 0], found["forces"][2:, 0] = 1.0, 3.0
    loss = AbsoluteErrorLoss(energy_weight=1.0, forces_weight=1.0)
    expected = (0.1 + 1.0) if weights[0] else (0.2 + 3.0)
    assert float(loss(labels, found)) == pytest.approx(expected)


def shift_of_balance(name: str) -> float:
    """Energy term against force term of one wrong atom, in a cell of 32 over one of 8."""
    ratios = []
    for size in (8, 32):
        labels = batch([size], [1.0])
        found = prediction(labels, [0.3])
        found["forces"][0, 0] = 0.5
        energies, forces = (
            float(LOSSES[name](*w)(labels, found)) for w in ((1.0, 0.0), (0.0, 1.0))
        )
        ratios.append(energies / forces)
    return ratios[1] / ratios[0]


def test_the_energy_of_a_defect_keeps_its_weight_in_a_larger_cell_if_absolute() -> None:
    assert shift_of_balance("absolute") == pytest.approx(1.0)
    assert shift_of_balance("squared") == pytest.approx(1 / 4)


def test_one_frame_far_off_does_not_rule_the_gradient_of_the_absolute_loss() -> None:
    labels = batch([1, 1], [1.0, 1.0])
    pulls = {}
    for name in LOSSES:
        found = prediction(labels, [0.1, 10.0])
        found["energy"].requires_grad_()
        LOSSES[name](1.0, 0.0)(labels, found).backward()
        pulls[name] = (found["energy"].grad[1] / found["energy"].grad[0]).item()
    assert pulls == {"absolute": pytest.approx(1.0), "squared": pytest.approx(100.0)}


def test_a_perfect_force_has_a_gradient_of_zero_and_not_of_nan() -> None:
    labels = batch([2], [1.0])
    found = prediction(labels, [0.0])
    found["forces"].requires_grad_()
    AbsoluteErrorLoss(1.0, 1.0)(labels, found).backward()
    assert not found["forces"].grad.any()


def test_crystal_around_a_defect_changes_nothing_in_the_loss_of_polishing() -> None:
    losses = []
    for size in (8, 32):
        labels = batch([size], [1.0])
        found = prediction(labels, [0.3])
        found["forces"][0] = torch.tensor([0.3, 0.0, 0.4])
        losses.append(float(CellErrorLoss()(labels, found)))
    assert losses == pytest.approx([0.3**2 / 0.2**2 + 0.5**2] * 2)


def test_polishing_takes_the_mean_over_frames_with_their_weights() -> None:
    labels = batch([2, 3], [2.0, 0.5])
    found = prediction(labels, [0.2, 0.4])
    found["forces"][2:, 0] = 1.0
    expected = (2.0 * 0.2**2 / 0.2**2 + 0.5 * (0.4**2 / 0.2**2 + 3.0)) / 2
    assert float(CellErrorLoss()(labels, found)) == pytest.approx(expected)


def test_polishing_leaves_out_forces_that_a_method_does_not_have() -> None:
    labels = batch([2], [1.0])
    labels.forces_weight = torch.zeros(1)
    found = prediction(labels, [0.0])
    found["forces"][:] = 9.0
    assert float(CellErrorLoss()(labels, found)) == 0.0
