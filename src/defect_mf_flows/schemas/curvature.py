"""Curvature of a model's energy at one geometry: where a relaxation by another method begins."""

from __future__ import annotations

import base64
import binascii

import numpy as np
from pydantic import Field, StrictInt, model_validator

from defect_mf_flows.errors import ChargeError, EngineError
from defect_mf_flows.schemas.base import StoredDocument
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.frame import content_hash, structure_key

#: How a number is written.
_NUMBER = np.dtype("<f4")


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
    n_atoms
        Of the cell.
    triangle
        Lower triangle of the matrix, row by row in single precision, eV/Angstrom^2, as base64: as
        numbers, those of a large cell would take longer to read than to compute. Kept in the
        additional store ``data``; empty where it was not loaded.

    Raises
    ------
    EngineError
        If the triangle is not one of finite numbers of this size.
    """

    charge: StrictInt
    spin: StrictInt | None = None
    head: str
    model_hash: str
    geometry: str
    n_atoms: StrictInt = Field(ge=1)
    triangle: str = ""

    @model_validator(mode="after")
    def _check_triangle(self) -> Curvature:
        if self.triangle:
            self.matrix()
        return self

    @property
    def content_hash(self) -> str:
        """SHA-256 of what decides on the steps."""
        return content_hash([self.geometry, self.charge, self.spin, self.triangle])

    def matrix(self) -> np.ndarray:
        """Second derivatives, shape (3 n_atoms, 3 n_atoms), eV/Angstrom^2.

        Raises
        ------
        EngineError
            If they were not loaded, or are not what was written.
        """
        rows = 3 * self.n_atoms
        try:
            numbers = np.frombuffer(base64.b64decode(self.triangle, validate=True), _NUMBER)
        except (ValueError, binascii.Error):
            numbers = np.empty(0, _NUMBER)
        if numbers.size != rows * (rows + 1) // 2 or not np.isfinite(numbers).all():
            raise EngineError(
                f"curvature of job {self.job_uuid}: no triangle of {rows} rows of finite numbers; "
                "it was altered, or read without load=True."
            )
        matrix = np.zeros((rows, rows))
        matrix[np.tril_indices(rows)] = numbers
        return np.asarray(matrix + np.tril(matrix, -1).T)

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
            If the geometry differs.
        """
        if (self.charge, self.spin) != (start.charge, start.spin):
            raise ChargeError(
                f"start {start.label}: its curvature is of charge {self.charge:+d} and spin "
                f"{self.spin}, the start of {start.charge:+d} and {start.spin}."
            )
        if self.geometry != geometry_hash(start):
            raise EngineError(f"start {start.label}: its curvature is of another geometry.")


def triangle_of(matrix: np.ndarray) -> str:
    """Write a symmetric matrix as ``Curvature.triangle`` holds it."""
    lower = np.asarray(matrix)[np.tril_indices(len(matrix))]
    return base64.b64encode(lower.astype(_NUMBER).tobytes()).decode()


def geometry_hash(start: StartStructure) -> str:
    """SHA-256 of cell, species and positions of a start."""
    return content_hash(structure_key(start.structure))
