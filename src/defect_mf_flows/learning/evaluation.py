"""Errors of a model per head, charge and split, per cell as well as per atom."""

from __future__ import annotations

from collections import defaultdict

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

    Notes
    -----
    Evaluation is our own because mace's command evaluates every frame as neutral.
    """
    errors: dict[tuple[str, int, str], list[tuple[float, int, np.ndarray]]] = defaultdict(list)
    parity: list[ParityPoint] = []
    for head in model.heads:
        potential = Potential(model, head=head)
        chosen = [
            (frame, entry.split.value)
            for frame, entry in zip(frames, dataset.entries, strict=True)
            if frame.fidelity == head and _known(model, frame)
        ]
        outputs = potential.predict([with_spin(f.structure, f.spin) for f, _ in chosen])
        for (frame, split), (energy, forces) in zip(chosen, outputs, strict=True):
            difference = forces - np.asarray(frame.forces)
            errors[head, frame.charge, split].append(
                (energy - frame.energy, len(frame.structure), difference.ravel())
            )
            offset = potential.offset(frame.charge, with_spin(frame.structure, frame.spin))
            parity.append(
                ParityPoint(
                    head=head,
                    charge=frame.charge,
                    split=split,
                    energy=frame.energy - offset,
                    energy_model=energy - offset,
                    force_rmse=float(1000 * np.sqrt(np.mean(difference**2))),
                )
            )
    return [_metrics(key, items) for key, items in sorted(errors.items())], parity


def _known(model: Model, frame: Frame) -> bool:
    """True if the model was trained on the frame's head, charge and composition."""
    try:
        model.check(head=frame.fidelity, charge=frame.charge)
        model.check_spin(head=frame.fidelity, charge=frame.charge, spin=frame.spin)
        model.reference(
            head=frame.fidelity,
            charge=frame.charge,
            composition=composition_key(frame.structure),
        )
    except ChargeError:
        return False
    return True


def _metrics(key: tuple[str, int, str], items: list[tuple[float, int, np.ndarray]]) -> HeadMetrics:
    energies = np.array([energy for energy, _, _ in items])
    per_atom = energies / np.array([n for _, n, _ in items])
    forces = np.concatenate([force for _, _, force in items])
    return HeadMetrics(
        head=key[0],
        charge=key[1],
        split=key[2],
        n_frames=len(items),
        energy_rmse_cell=_rms(energies),
        energy_mae_cell=float(1000 * np.abs(energies).mean()),
        energy_rmse_atom=_rms(per_atom),
        relative_energy_rmse_cell=_rms(energies - energies.mean()),
        force_rmse=_rms(forces),
        force_mae=float(1000 * np.abs(forces).mean()),
    )


def _rms(values: np.ndarray) -> float:
    """Root mean square in milli-units."""
    return float(1000 * np.sqrt(np.mean(np.square(values))))
