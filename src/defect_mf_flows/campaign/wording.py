"""Hints in error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(given: str, valid: Iterable[str], *, cutoff: float = 0.5) -> str | None:
    """Valid name nearest to a wrong one.

    Parameters
    ----------
    given
        What stands in the file.
    valid
        What could stand there.
    cutoff
        How alike they must be, from 0 (not at all) to 1 (equal).

    Returns
    -------
    str or None
        None if no valid name is alike.
    """
    return next(iter(difflib.get_close_matches(given, list(valid), n=1, cutoff=cutoff)), None)


def did_you_mean(given: str, valid: Iterable[str]) -> str:
    """Hint at the valid name nearest to a wrong one, to follow the complaint, or nothing."""
    near = nearest(given, valid)
    return f"; did you mean {near!r}?" if near else ""
