"""What all documents share."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer
from pymatgen.core import Structure

SCHEMA_VERSION = 1


class Document(BaseModel):
    """A frozen pydantic document that refuses unknown fields.

    Attributes
    ----------
    schema_version
        Version of the document's layout, for readers of old databases.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    schema_version: int = SCHEMA_VERSION


class StoredDocument(Document):
    """A document that other jobs refer to by the uuid of the job that made it.

    Attributes
    ----------
    job_uuid
        uuid of that job. Jobs pass it on instead of the document, which may be too large
        for a workflow's own database entries.
    """

    job_uuid: str = ""


def _plain_rows(value: Any) -> Any:
    """Turn an array into nested lists so that pydantic can check it."""
    return np.asarray(value, dtype=float).tolist() if value is not None else None


Vector = Annotated[list[float], BeforeValidator(_plain_rows)]
Matrix = Annotated[list[list[float]], BeforeValidator(_plain_rows)]


def _structure_dict(structure: Structure) -> dict[str, Any]:
    return structure.as_dict()


#: A pymatgen structure that pydantic can also write as JSON.
PeriodicStructure = Annotated[
    Structure, PlainSerializer(_structure_dict, return_type=dict, when_used="json")
]
