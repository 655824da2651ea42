"""Replay: labels of the foundation's own method, trained along on a head of their own.

The head exists only while training. It keeps the network near what it knew, and must not be
mistaken for a fidelity of the dataset: it is last in the network, does not choose the best
epoch, and is taken off before the network is saved.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms

from defect_mf_flows.core.charge import (
    CHARGE,
    ENERGY,
    FIDELITY,
    FORCES,
    TOTAL_CHARGE,
    WEIGHT,
    whole_charge,
)
from defect_mf_flows.errors import ChargeError, DatasetError, FidelityError, TrainingError
from defect_mf_flows.learning.foundation import REPLAY, file_hash

__all__ = ["REPLAY", "read_replay", "without_replay"]

#: One frame in this many validates.
HELD_OUT = 10


def read_replay(settings: dict[str, Any], heads: list[str]) -> list[Atoms]:
    """Read the frames to replay.

    Parameters
    ----------
    settings
        ``campaign.TrainingSettings`` as a dictionary.
    heads
        Of the dataset.

    Returns
    -------
    list of Atoms
        Neutral, with total energies (eV per cell), a weight and their side; empty without
        replay.

    Raises
    ------
    ChargeError
        If a frame is charged, or carries no charge and the settings do not say it is neutral.
    DatasetError
        If the file is missing, changed, or lacks labels.
    FidelityError
        If the dataset has a head of that name.
    """
    if settings["replay"] is None:
        return []
    if REPLAY in heads:
        raise FidelityError(
            f"a fidelity is named {REPLAY!r}, which training.replay needs for its own head; "
            "rename the fidelity."
        )
    path = Path(settings["replay"]).expanduser()
    where = f"training.replay: {path}"
    if not path.is_file():
        raise DatasetError(f"{where} does not exist on this machine; give an extended XYZ file.")
    if settings["replay_hash"] not in (None, file_hash(path)):
        raise DatasetError(f"{where} is not the file that the settings were read with; restore it.")
    try:
        images = ase.io.read(path, index=":", format="extxyz")
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise DatasetError(f"{where} is not readable as extended XYZ: {error}") from None
    if len(images) < 2:
        raise DatasetError(f"{where} holds fewer than two frames; give more, or remove replay.")
    frames = [_frame(f"{where}, frame {k}", k, a, settings) for k, a in enumerate(images)]
    if len(frames) < HELD_OUT:
        frames[-1].info["split"] = "valid"
    return frames


def _frame(where: str, number: int, atoms: Atoms, settings: dict[str, Any]) -> Atoms:
    given = atoms.info.get(CHARGE, atoms.info.get(TOTAL_CHARGE, settings["replay_charge"]))
    if given is None:
        raise ChargeError(
            f"{where} carries no charge; set info['{CHARGE}'] = 0, or training.replay_charge: 0 "
            "if all frames are neutral."
        )
    if whole_charge(given, where=where) != 0:
        raise ChargeError(
            f"{where} has charge {given}; foundation models know neutral cells only: leave it out."
        )
    if ENERGY not in atoms.info or FORCES not in atoms.arrays:
        raise DatasetError(
            f"{where} lacks info['{ENERGY}'] (eV per cell) or arrays['{FORCES}'] (eV/A)."
        )
    bare = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    bare.arrays[FORCES] = np.asarray(atoms.arrays[FORCES], dtype=float)
    bare.info = {
        ENERGY: float(atoms.info[ENERGY]),
        CHARGE: 0,
        TOTAL_CHARGE: 0,
        FIDELITY: REPLAY,
        WEIGHT: 1.0,
        "split": "valid" if number % HELD_OUT == HELD_OUT - 1 else "train",
    }
    return bare


def without_replay(network: Any, target: Any, batches: list[Any]) -> Any:
    """Take the replay head off a trained network.

    Parameters
    ----------
    network
        With the replay head last.
    target
        An untrained network of the same kind without it; takes the weights.
    batches
        mace's batches on the other heads, on which both are compared.

    Returns
    -------
    torch.nn.Module
        The target.

    Raises
    ------
    TrainingError
        If energies or forces changed.
    """
    many, few = len(network.heads), len(target.heads)
    old, new = network.state_dict(), target.state_dict()
    for name, tensor in new.items():
        if old[name].shape == tensor.shape:
            new[name] = old[name]
        elif not name.endswith("output_mask"):
            new[name] = _sliced(network, name, old[name], many, few).reshape(tensor.shape)
    target.load_state_dict(new)
    target = target.to(next(network.parameters()).device)
    for batch in batches:
        one, other = (n(batch.clone().to_dict(), compute_force=True) for n in (network, target))
        scale = max(1.0, float(one["energy"].detach().abs().max()))
        energy = float((one["energy"] - other["energy"]).detach().abs().max()) / scale
        force = float((one["forces"] - other["forces"]).detach().abs().max())
        if max(energy, force) > 1e-3:
            raise TrainingError(
                f"taking the replay head off changes forces by {force:.1e} eV/A; this readout "
                "cannot be taken apart: train without training.replay."
            )
    return target


def _sliced(network: Any, name: str, weights: Any, many: int, few: int) -> Any:
    """Weights of the first heads. e3nn divides by the root of the number of inputs."""
    norm = (few / many) ** 0.5
    end = ".".join(name.split(".")[-2:])
    if end == "linear.weight":
        return weights.reshape(-1, many)[:, :few]
    if end in ("linear_1.weight", "linear_mid.weight"):
        readout = network.readouts[int(name.split(".")[1])]
        width = readout.hidden_irreps.num_irreps // many
        if end == "linear_1.weight":
            return weights.reshape(-1, many, width)[:, :few]
        return weights.reshape(many, width, many, width)[:few, :, :few] * norm
    if end == "linear_2.weight":
        return weights.reshape(many, -1, many)[:few, :, :few] * norm
    if end in ("linear_1.bias", "linear_mid.bias"):
        return weights.reshape(many, -1)[:few]
    return weights[:few]  # constants and biases, one per head
