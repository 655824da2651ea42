"""GPAW as a reference engine."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ase import Atoms
from ase.calculators.calculator import Calculator
from pymatgen.core import Structure

from defect_mf_flows.campaign.gpaw import GpawSettings, setup_file
from defect_mf_flows.engines.ase import AseReferenceMaker
from defect_mf_flows.engines.gpaw.calculator import PlaneWaveDFT
from defect_mf_flows.engines.spin import unpaired_of
from defect_mf_flows.errors import EngineError
from defect_mf_flows.schemas.calculation import BandEdges, EngineRecord, FrontierLevel
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.structures import symbols_of


@dataclass
class GpawReferenceMaker(AseReferenceMaker):
    """Reference calculations with GPAW in a fixed cell."""

    name: str = "gpaw reference"

    def start_calculator(self, start: StartStructure) -> PlaneWaveDFT:
        """Build the calculator of one start.

        Parameters
        ----------
        start
            Its charge, composition and spin decide the number of unpaired electrons.

        Returns
        -------
        PlaneWaveDFT
            Told the charge.

        Raises
        ------
        EngineError
            If GPAW is missing.
        ChargeError
            If the cell cannot have that many unpaired electrons.
        """
        try:
            import gpaw  # noqa: F401
        except ImportError as error:
            raise EngineError(
                f"fidelity {self.fidelity!r}: gpaw is not installed; "
                "pip install 'defect-mf-flows[gpaw]' (docs/gpaw.md says what it needs to build)."
            ) from error
        settings = self._gpaw()
        where = f"fidelity {self.fidelity!r}, start {start.label}"
        unpaired = unpaired_of(start.structure, start.spin, settings.spin, where=where)
        return PlaneWaveDFT(settings, charge=start.charge, unpaired=unpaired)

    def describe(self, calculator: Calculator, start: StartStructure) -> EngineRecord:
        """Program, version, settings, setups and libxc that compute a start."""
        import gpaw

        return EngineRecord(
            name="gpaw",
            version=gpaw.__version__,
            settings={
                **self._gpaw().model_dump(mode="json"),
                "charge": start.charge,
                "unpaired": getattr(calculator, "unpaired", None),
                "setups": setup_fingerprints(start.structure),
                "libxc": gpaw.get_libraries()["libxc"],
            },
        )

    def band_edges(self, atoms: Atoms) -> BandEdges | None:
        """Edges from the eigenvalues of the last geometry."""
        return atoms.calc.band_edges() if isinstance(atoms.calc, PlaneWaveDFT) else None

    def frontier(self, atoms: Atoms) -> list[FrontierLevel] | None:
        """Levels next to the gap from the eigenvalues of the last geometry."""
        found = atoms.calc.frontier() if isinstance(atoms.calc, PlaneWaveDFT) else None
        return None if found is None else found.levels

    def notes(self, atoms: Atoms) -> list[str]:
        """Attempts that failed before one succeeded."""
        return list(atoms.calc.notes) if isinstance(atoms.calc, PlaneWaveDFT) else []

    def _gpaw(self) -> GpawSettings:
        return GpawSettings.model_validate(self._settings())


def setup_fingerprints(structure: Structure) -> dict[str, str]:
    """First digits of the SHA-256 of the setups of a cell's elements.

    Raises
    ------
    EngineError
        If there are none.
    """
    from gpaw import setup_paths

    prints: dict[str, str] = {}
    for symbol in sorted(set(symbols_of(structure))):
        # The first folder that has one decides, as in GPAW.
        file = next((f for p in setup_paths if (f := setup_file(Path(p), symbol))), None)
        if file is None:
            raise EngineError(f"no PBE setup of {symbol}: pip install gpaw-data.")
        prints[symbol] = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    return prints
