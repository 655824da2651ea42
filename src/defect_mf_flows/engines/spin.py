"""Unpaired electrons: parity decides what is possible."""

from __future__ import annotations

from pymatgen.core import Structure

from defect_mf_flows.core.charge import charge_of
from defect_mf_flows.errors import ChargeError


def low_spin(structure: Structure) -> int:
    """Fewest unpaired electrons of a cell: 0 or 1.

    Closed cores hold an even number of electrons, so that all electrons and the valence
    electrons have the same parity and no POTCAR is needed.

    Parameters
    ----------
    structure
        With its charge attached.

    Returns
    -------
    int
        1 if the number of electrons is odd.
    """
    return (sum(site.specie.Z for site in structure) - charge_of(structure)) % 2


def unpaired_of(structure: Structure, spin: int | None, policy: str, *, where: str) -> int | None:
    """Unpaired electrons that a cell is computed with.

    Parameters
    ----------
    structure
        With its charge attached.
    spin
        As the campaign says for the defect; goes before the policy.
    policy
        ``low``, ``none`` or ``free``.
    where
        For the message.

    Returns
    -------
    int or None
        None lets the program find the moment.

    Raises
    ------
    ChargeError
        If the cell cannot have that many.
    """
    if spin is None and policy == "free":
        return None
    unpaired = spin
    if unpaired is None:
        unpaired = low_spin(structure) if policy == "low" else 0
    check_parity(structure, unpaired, where=where)
    return unpaired


def check_parity(structure: Structure, unpaired: int, *, where: str) -> None:
    """Refuse a number of unpaired electrons that the cell cannot have.

    Raises
    ------
    ChargeError
        If electrons and unpaired electrons differ in parity.
    """
    if unpaired < 0 or unpaired % 2 != low_spin(structure):
        count = "an odd" if low_spin(structure) else "an even"
        raise ChargeError(
            f"{where}: {unpaired} unpaired electrons in a cell with {count} number of electrons; "
            "correct defects.spin or the charge (spin: none works for even numbers only)."
        )
