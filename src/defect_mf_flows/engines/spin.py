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
