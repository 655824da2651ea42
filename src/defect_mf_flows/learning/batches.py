"""Frames to MACE batches, with charge and head checked on the other side, and their order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from defect_mf_flows.core.charge import (
    ENERGY,
    FORCES,
    MACE_INFO_KEYS,
    atoms_charge,
    atoms_spin,
    whole_charge,
)
from defect_mf_flows.errors import ChargeError, DatasetError, FidelityError

if TYPE_CHECKING:
    from ase import Atoms


def to_atomic_data(
    atoms: Atoms,
    *,
    head: str,
    heads: list[str],
    atomic_numbers: list[int],
    cutoff: float,
    weight: float = 1.0,
    spin: bool = False,
) -> Any:
    """Convert atoms to mace's ``AtomicData`` for one head.

    Parameters
    ----------
    atoms
        Atoms with charge; labels are optional.
    head, heads
        The head to compute and all heads of the model, in order.
    atomic_numbers
        Elements the model knows.
    cutoff
        Angstrom.
    weight
        Weight of the frame in the loss.
    spin
        True for a network that learns the spin: atoms without one are refused.

    Returns
    -------
    mace.data.AtomicData
        Whose ``total_charge``, ``head`` and spin were compared with what went in.

    Raises
    ------
    ChargeError
        If the charge, or the spin of a network that learns it, did not arrive.
    FidelityError
        If the head is unknown or did not arrive. mace itself would fall back to the last
        head, and evaluate a frame without a charge as neutral.
    DatasetError
        If forces that are not there would weigh in the loss, or the other way round.
    """
    import mace  # noqa: F401
    from mace import data
    from mace.tools import AtomicNumberTable

    if head not in heads:
        raise FidelityError(f"unknown head {head!r}; the model has {heads}.")
    charge = atoms_charge(atoms)
    keys = data.KeySpecification(
        info_keys={"energy": ENERGY, **MACE_INFO_KEYS},
        arrays_keys={"forces": FORCES},
    )
    configuration = data.config_from_atoms(atoms, key_specification=keys, head_name=head)
    configuration.weight = weight
    item: Any = data.AtomicData.from_config(
        configuration, z_table=AtomicNumberTable(atomic_numbers), cutoff=cutoff, heads=heads
    )
    arrived = item.total_charge
    if arrived is None or whole_charge(float(arrived), where="batch") != charge:
        raise ChargeError(f"charge {charge:+d} reached the batch as {arrived}.")
    if spin:
        electrons = atoms_spin(atoms)
        if item.total_spin is None or float(item.total_spin) != electrons:
            raise ChargeError(f"spin {electrons} reached the batch as {item.total_spin}.")
    if bool(item.forces_weight) != (FORCES in atoms.arrays):
        # mace puts zeros where there are no forces; a weight would make labels of them.
        raise DatasetError(f"forces reached the batch with weight {float(item.forces_weight)}.")
    if int(item.head) != heads.index(head):
        raise FidelityError(f"head {head!r} reached the batch as number {int(item.head)}.")
    return item


def collate(items: list[Any]) -> Any:
    """Join atomic data into one batch.

    Parameters
    ----------
    items
        From ``to_atomic_data``.

    Returns
    -------
    Batch
        mace's batch; ``total_charge`` and ``head`` have one entry per structure.
    """
    from mace.tools.torch_geometric import Batch

    return Batch.from_data_list(items)


def epoch_order(
    generator: np.random.Generator, *, of_high: Sequence[bool], share: float | None
) -> np.ndarray:
    """Order of the training labels in one epoch.

    Parameters
    ----------
    generator
        Seeded by the epoch.
    of_high
        Per label, whether it is of the highest fidelity.
    share
        Least share of labels of that fidelity, or None for every label once.

    Returns
    -------
    ndarray of int
        As many indices as there are labels. Where the highest fidelity has fewer than its
        share, each of its labels comes equally often but for one, and others that found no
        room are left out.
    """
    high = np.flatnonzero(of_high)
    low = np.setdiff1d(np.arange(len(of_high)), high)
    wanted = 0 if share is None else round(share * len(of_high))
    if not len(high) or not len(low) or len(high) >= wanted:
        return generator.permutation(len(of_high))
    rounds = [generator.permutation(high) for _ in range(math.ceil(wanted / len(high)))]
    repeated = np.concatenate(rounds)[:wanted]
    others = generator.permutation(low)[: len(of_high) - wanted]
    return generator.permutation(np.concatenate([repeated, others]))
