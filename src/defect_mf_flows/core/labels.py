"""Where labelled atoms keep energy, forces and stress, and how they say that they have none."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms

from defect_mf_flows.errors import DatasetError

ENERGY = "REF_energy"
FORCES = "REF_forces"
STRESS = "REF_stress"
#: Says that the method has no forces: their absence alone may be an accident.
NO_FORCES = "no_forces"


def forces_of(atoms: Atoms, *, where: str) -> np.ndarray | None:
    """Forces of labelled atoms.

    Parameters
    ----------
    atoms
        With ``REF_forces``, or with ``no_forces`` in ``info``.
    where
        What carries them, for the message.

    Returns
    -------
    numpy.ndarray or None
        Shape (n_atoms, 3), eV/Angstrom; None where the method has none.

    Raises
    ------
    DatasetError
        If neither is there, or both.
    """
    found: Any = atoms.arrays.get(FORCES)
    said = bool(atoms.info.get(NO_FORCES, False))
    if found is None and not said:
        raise DatasetError(
            f"{where}: arrays['{FORCES}'] is missing; set it to the forces in eV/A (ase keeps "
            f"'forces' for results of its calculators), or set info['{NO_FORCES}'] to True if the "
            "method has none: then its energy alone is learned."
        )
    if found is not None and said:
        raise DatasetError(
            f"{where}: has {FORCES}, and info['{NO_FORCES}'] says that it has none; remove one."
        )
    return None if found is None else np.asarray(found, dtype=float)
