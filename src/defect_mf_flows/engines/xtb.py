"""GFN-xTB through tblite: the engine that runs anywhere, for demonstrations and tests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes
from ase.units import Hartree

from defect_mf_flows.engines.ase import AseReferenceMaker
from defect_mf_flows.errors import EngineError
from defect_mf_flows.schemas.calculation import BandEdges

#: Where the SCF of tblite's default start does not converge: another start, slower mixing.
SECOND_ATTEMPT = {"guess": "eeq", "mixer_damping": 0.2}


@cache
def _persistent_tblite() -> type[Calculator]:
    """Calculator of tblite, which tries once more where an SCF does not converge.

    Returns
    -------
    type
        A subclass, made here because tblite is an extra. Both attempts are the same method: the
        second differs in the charges that it starts from and in how it mixes them.
    """
    from tblite.ase import TBLite

    class PersistentTBLite(TBLite):
        """See :func:`_persistent_tblite`."""

        notes: tuple[str, ...] = ()

        def calculate(
            self,
            atoms: Atoms | None = None,
            properties: list[str] | None = None,
            system_changes: list[str] = all_changes,
        ) -> None:
            self.notes = ()
            try:
                super().calculate(atoms, properties, system_changes)
            except CalculationFailed as error:
                if "not converged" not in str(error):
                    raise
                second = TBLite(**{**self.parameters, **SECOND_ATTEMPT})
                second.calculate(self.atoms, properties, all_changes)
                self.results, self._res, self._xtb = second.results, second._res, None
                self.notes = (f"{error}; it did from charges of electronegativity equilibration",)

    return PersistentTBLite


@dataclass
class XtbReferenceMaker(AseReferenceMaker):
    """Reference calculations with tblite, Gamma only, closed shell unless told otherwise."""

    name: str = "xtb reference"

    def build_calculator(self, charge: int, spin: int | None) -> Calculator:
        """Build tblite's calculator with charge and multiplicity set explicitly.

        Raises
        ------
        EngineError
            If tblite is not installed or refuses a setting.
        """
        try:
            calculator = _persistent_tblite()
        except ImportError as error:
            raise EngineError(
                f"fidelity {self.fidelity!r}: tblite is not installed; "
                "pip install 'defect-mf-flows[embedded]'."
            ) from error
        options: dict[str, Any] = {"verbosity": 0, **self._settings(), "charge": charge}
        if spin is not None:
            options["multiplicity"] = spin + 1
            options.setdefault("spin_polarization", 1.0)
        return calculator(**options)

    def program(self, calculator: Calculator) -> str:
        """Package that computes."""
        return "tblite"

    def notes(self, atoms: Atoms) -> list[str]:
        """Whether the SCF needed a second attempt."""
        return list(getattr(atoms.calc, "notes", []))

    def band_edges(self, atoms: Atoms) -> BandEdges | None:
        """Highest occupied and lowest empty orbital, eV (a closed-shell cell)."""
        results = atoms.calc._res
        energies = np.atleast_2d(results.get("orbital-energies"))[0] * Hartree
        filled = np.atleast_2d(results.get("orbital-occupations"))[0] > 0.5
        if not filled.any() or filled.all():
            return None
        return BandEdges(vbm=float(energies[filled].max()), cbm=float(energies[~filled].min()))
