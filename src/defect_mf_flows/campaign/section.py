"""What all sections of a campaign file share."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """A frozen part of the campaign file that refuses unknown keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )

    def as_dict(self) -> dict[str, Any]:
        """Serialise for monty, which turns a bare pydantic field of a Maker into text."""
        kind = type(self)
        return {
            "@module": kind.__module__,
            "@class": kind.__name__,
            **self.model_dump(mode="json"),
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Rebuild from ``as_dict``."""
        return cls(**{k: v for k, v in content.items() if not k.startswith("@")})
