"""GFN-xTB through tblite: the engine that runs anywhere, for demonstrations and tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.units import Hartree

from defect_mf_flows.engines.ase import AseReferenceMaker
from defect_mf_flows.errors import EngineError
from defect_mf_flows.schemas.calculation import BandEdges


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
            from tblite.ase import TBLite
        except ImportError as error:
            raise EngineError(
                f"fidelity {self.fidelity!r}: tblite is not installed; "
                "pip install 'defect-mf-flows[embedded]'."
            ) from error
        options: dict[str, Any] = {"verbosity": 0, **self._settings(), "charge": charge}
        if spin is not None:
            options["multiplicity"] = spin + 1
            options.setdefault("spin_polarization", 1.0)
        return TBLite(**options)

    def band_edges(self, atoms: Atoms) -> BandEdges | None:
        """Highest occupied and lowest empty orbital, eV (a closed-shell cell)."""
        results = atoms.calc._res
        energies = np.atleast_2d(results.get("orbital-energies"))[0] * Hartree
        filled = np.atleast_2d(results.get("orbital-occupations"))[0] > 0.5
        if not filled.any() or filled.all():
            return None
        return BandEdges(vbm=float(energies[filled].max()), cbm=float(energies[~filled].min()))
