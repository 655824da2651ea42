"""Trained models and their errors."""

from __future__ import annotations

from typing import Any

from pydantic import Field, StrictInt

from defect_mf_flows.errors import ChargeError, FidelityError
from defect_mf_flows.schemas.base import Document, StoredDocument
from defect_mf_flows.schemas.dataset import ReferenceEnergy


class HeadMetrics(Document):
    """Errors of one head for one charge on one side of the split.

    Attributes
    ----------
    head, charge, split
        What was evaluated.
    n_frames
        Number of frames.
    energy_rmse_cell, energy_mae_cell
        meV per cell: the figure that transition levels feel.
    energy_rmse_atom
        meV per atom: the figure that papers quote.
    relative_energy_rmse_cell
        meV per cell after the mean error is removed: error of energy ORDERINGS.
    force_rmse, force_mae
        meV/Angstrom per component.
    """

    head: str
    charge: StrictInt
    split: str
    n_frames: int
    energy_rmse_cell: float
    energy_mae_cell: float
    energy_rmse_atom: float
    relative_energy_rmse_cell: float
    force_rmse: float
    force_mae: float


class ParityPoint(Document):
    """Reference against model for one frame, for parity plots.

    Attributes
    ----------
    head, charge, split
        What was evaluated.
    energy, energy_model
        eV per cell, relative to the group's reference energy.
    force_rmse
        meV/Angstrom over the frame's components.
    """

    head: str
    charge: StrictInt
    split: str
    energy: float
    energy_model: float
    force_rmse: float


class EpochRecord(Document):
    """Validation losses after an epoch.

    Attributes
    ----------
    epoch
        From 0.
    train_loss
        Mean training loss over the epoch's batches.
    valid
        Per head: loss, energy RMSE (meV/atom), force RMSE (meV/Angstrom).
    learning_rate
        Learning rate used.
    """

    epoch: int
    train_loss: float
    valid: dict[str, dict[str, float]]
    learning_rate: float


class Model(StoredDocument):
    """A trained multi-head, charge-aware potential.

    Attributes
    ----------
    model_hash
        SHA-256 of the model file.
    dataset_hash
        Dataset on which it was trained.
    heads
        Head names, in the model's order.
    charges
        Charge states that the training set contains, per head.
    references
        Energies added back to the model's output, per (head, charge, composition).
    shortest
        Shortest distance per pair of elements in the training set, Angstrom; closer contacts
        are extrapolation.
    lowest
        Lowest training label per ``"head|charge|composition"``, eV per cell.
    settings
        Hyperparameters.
    seed
        Seed of weights and batches.
    best_epoch
        Epoch whose weights were kept.
    seconds
        Wall time of training, over all restarts.
    versions
        torch and mace-torch.
    metrics, parity, history
        Errors per head, charge and split; points for parity plots; learning curve.
    blob
        The model file, base64 (kept in the additional store ``data``).
    """

    model_hash: str
    dataset_hash: str
    heads: list[str]
    charges: dict[str, list[StrictInt]]
    references: list[ReferenceEnergy]
    shortest: dict[str, float] = Field(default_factory=dict)
    lowest: dict[str, float] = Field(default_factory=dict)
    settings: dict[str, Any]
    seed: int
    best_epoch: int
    seconds: float
    versions: dict[str, str]
    metrics: list[HeadMetrics] = Field(default_factory=list)
    parity: list[ParityPoint] = Field(default_factory=list)
    history: list[EpochRecord] = Field(default_factory=list)
    blob: str = ""

    def check(self, *, head: str, charge: int) -> None:
        """Refuse a head or a charge that was not trained.

        Raises
        ------
        FidelityError
            If the model has no such head.
        ChargeError
            If no training label of that head has this charge.
        """
        if head not in self.heads:
            raise FidelityError(f"model has no head {head!r}; choose one of {self.heads}.")
        if charge not in self.charges[head]:
            raise ChargeError(
                f"head {head!r} was not trained on charge {charge:+d}, only on "
                f"{self.charges[head]}; add labels of this charge and train again."
            )

    def reference(self, *, head: str, charge: int, composition: str) -> float:
        """Energy (eV per cell) to add to the network's output for one group.

        Raises
        ------
        ChargeError
            If the group was not in the training set.
        """
        for item in self.references:
            if (item.head, item.charge, item.composition) == (head, charge, composition):
                return item.energy
        raise ChargeError(
            f"no reference energy for head {head!r}, charge {charge:+d}, cell {composition}; "
            "the model was not trained on this group."
        )
