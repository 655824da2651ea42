"""Curvature of a model's energy at one geometry: where a relaxation by another method begins."""

from __future__ import annotations

import numpy as np
from pydantic import Field, StrictInt, model_validator

from defect_mf_flows.errors import ChargeError, EngineError
from defect_mf_flows.schemas.base import Matrix, StoredDocument
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.frame import content_hash, structure_key


class Curvature(StoredDocument):
    """Second derivatives of a model's energy.

    Attributes
    ----------
    charge, spin
        Of the cell.
    head, model_hash
        Head of which model.
    geometry
        SHA-256 of cell, species and positions.
    matrix
        Shape (3 n_atoms, 3 n_atoms), eV/Angstrom^2; empty where it was not loaded.
    """

    charge: StrictInt
    spin: StrictInt | None = None
    head: str
    model_hash: str
    geometry: str
    matrix: Matrix = Field(default_factory=list)

    @model_validator(mode="after")
    def _square(self) -> Curvature:
        n = len(self.matrix)
        if any(len(row) != n for row in self.matrix) or not np.isfinite(self.matrix).all():
            raise ValueError(f"a curvature is a square matrix of finite numbers, {n} rows")
        return self

    @property
    def content_hash(self) -> str:
        """SHA-256 of geometry and matrix."""
        return content_hash([self.geometry, self.charge, self.matrix])

    def check(self, start: StartStructure) -> None:
        """Refuse a start that this curvature does not belong to.

        Parameters
        ----------
        start
            What is to be relaxed.

        Raises
        ------
        ChargeError
            If charge or spin differ.
        EngineError
            If the geometry differs, or the matrix was not loaded.
        """
        if (self.charge, self.spin) != (start.charge, start.spin):
            raise ChargeError(
                f"start {start.label}: its curvature is of charge {self.charge:+d} and spin "
                f"{self.spin}, the start of {start.charge:+d} and {start.spin}."
            )
        if self.geometry != geometry_hash(start):
            raise EngineError(f"start {start.label}: its curvature is of another geometry.")
        if len(self.matrix) != 3 * len(start.structure):
            raise EngineError(
                f"start {start.label}: its curvature has {len(self.matrix)} rows and not "
                f"{3 * len(start.structure)}; read the document with load=True."
            )


def geometry_hash(start: StartStructure) -> str:
    """SHA-256 of cell, species and positions of a start."""
    return content_hash(structure_key(start.structure))
