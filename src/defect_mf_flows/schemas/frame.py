"""The frame: one labelled geometry. Without a charge and a fidelity it does not exist."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

import numpy as np
from pydantic import Field, StrictInt, model_validator
from pymatgen.core import Structure

from defect_mf_flows.errors import ChargeError, DatasetError
from defect_mf_flows.schemas.base import Document, Matrix, PeriodicStructure
from defect_mf_flows.schemas.structures import symbols_of


class Lineage(Document):
    """Where a frame comes from.

    Attributes
    ----------
    defect
        Defect name as doped gives it (``"v_Zn"``), or None for the pristine host.
    charge
        Charge state of the calculation, in elementary charges.
    start
        Label of the start structure.
    calculation
        uuid of the calculation job.
    step
        Ionic step within that calculation, from 0.
    """

    defect: str | None
    charge: StrictInt
    start: str
    calculation: str
    step: int = Field(ge=0)


class Frame(Document):
    """One geometry with its labels at one fidelity.

    Attributes
    ----------
    structure
        Periodic cell; its own charge equals ``charge``.
    charge
        Total charge of the cell, in elementary charges.
    spin
        Number of unpaired electrons, or None where the engine chose.
    fidelity
        Name of the fidelity (method and settings) of the labels.
    energy
        Total energy, eV per cell.
    forces
        Shape (n_atoms, 3), eV/Angstrom; None where the method has none, which must be said:
        then the energy alone is learned and compared.
    stress
        Shape (3, 3), eV/Angstrom^3, or None.
    lineage
        Calculation and step that made the frame.
    content_hash
        SHA-256 of everything above but the lineage; checked whenever a frame is read.

    Raises
    ------
    ChargeError
        If structure, frame and lineage do not agree on the charge.
    DatasetError
        If labels are not finite, have the wrong shape, or the hash does not fit.
    """

    structure: PeriodicStructure
    charge: StrictInt
    spin: StrictInt | None = None
    fidelity: str = Field(min_length=1)
    energy: float
    forces: Matrix | None
    stress: Matrix | None = None
    lineage: Lineage
    content_hash: str = ""

    @model_validator(mode="before")
    @classmethod
    def _fill_hash(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("content_hash"):
            structure = values["structure"]
            if isinstance(structure, dict):
                structure = Structure.from_dict(structure)
            values = {**values, "structure": structure}
            values["content_hash"] = frame_hash(
                structure, **{k: values.get(k) for k in _HASHED_FIELDS}
            )
        return values

    @model_validator(mode="after")
    def _check(self) -> Frame:
        where = f"frame {self.lineage.start} step {self.lineage.step}"
        if self.structure._charge != self.charge or self.lineage.charge != self.charge:
            raise ChargeError(
                f"{where}: structure charge {self.structure._charge}, lineage charge "
                f"{self.lineage.charge} and frame charge {self.charge} differ; "
                "attach the charge with core.charge.with_charge."
            )
        if self.forces is not None and np.shape(self.forces) != (len(self.structure), 3):
            raise DatasetError(f"{where}: forces must have shape ({len(self.structure)}, 3).")
        if self.stress is not None and np.shape(self.stress) != (3, 3):
            raise DatasetError(f"{where}: stress must have shape (3, 3).")
        labels = [label for label in (self.forces, self.stress) if label is not None]
        if not (math.isfinite(self.energy) and all(np.isfinite(item).all() for item in labels)):
            raise DatasetError(f"{where}: energy, forces or stress not finite; drop the frame.")
        expected = frame_hash(self.structure, **{k: getattr(self, k) for k in _HASHED_FIELDS})
        if expected != self.content_hash:
            raise DatasetError(f"{where}: content does not match its SHA-256; it was altered.")
        return self


_HASHED_FIELDS = ("charge", "spin", "fidelity", "energy", "forces", "stress")


def structure_key(structure: Structure) -> dict[str, Any]:
    """Reduce a structure to what identifies its geometry, for hashing.

    Parameters
    ----------
    structure
        Any periodic structure; oxidation states and properties are left out.

    Returns
    -------
    dict
        Symbols, cell (Angstrom) and fractional coordinates rounded to 1e-9.
    """
    return {
        "species": symbols_of(structure),
        "cell": (np.round(structure.lattice.matrix, 9) + 0.0).tolist(),
        "frac": (np.round(structure.frac_coords, 9) + 0.0).tolist(),
    }


def content_hash(content: Any) -> str:
    """SHA-256 of any JSON-serialisable content, independent of key order."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def frame_hash(structure: Structure, **labels: Any) -> str:
    """SHA-256 of a frame's content.

    Parameters
    ----------
    structure
        Geometry.
    **labels
        charge, spin, fidelity, energy, forces, stress.

    Returns
    -------
    str
        Hexadecimal digest.
    """
    plain = {
        key: np.asarray(value, dtype=float).tolist() if key in ("forces", "stress") else value
        for key, value in labels.items()
        if value is not None
    }
    return content_hash({"structure": structure_key(structure), **plain})
