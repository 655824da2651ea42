"""What all documents share."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, model_validator
from pymatgen.core import Structure

from defect_mf_flows.errors import VersionError

SCHEMA_VERSION = 1


def check_version(content: Any, kind: str) -> None:
    """Refuse stored content of a newer layout than this package knows.

    Parameters
    ----------
    content
        A stored document, or its top level; one without a version is of version 1.
    kind
        Class of the document, for the message.

    Raises
    ------
    VersionError
        If it is newer: fields that mean something else would be misread.
    """
    version = content.get("schema_version", 1)
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise VersionError(
            f"{kind}: schema_version is {version!r} and this package reads up to "
            f"{SCHEMA_VERSION}; install the version of defect-mf-flows that wrote it, or a newer."
        )


class Document(BaseModel):
    """A frozen pydantic document that refuses unknown fields.

    Attributes
    ----------
    schema_version
        Version of the document's layout, for readers of old databases.

    Raises
    ------
    VersionError
        If the content has a newer layout than this package knows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    schema_version: int = SCHEMA_VERSION

    @model_validator(mode="before")
    @classmethod
    def _not_newer(cls, values: Any) -> Any:
        if isinstance(values, dict):
            check_version(values, cls.__name__)
        return values


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
