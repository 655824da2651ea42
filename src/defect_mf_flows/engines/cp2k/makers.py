"""CP2K as a reference engine."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache

from ase import Atoms
from ase.calculators.calculator import Calculator

from defect_mf_flows.campaign.cp2k import Cp2kSettings
from defect_mf_flows.engines.ase import AseReferenceMaker
from defect_mf_flows.engines.cp2k.calculator import GaussianPlaneWaveDFT
from defect_mf_flows.engines.reuse import UNKNOWN_VERSION
from defect_mf_flows.engines.spin import unpaired_of
from defect_mf_flows.errors import EngineError
from defect_mf_flows.schemas.calculation import EngineRecord
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.settings import get_settings


@dataclass
class Cp2kReferenceMaker(AseReferenceMaker):
    """Reference calculations with CP2K in a fixed cell, at the Gamma point."""

    name: str = "cp2k reference"

    def start_calculator(self, start: StartStructure) -> GaussianPlaneWaveDFT:
        """Build the calculator of one start.

        Parameters
        ----------
        start
            Its charge, composition and spin decide the number of unpaired electrons.

        Returns
        -------
        GaussianPlaneWaveDFT
            Told the charge; CP2K is not yet running.

        Raises
        ------
        EngineError
            If there is no CP2K.
        ChargeError
            If the cell cannot have that many unpaired electrons.
        """
        command = get_settings().cp2k_cmd
        if not runs(command):
            raise EngineError(
                f"fidelity {self.fidelity!r}: no {command!r} on this machine; install CP2K, or "
                "set DEFECT_MF_CP2K_CMD (docs/cp2k.md)."
            )
        settings = self._cp2k()
        where = f"fidelity {self.fidelity!r}, start {start.label}"
        unpaired = unpaired_of(start.structure, start.spin, settings.spin, where=where) or 0
        return GaussianPlaneWaveDFT(
            settings, charge=start.charge, unpaired=unpaired, command=command
        )

    def describe(self, calculator: Calculator, start: StartStructure) -> EngineRecord:
        """Program, version, settings and spin that compute a start."""
        return EngineRecord(
            name="cp2k",
            version=version(get_settings().cp2k_cmd),
            settings={
                **self._cp2k().model_dump(mode="json"),
                "charge": start.charge,
                "unpaired": getattr(calculator, "unpaired", None),
            },
        )

    def notes(self, atoms: Atoms) -> list[str]:
        """Attempts that failed before one succeeded."""
        return list(atoms.calc.notes) if isinstance(atoms.calc, GaussianPlaneWaveDFT) else []

    def _cp2k(self) -> Cp2kSettings:
        return Cp2kSettings.model_validate(self._settings())


def runs(command: str) -> bool:
    """Whether this machine has the program that a command starts.

    Parameters
    ----------
    command
        As in ``DEFECT_MF_CP2K_CMD``: ``mpirun -np 4 cp2k.psmp`` needs both.
    """
    words = shlex.split(command)
    return bool(words) and all(shutil.which(word) for word in (words[0], words[-1]))


@lru_cache(maxsize=4)
def version(command: str) -> str:
    """Version of the program that a command starts; what nobody knows if it does not tell."""
    try:
        told = subprocess.run(
            [*shlex.split(command), "--version"], capture_output=True, text=True, timeout=60
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return UNKNOWN_VERSION
    found = re.search(r"CP2K version (\S+)", told)
    return found.group(1) if found else UNKNOWN_VERSION
