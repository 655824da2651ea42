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


class CellErrorLoss(torch.nn.Module):
    """Squared errors of energies per CELL and of forces, summed over the atoms of a frame.

    Both stay the same when perfect crystal is added around a defect. The weight between them is
    a length: an energy that is wrong by what a force error does over ``LENGTH`` counts the same.
    """

    #: Angstrom, about the displacement between a minimum and its neighbourhood.
    LENGTH = 0.2

    def forward(self, ref: Any, pred: Any, ddp: bool | None = None) -> torch.Tensor:
        """Loss of a batch, a scalar in eV^2/Angstrom^2: the mean over its frames.

        Parameters
        ----------
        ref
            Batch with labels and weights.
        pred
            ``energy`` of shape (graphs,) and ``forces`` of shape (atoms, 3).
        ddp
            As mace's losses take it.
        """
        energies = ref.weight * ref.energy_weight * (ref["energy"] - pred["energy"]).square()
        sizes = ref.ptr[1:] - ref.ptr[:-1]
        weights = torch.repeat_interleave(ref.weight * ref.forces_weight, sizes)
        forces = weights * (ref["forces"] - pred["forces"]).square().sum(dim=-1)
        mean: torch.Tensor = energies.sum() / self.LENGTH**2 + forces.sum()
        return mean / ref.num_graphs


#: Name in ``training.loss`` -> class; both take the weight of energies and that of forces.
LOSSES = {"squared": WeightedEnergyForcesLoss, "absolute": AbsoluteErrorLoss}
