"""What is wrong with a section of a campaign file, in words that name field and remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from defect_mf_flows.campaign.sections import Section, section_of
from defect_mf_flows.campaign.wording import did_you_mean
from defect_mf_flows.errors import CampaignError

S = TypeVar("S", bound=Section)


def faults(
    error: ValidationError, section: type[Section], *, refused: Mapping[str, str] | None = None
) -> list[tuple[str, str]]:
    """Every fault with its place.

    Parameters
    ----------
    error
        What pydantic found.
    section
        The section that was checked.
    refused
        Why keys that people may try are not keys.

    Returns
    -------
    list of tuple of str
        Dotted place within the section, empty for the section itself, and the fault.
    """
    found = []
    for item in error.errors():
        place = ".".join(str(part) for part in item["loc"])
        found.append((place, _fault(item, section, refused or {})))
    return found


def checked_settings(
    where: str,
    settings: Mapping[str, Any],
    section: type[S],
    *,
    refused: Mapping[str, str] | None = None,
) -> S:
    """Settings of an engine with defaults filled in.

    Parameters
    ----------
    where
        File and field, for the message.
    settings
        As they stand in the campaign file.
    section
        What they must be.
    refused
        Why keys that people may try are not keys.

    Raises
    ------
    CampaignError
        Every fault on a line, each with its place from ``where`` on.
    """
    try:
        return section.model_validate(settings)
    except ValidationError as error:
        found = faults(error, section, refused=refused)
    lines = [
        f"{where}.{place}: {fault}" if place else f"{where}: {fault}" for place, fault in found
    ]
    raise CampaignError("\n".join(lines))


def _fault(item: Any, section: type[Section], refused: Mapping[str, str]) -> str:
    if item["type"] == "extra_forbidden":
        key = str(item["loc"][-1])
        if key in refused:
            return f"{refused[key]}; leave it out."
        return f"unknown key{_nearest(item['loc'], section)}."
    message = item["msg"].removeprefix("Value error, ")
    given = "" if item["type"] in ("missing", "value_error") else f" (got {item['input']!r})"
    return f"{message}{given}."


def _nearest(location: tuple[int | str, ...], section: type[Section]) -> str:
    """Name the nearest valid key of the section in which an unknown one stands."""
    for part in location[:-1]:
        field = section.model_fields.get(str(part))
        section = (section_of(field.annotation) if field else None) or section
    fields = list(section.model_fields)
    return did_you_mean(str(location[-1]), fields) or f"; valid keys: {', '.join(fields)}"
