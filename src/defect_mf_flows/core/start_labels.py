"""Labels of start structures that one module writes and others read."""

from __future__ import annotations

import re

#: A minimum that an earlier round verified: its charge and its number among the candidates.
VERIFIED = re.compile(r"^Verified_([+-]\d+)_(\d+)$")


def verified_label(charge: int, number: int) -> str:
    """Label of a verified minimum as a start of the next search.

    Parameters
    ----------
    charge
        At which it was verified.
    number
        Among the candidates of that charge state.
    """
    return f"Verified_{charge:+d}_{number}"


def is_verified_at(label: str, charge: int) -> bool:
    """Whether a start was a minimum that an earlier round verified at a charge.

    Parameters
    ----------
    label
        Of the start.
    charge
        The charge.
    """
    found = VERIFIED.match(label)
    return found is not None and int(found[1]) == charge
