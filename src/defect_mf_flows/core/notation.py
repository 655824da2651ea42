"""How charges are written, alike in every table, figure and name."""

from __future__ import annotations

#: For pages and figures; terminals and file names take a hyphen.
MINUS = "\N{MINUS SIGN}"


def charge_text(charge: int, *, minus: str = "-") -> str:
    """Write a charge as ``+1``, ``0`` or ``-1``.

    Parameters
    ----------
    charge
        The charge.
    minus
        The minus sign.

    Returns
    -------
    str
        With its sign, zero without.
    """
    return "0" if charge == 0 else f"{charge:+d}".replace("-", minus)
