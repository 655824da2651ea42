"""A worker's file, checked: its name ends up in queries, its categories decide what it takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fireworks import FWorker

from defect_mf_flows.errors import SiteError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def checked_fworker(path: Path, content: dict[str, Any]) -> FWorker:
    """Build a worker from the content of its file.

    Parameters
    ----------
    path
        The file, for messages.
    content
        What it holds.

    Returns
    -------
    FWorker
        With its categories.

    Raises
    ------
    SiteError
        If the name or a category is no plain word, or the query no JSON mapping.
    """
    unknown = sorted(set(content) - {"name", "category", "query", "env"})
    if unknown:
        raise SiteError(f"{path}: unknown keys {unknown}; known are name, category, query, env.")
    if "category" not in content:
        raise SiteError(
            f"{path}: category is missing, and without one the worker would take every job; "
            "write category: dft, or [train, search], or '' if it really may take all."
        )
    category = content["category"]
    categories = category if isinstance(category, list) else [category]
    if categories != [""]:
        for value in categories:
            _check_word(path, "category", value)
    _check_word(path, "name", content.get("name"))
    query = content.get("query") or "{}"
    env = content.get("env") or {}
    try:
        fworker = FWorker.from_dict({**content, "query": query, "env": env})
    except (TypeError, ValueError) as error:
        raise SiteError(f"{path}: query: {error}; write a JSON mapping, '{{}}' for all.") from None
    if not isinstance(fworker._query, dict) or not isinstance(env, dict):
        raise SiteError(f"{path}: query must be a JSON mapping and env a mapping.")
    return fworker


def _check_word(path: Path, field: str, value: Any) -> None:
    if not isinstance(value, str) or NAME.fullmatch(value) is None:
        raise SiteError(
            f"{path}: {field}: {value!r} is no name; write letters, digits, '_', '-' and '.'."
        )
