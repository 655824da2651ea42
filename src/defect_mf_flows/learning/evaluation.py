"""Errors of a model per head, charge and split, per cell as well as per atom."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import numpy as np

from defect_mf_flows.core.charge import with_spin
from defect_mf_flows.core.references import composition_key
from defect_mf_flows.errors import ChargeError
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.schemas.dataset import Dataset
from defect_mf_flows.schemas.frame import Frame
from defect_mf_flows.schemas.model import HeadMetrics, Model, ParityPoint


def evaluate(
    model: Model, frames: list[Frame], dataset: Dataset
) -> tuple[list[HeadMetrics], list[ParityPoint]]:
    """Compare model and labels on every side of the split.

    Parameters
    ----------
    model
        Trained model with its blob.
    frames
        One per entry of the dataset.
    dataset
        Heads and splits.

    Returns
    -------
    metrics
        Per (head, charge, split) that has frames.
    parity
        One point per frame, energies relative to the group's reference energy.
    """
    sides = [entry.split.value for entry in dataset.entries]
    return evaluate_frames(model, frames, sides)


def evaluate_frames(
    model: Model, frames: list[Frame], sides: list[str]
) -> tuple[list[HeadMetrics], list[ParityPoint]]:
    """Compare model and labels.

    Parameters
    ----------
    model
        Trained model with its blob.
    frames, sides
        Labels, and on which side, or from where, each is.

    Returns
    -------
    metrics
        Per (head, charge, side). Frames of a charge or spin that the head did not learn are
        left out; of a cell that it did not learn, and that the host does not lead to, the mean
        error is taken out, and ``fitted_constant`` says so.
    parity
        One point per frame, energies relative to the group's reference energy.

    Notes
    -----
    Evaluation is our own because mace's command evaluates every frame as neutral.
    """
    errors: dict[tuple[str, int, str], list[_Error]] = defaultdict(list)
    parity: list[ParityPoint] = []
    for head in model.heads:
        potential = Potential(model, head=head)
        chosen = [
            (frame, side)
            for frame, side in zip(frames, sides, strict=True)
            if frame.fidelity == head and learned(model, frame)
        ]
        outputs = potential.interaction([with_spin(f.structure, f.spin) for f, _ in chosen])
        energies = [energy for energy, _ in outputs]
        offsets = _offsets(model, [f for f, _ in chosen], energies)
        for (frame, side), (energy, forces), offset in zip(chosen, outputs, offsets, strict=True):
            # No forces are no error, not an error of zero.
            difference = np.empty(0) if frame.forces is None else forces - np.asarray(frame.forces)
            errors[head, frame.charge, side].append(
                _Error(
                    energy + offset.energy - frame.energy,
                    len(frame.structure),
                    difference.ravel(),
                    offset.fitted,
                    offset.alone,
                )
            )
            parity.append(
                ParityPoint(
                    head=head,
                    charge=frame.charge,
                    split=side,
                    energy=frame.energy - offset.energy,
                    energy_model=energy,
                    force_rmse=_rms(difference) if difference.size else None,
                )
            )
    return [_metrics(key, items) for key, items in sorted(errors.items())], parity


class _Error(NamedTuple):
    energy: float
    atoms: int
    forces: np.ndarray
    fitted: bool
    alone: bool


class _Offset(NamedTuple):
    """Reference energy; whether it was fitted, and to a single frame, which then has no error."""

    energy: float
    fitted: bool = False
    alone: bool = False


def learned(model: Model, frame: Frame) -> bool:
    """True if the model was trained on the frame's head, charge and spin.

    Parameters
    ----------
    model
        Trained model.
    frame
        Label.

    Raises
    ------
    FidelityError
        If the model has no head of the frame's fidelity.
    """
    try:
        model.check(head=frame.fidelity, charge=frame.charge)
        model.check_spin(head=frame.fidelity, charge=frame.charge, spin=frame.spin)
    except ChargeError:
        return False
    return True


def _offsets(model: Model, frames: list[Frame], energies: list[float]) -> list[_Offset]:
    """Reference energy of every frame; the mean difference where the model has none."""
    groups: dict[tuple[str, int, str], list[float]] = defaultdict(list)
    keys = [(f.fidelity, f.charge, composition_key(f.structure)) for f in frames]
    for key, frame, energy in zip(keys, frames, energies, strict=True):
        groups[key].append(frame.energy - energy)
    known: dict[tuple[str, int, str], _Offset] = {}
    for (head, charge, cell), differences in groups.items():
        try:
            reference = model.reference(head=head, charge=charge, composition=cell)
            known[head, charge, cell] = _Offset(reference)
        except ChargeError:
            alone = len(differences) == 1
            known[head, charge, cell] = _Offset(float(np.mean(differences)), True, alone)
    return [known[key] for key in keys]


def _metrics(key: tuple[str, int, str], items: list[_Error]) -> HeadMetrics:
    judged = [item for item in items if not item.alone]
    energies = np.array([item.energy for item in judged])
    per_atom = energies / np.array([item.atoms for item in judged])
    forces = np.concatenate([item.forces for item in items])
    return HeadMetrics(
        head=key[0],
        charge=key[1],
        split=key[2],
        n_frames=len(items),
        energy_rmse_cell=_rms(energies) if judged else None,
        energy_mae_cell=float(1000 * np.abs(energies).mean()) if judged else None,
        energy_rmse_atom=_rms(per_atom) if judged else None,
        relative_energy_rmse_cell=_rms(energies - energies.mean()) if len(judged) > 1 else None,
        force_rmse=_rms(forces) if forces.size else None,
        force_mae=float(1000 * np.abs(forces).mean()) if forces.size else None,
        n_without_forces=sum(not item.forces.size for item in items),
        fitted_constant=any(item.fitted for item in items),
    )


def _rms(values: np.ndarray) -> float:
    """Root mean square in milli-units."""
    return float(1000 * np.sqrt(np.mean(np.square(values))))
