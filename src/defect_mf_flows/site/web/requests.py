"""What a request may ask of the database: FireWorks passes queries and paths on unchecked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fireworks import Firework
from fireworks.features.fw_report import DATE_KEYS

# Those that compare and combine. $where, $expr ($function) and $jsonSchema run code or scan.
OPERATORS = {
    *("$and", "$or", "$nor", "$not", "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin"),
    *("$exists", "$type", "$all", "$elemMatch", "$size", "$mod", "$regex", "$options"),
}
LONGEST_QUERY = 2000
LARGEST_ID = 2**63 - 1
LARGEST_PAGE = 10**6
MOST_INTERVALS = 1000
SORTABLE = {"_id", "fw_id", "name", "state", "created_on", "updated_on"}
COLLECTIONS = {"fireworks", "workflows", "launches"}


def query_fault(text: str) -> str | None:
    """Say what is wrong with a query, if it must not reach the database.

    Parameters
    ----------
    text
        JSON that a user wrote; what is no JSON is harmless, and FireWorks says so itself.

    Returns
    -------
    str or None
        The reason to refuse it.
    """
    if len(text) > LONGEST_QUERY:
        return f"A query may have {LONGEST_QUERY} characters; this one has {len(text)}."
    try:
        content = json.loads(text)
    except RecursionError:
        return "The query is nested too deeply."
    except ValueError:
        return None
    refused = sorted({key for key in _keys(content) if key[:1] == "$"} - OPERATORS)
    if refused:
        return f"Refused: {', '.join(refused)}. A query may use {', '.join(sorted(OPERATORS))}."
    return None


def path_is_valid(values: Mapping[str, Any], page: str) -> bool:
    """Whether the variable parts of an address name something that can exist.

    Parameters
    ----------
    values
        Variable parts of the address, by FireWorks' names.
    page
        Page number of a list, as the address has it.
    """
    checks = {
        "fw_id": lambda v: 0 <= v <= LARGEST_ID,
        "wf_id": lambda v: 0 <= v <= LARGEST_ID,
        "state": lambda v: v == "total" or v in Firework.STATE_RANKS,
        "sorting_key": lambda v: v in SORTABLE,
        "sorting_order": lambda v: v in {"ASCENDING", "DESCENDING"},
        "coll": lambda v: v in COLLECTIONS,
        "interval": lambda v: v in DATE_KEYS,
        "num_intervals": lambda v: _within(str(v), MOST_INTERVALS),
        "key": lambda v: "$" not in v and "\0" not in v,
    }
    return _within(page, LARGEST_PAGE) and all(
        check(values[name]) for name, check in checks.items() if name in values
    )


def _within(text: str, largest: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= largest


def _keys(content: Any) -> Iterator[str]:
    waiting = [content]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield from item
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
