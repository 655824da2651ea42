"""What all documents share."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict

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


def _plain_rows(value: Any) -> Any:
    """Turn an array into nested lists so that pydantic can check it."""
    return np.asarray(value, dtype=float).tolist() if value is not None else None


Vector = Annotated[list[float], BeforeValidator(_plain_rows)]
Matrix = Annotated[list[list[float]], BeforeValidator(_plain_rows)]
