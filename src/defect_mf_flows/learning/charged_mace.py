"""A charged, multi-head MACE model in ASE, without defect-mf-flows.

``defect-mf train --export`` puts this file beside ``model.pt`` and ``rules.json``. It needs
ase and mace-torch alone, unless ``rules.json`` says under ``requires`` that the network's class
is one of defect-mf-flows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mace.calculators import MACECalculator

HERE = Path(__file__).resolve().parent


class ChargedMACE(MACECalculator):
    """MACECalculator that keeps the rules of charge, head and reference energy.

    Parameters
    ----------
    head
        Fidelity whose energies are wanted; one of ``rules["heads"]``.
    folder
        Where ``model.pt`` and ``rules.json`` lie.
    **options
        For MACECalculator, for example ``device="cuda"``.

    Raises
    ------
    ValueError
        If the head is unknown; in a calculation, if ``atoms.info["charge"]`` is missing or was
        not trained, or the cell has no reference energy. MACECalculator alone would take the
        last head, and a missing charge for 0.
    """

    def __init__(self, head: str, folder: str | Path = HERE, **options: Any) -> None:
        folder = Path(folder)
        self.rules = json.loads((folder / "rules.json").read_text())
        if head not in self.rules["heads"]:
            raise ValueError(f"no head {head!r}; choose one of {self.rules['heads']}")
        super().__init__(
            model_paths=[str(folder / "model.pt")],
            head=head,
            info_keys=self.rules["info_keys"],
            default_dtype=self.rules["dtype"],
            **{"device": "cpu", **options},
        )

    def calculate(self, atoms: Any = None, *arguments: Any, **options: Any) -> None:
        """Energy (eV per cell) and forces (eV/A) of the head."""
        reference = self.reference(atoms)
        super().calculate(atoms, *arguments, **options)
        for key in ("energy", "free_energy"):
            if key in self.results:
                self.results[key] = float(self.results[key]) + reference

    def reference(self, atoms: Any) -> float:
        """Energy (eV per cell) to add to the network's, after checking charge and spin."""
        charge = atoms.info.get("charge")
        known = self.rules["references"][self.head]
        if charge is None or f"{float(charge):+g}" not in known:
            raise ValueError(
                f"atoms.info['charge'] is {charge!r}; head {self.head!r} knows {sorted(known)}"
            )
        key = f"{float(charge):+g}"
        spins = self.rules["spins"].get(f"{self.head}|{key}")
        if spins is not None and atoms.info.get("spin") not in spins:
            raise ValueError(
                f"atoms.info['spin'] is {atoms.info.get('spin')!r}, not one of {spins}"
            )
        counts: dict[str, int] = {}
        for symbol in atoms.get_chemical_symbols():
            counts[symbol] = counts.get(symbol, 0) + 1
        cell = " ".join(f"{symbol}{counts[symbol]}" for symbol in sorted(counts))
        if cell not in known[key]:
            raise ValueError(
                f"no reference energy for {cell}; the model knows {sorted(known[key])}"
            )
        return float(known[key][cell])
