"""Trained models and their errors."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, StrictInt

from defect_mf_flows.errors import ChargeError, FidelityError
from defect_mf_flows.schemas.base import Document, StoredDocument
from defect_mf_flows.schemas.dataset import HostLabels, ReferenceEnergy
from defect_mf_flows.schemas.familiarity import Familiarity


class HeadMetrics(Document):
    """Errors of one head for one charge on one side of the split.

    Attributes
    ----------
    head, charge, split
        What was evaluated.
    n_frames
        Number of frames.
    energy_rmse_cell, energy_mae_cell
        meV per cell: the figure that transition levels feel. Without frames whose own error is
        all the mean that was taken out (see ``fitted_constant``); None if there are no others.
    fitted_constant
        True where the model has no reference energy for the cell (a defect or composition
        that did not train): the mean error was taken out first.
    energy_rmse_atom
        meV per atom: the figure that papers quote; None as that per cell.
    relative_energy_rmse_cell
        meV per cell after the mean error is removed: error of energy ORDERINGS. None for a single
        frame, which has no order.
    force_rmse, force_mae
        meV/Angstrom per component, over the frames that have forces; None if none has.
    n_without_forces
        How many of the frames are labels of a method without forces.
    """

    head: str
    charge: StrictInt
    split: str
    n_frames: int
    energy_rmse_cell: float | None
    energy_mae_cell: float | None
    energy_rmse_atom: float | None
    relative_energy_rmse_cell: float | None
    force_rmse: float | None
    force_mae: float | None
    n_without_forces: int = 0
    fitted_constant: bool = False


class ParityPoint(Document):
    """Reference against model for one frame, for parity plots.

    Attributes
    ----------
    head, charge, split
        What was evaluated.
    energy, energy_model
        eV per cell, relative to the group's reference energy.
    force_rmse
        meV/Angstrom over the frame's components, or None where the label has no forces.
    """

    head: str
    charge: StrictInt
    split: str
    energy: float
    energy_model: float
    force_rmse: float | None


class EpochRecord(Document):
    """Validation losses after an epoch.

    Attributes
    ----------
    epoch
        From 0.
    train_loss
        Mean training loss over the epoch's batches; polished: over all labels, of the loss that
        polishing makes small, which is another.
    valid
        Per head: frames, energy RMSE (meV/atom), force RMSE (meV/Angstrom) and, as of
        ``learning.losses.cell_errors``, weighted squared error per cell (eV^2/Angstrom^2).
    learning_rate
        Learning rate used; that of L-BFGS is 1.
    polished
        Whether the epoch was an iteration of L-BFGS over all labels.
    """

    epoch: int
    train_loss: float
    valid: dict[str, dict[str, float]]
    learning_rate: float
    polished: bool = False


class Calibration(Document):
    """How far the spread of a committee can be believed, for energies within one charge.

    Attributes
    ----------
    head
        Head whose energies were compared, each relative to the lowest training label of its
        charge and composition.
    scale
        Factor that makes a standard deviation of the members' spread, fitted on the
        validation side.
    n
        Labels per side.
    rmse
        Error of the first member's relative energies per side, meV per cell.
    coverage
        Side -> nominal share (``"0.68"``, ``"0.95"``) -> share of the errors within the
        interval that the scaled spread gives. The validation side was fitted; believe the
        test side.
    absolute_scale, absolute_coverage
        The same for energies as they are, which differences between charges, such as levels,
        are made of; None and empty in documents older than this.
    """

    head: str
    scale: float = Field(gt=0)
    n: dict[str, int]
    rmse: dict[str, float]
    coverage: dict[str, dict[str, float]]
    absolute_scale: float | None = Field(None, gt=0)
    absolute_coverage: dict[str, dict[str, float]] = Field(default_factory=dict)


class Projection(Document):
    """Descriptors on the plane of their first two principal components.

    Attributes
    ----------
    points
        One per frame, in units of the largest coordinate.
    explained
        Share of the variance along either axis.
    separation
        Silhouette coefficient of the charges in all dimensions, from -1 to 1: 1 if every
        charge is a cluster of its own, about 0 if they overlap; None for a single charge.
    """

    points: list[tuple[float, float]]
    explained: tuple[float, float]
    separation: float | None


class DescriptorMap(Document):
    """Mean descriptors of one defect's frames, less the pristine host's, on a plane.

    Attributes
    ----------
    defect
        Which defect.
    charges, splits, starts
        Per frame: charge, side of the split, start structure of its relaxation.
    n_frames
        Frames before they were thinned.
    held_charge
        The charge that every frame was given in ``without_charge``.
    with_charge, without_charge
        The network told the frame's own charge, and told one charge for all.
    """

    defect: str
    charges: list[StrictInt]
    splits: list[str]
    starts: list[str]
    n_frames: int
    held_charge: StrictInt
    with_charge: Projection
    without_charge: Projection


class FoundationRecord(Document):
    """The foundation model that a training started from.

    Attributes
    ----------
    name
        As given: a path, or a name that mace knows.
    file
        Where it was read.
    sha256
        Of the file.
    head
        Head of several that was taken; None for the only one.
    """

    name: str
    file: str
    sha256: str
    head: str | None = None


class Member(StoredDocument):
    """A trained multi-head, charge-aware potential, alone or of a committee.

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
    host
        The pristine host, from which reference energies extend to other cell sizes.
    spins
        Unpaired electrons that the training set contains per ``"head|charge"``; empty for a
        model that does not learn the spin.
    shortest
        Shortest distance per pair of elements in the training set, Angstrom; closer contacts
        are extrapolation.
    lowest
        Lowest label per ``"head|charge|composition"``, held out or not, or of another head shifted
        by what the reference energies differ by, eV per cell.
    settings
        Hyperparameters.
    foundation
        The foundation model it started from; None for random weights.
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
    host: HostLabels | None = None
    spins: dict[str, list[StrictInt]] = Field(default_factory=dict)
    shortest: dict[str, float] = Field(default_factory=dict)
    lowest: dict[str, float] = Field(default_factory=dict)
    settings: dict[str, Any]
    foundation: FoundationRecord | None = None
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

    @property
    def learns_spin(self) -> bool:
        """True if the network takes the number of unpaired electrons."""
        return bool(self.settings.get("spin_embedding", False))

    def check_spin(self, *, head: str, charge: int, spin: int | None) -> None:
        """Refuse a spin that is missing or was not trained, if the model learns spins.

        Raises
        ------
        ChargeError
            Naming the spins that were trained.
        """
        if not self.learns_spin:
            return
        known = self.spins.get(f"{head}|{charge:+d}", [])
        if spin is None:
            raise ChargeError(
                f"the model learns the spin (trained on {known} unpaired electrons for charge "
                f"{charge:+d}), the structure carries none; attach it with with_spin()."
            )
        if spin not in known:
            raise ChargeError(
                f"head {head!r} was not trained on {spin} unpaired electrons at charge "
                f"{charge:+d}, only on {known}; add labels of this spin and train again."
            )

    def reference(self, *, head: str, charge: int, composition: str) -> float:
        """Energy (eV per cell) to add to the network's output for one group.

        A cell that was not trained gets the energy of the nearest trained one of the same
        head and charge, plus the host's energy for the formula units between them.

        Raises
        ------
        ChargeError
            If the group was not in the training set and no trained one differs from it by
            whole formula units of the host.
        """
        same = [r for r in self.references if (r.head, r.charge) == (head, charge)]
        for item in same:
            if item.composition == composition:
                return item.energy
        why = "the model knows no energy of the pristine host"
        if self.host is not None and head in self.host.energies:
            steps = [
                (abs(n), n, item)
                for item in same
                if (n := _formula_units(item.composition, composition, self.host.formula))
            ]
            if steps:
                _, n, nearest = min(steps, key=lambda step: step[0])
                return nearest.energy + n * self.host.energies[head]
            trained = sorted(item.composition for item in same)
            why = f"it differs from {trained} by more than formula units of {self.host.formula}"
        raise ChargeError(
            f"no reference energy for head {head!r}, charge {charge:+d}, cell {composition}; "
            f"the model was not trained on this group, and {why}. Add labels of this cell."
        )


class Model(Member):
    """A trained potential, with the other members of its committee.

    Attributes
    ----------
    members
        The other members of a committee, each a model of its own.
    calibration
        Of the committee's spread on the highest head; None without a committee or without
        labels to fit it on.
    descriptors
        Maps of the first member's descriptors; empty in documents older than this.
    descriptors_missing
        Why they could not be made; empty if they were, or not asked for.
    familiarity
        What the first member has seen; None unless ``search.trust`` asks for it (kept in the
        additional store ``data``).
    """

    members: list[Member] = Field(default_factory=list)
    calibration: Calibration | None = None
    descriptors: list[DescriptorMap] = Field(default_factory=list)
    descriptors_missing: str = ""
    familiarity: Familiarity | None = None


def _counts(composition: str) -> dict[str, int]:
    """Atoms per element of a composition key such as ``"S16 Zn15"``."""
    parts = (re.fullmatch(r"([A-Z][a-z]?)(\d+)", item) for item in composition.split())
    return {part[1]: int(part[2]) for part in parts if part}


def _formula_units(trained: str, wanted: str, formula: dict[str, int]) -> int:
    """Host formula units that lead from one cell to the other; 0 if none do."""
    one, other = _counts(trained), _counts(wanted)
    first = next(iter(formula))
    units = (other.get(first, 0) - one.get(first, 0)) // formula[first]
    reached = all(
        other.get(symbol, 0) - one.get(symbol, 0) == units * formula.get(symbol, 0)
        for symbol in {*one, *other, *formula}
    )
    return units if reached else 0
