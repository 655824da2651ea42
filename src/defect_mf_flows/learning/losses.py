"""What a training step makes small: errors of energies and forces, squared or absolute."""

from __future__ import annotations

from typing import Any

import torch
from mace.modules import WeightedEnergyForcesLoss
from mace.modules.loss import reduce_loss, weighted_mean_absolute_error_energy


class AbsoluteErrorLoss(torch.nn.Module):
    """Absolute errors of energies per atom and lengths of force errors, weighted per frame.

    Squares are ruled by the few frames that are far off; absolute errors let those be wrong
    and learn the others. This is the L1-L2 loss of ``WeightedEnergyForcesL1L2Loss`` in mace but
    for the weights of frames and heads, which that class leaves out of the forces.

    What is wrong about a defect does not grow with the cell. Squared, its energy then counts
    ever less against its forces, as one over the number of atoms; absolute, the balance stays.

    Parameters
    ----------
    energy_weight
        Per eV/atom.
    forces_weight
        Per eV/Angstrom; a frame whose method has no forces carries a weight of zero itself.
    """

    def __init__(self, energy_weight: float, forces_weight: float) -> None:
        super().__init__()
        self.energy_weight = energy_weight
        self.forces_weight = forces_weight

    def forward(self, ref: Any, pred: Any, ddp: bool | None = None) -> torch.Tensor:
        """Loss of a batch, a scalar.

        Parameters
        ----------
        ref
            Batch with labels and weights.
        pred
            ``energy`` of shape (graphs,) and ``forces`` of shape (atoms, 3).
        ddp
            As mace's losses take it.
        """
        energies = weighted_mean_absolute_error_energy(ref, pred, ddp)
        sizes = ref.ptr[1:] - ref.ptr[:-1]
        weights = torch.repeat_interleave(ref.weight * ref.forces_weight, sizes)
        errors = torch.linalg.vector_norm(ref["forces"] - pred["forces"], dim=-1)
        forces = reduce_loss(weights * errors, ddp)
        return self.energy_weight * energies + self.forces_weight * forces


#: Angstrom: an energy counts as much as a force error over this displacement, about that of a
#: minimum's neighbourhood.
LENGTH = 0.2


def cell_errors(ref: Any, pred: Any) -> torch.Tensor:
    """Squared error of each frame's energy per CELL and of its forces, summed over its atoms.

    Both stay the same when perfect crystal is added around a defect.

    Parameters
    ----------
    ref
        Batch with labels and weights.
    pred
        ``energy`` of shape (graphs,) and ``forces`` of shape (atoms, 3).

    Returns
    -------
    torch.Tensor
        Shape (graphs,), eV^2/Angstrom^2, times the weight of the frame.
    """
    energies = ref.energy_weight * (ref["energy"] - pred["energy"]).square() / LENGTH**2
    sizes = ref.ptr[1:] - ref.ptr[:-1]
    graph = torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)
    squares = (ref["forces"] - pred["forces"]).square().sum(dim=-1)
    forces = torch.zeros_like(energies).index_add(0, graph, squares)
    errors: torch.Tensor = ref.weight * (energies + ref.forces_weight * forces)
    return errors


class CellErrorLoss(torch.nn.Module):
    """Mean of ``cell_errors`` over a batch, in the form of mace's losses."""

    def forward(self, ref: Any, pred: Any, ddp: bool | None = None) -> torch.Tensor:
        """Loss of a batch, a scalar; parameters as of ``cell_errors``."""
        return cell_errors(ref, pred).mean()


#: Name in ``training.loss`` -> class; both take the weight of energies and that of forces.
LOSSES = {"squared": WeightedEnergyForcesLoss, "absolute": AbsoluteErrorLoss}
