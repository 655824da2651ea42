"""One charged cell with CP2K: a process that keeps its orbitals, and a second minimiser."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator, SCFError, all_changes

from defect_mf_flows.campaign.cp2k import Cp2kSettings
from defect_mf_flows.engines.cp2k.written import (
    MINIMIZERS,
    Evaluation,
    input_text,
    read_abort,
    read_evaluation,
)
from defect_mf_flows.errors import ChargeError

logger = logging.getLogger(__name__)

#: CP2K integrates the charge on its grid, which misses the whole number by about 1e-5.
CHARGE_TOLERANCE = 1e-2


class GaussianPlaneWaveDFT(Calculator):
    """Energy and forces of one charge state; the orbitals stay in CP2K between ionic steps.

    Parameters
    ----------
    settings
        Functional, grids, basis sets, potentials and SCF.
    charge
        Total charge of the cell.
    unpaired
        Unpaired electrons; 0 for a closed shell.
    command
        Starts CP2K without its option ``-s``.

    Attributes
    ----------
    notes
        What happened to attempts that failed in the last calculation, one line each.

    Notes
    -----
    Input, process and units are those of ASE's CP2K. It takes the energy of an SCF that did not
    converge for a result and reads no charge back; here the output is asked for both.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (ASE declares it so)

    def __init__(self, settings: Cp2kSettings, *, charge: int, unpaired: int, command: str) -> None:
        super().__init__()
        self.settings = settings
        self.unpaired = unpaired
        self.command = command
        self.parameters["charge"] = charge
        self.notes: list[str] = []
        self._running: _Process | None = None

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Converge the cell, then check charge and spin of what was computed.

        Raises
        ------
        SCFError
            If no attempt converged; the message names each.
        CalculationFailed
            If CP2K ended; the message has what it said.
        ChargeError
            If charge or unpaired electrons are not the ones asked for.
        """
        super().calculate(atoms, properties or ["energy", "forces"], system_changes)
        self.notes = []
        assert self.atoms is not None
        last, self._running = self._running, None  # after a failure it is of no use
        attempts: list[tuple[str, _Process | None, str]] = [
            (f"atomic orbitals, {minimizer}", None, minimizer) for minimizer in MINIMIZERS
        ]
        if last is not None and list(last.numbers) == list(self.atoms.numbers):
            attempts.insert(0, ("orbitals of the last geometry", last, last.minimizer))
        for name, running, minimizer in attempts:
            process = running or self._start(self.atoms, minimizer)
            done, results = process.evaluate(self.atoms)
            if done.converged:
                self._check(done)
                self._running, self.results = process, results
                return
            process.close()
            self.notes.append(
                f"SCF from {name}: not converged after at most {self.settings.max_iterations} steps"
            )
            logger.warning("charge %+d: %s", self.parameters["charge"], self.notes[-1])
        raise SCFError("SCF did not converge: " + "; ".join(self.notes))

    def close(self) -> None:
        """End the process; the next calculation starts another."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def _start(self, atoms: Atoms, minimizer: str) -> _Process:
        spin = {"uks": True, "multiplicity": self.unpaired + 1} if self.unpaired else {}
        text = input_text(self.settings, atoms.get_chemical_symbols(), minimizer=minimizer)
        return _Process(
            atoms,
            minimizer,
            command=f"{self.command} -s",
            charge=self.parameters["charge"],
            inp=text,
            basis_set_file=self.settings.basis_file,
            potential_file=self.settings.potential_file,
            **spin,
        )

    def _check(self, done: Evaluation) -> None:
        asked = self.parameters["charge"]
        if done.charge is None:
            raise ChargeError("CP2K's output does not tell the cell's charge; it is not labelled.")
        if abs(done.charge - asked) > CHARGE_TOLERANCE:
            raise ChargeError(f"CP2K computed a charge of {done.charge:+.4f}, not {asked:+d}.")
        if done.unpaired != self.unpaired:
            raise ChargeError(
                f"CP2K computed {done.unpaired} unpaired electrons, not {self.unpaired}."
            )


class _Process:
    """A running CP2K with the orbitals of its last geometry, in a folder of its own."""

    def __init__(self, atoms: Atoms, minimizer: str, **parameters: Any) -> None:
        from ase.calculators.cp2k import CP2K

        self.numbers, self.minimizer = atoms.numbers.copy(), minimizer
        self._folder = tempfile.TemporaryDirectory(prefix="cp2k-")
        self._label = Path(self._folder.name) / "cell"
        self._read = 0
        # None: written by us, for each element and in CP2K's own units.
        own = ("basis_set", "pseudo_potential", "xc", "cutoff", "max_scf")
        try:
            self._cp2k = CP2K(
                label=str(self._label),
                print_level="LOW",
                stress_tensor=False,
                **dict.fromkeys(own),
                **parameters,
            )
        except (AssertionError, RuntimeError, OSError) as error:
            self._folder.cleanup()
            raise CalculationFailed(
                f"{parameters['command']!r} does not start ({error or type(error).__name__}); set "
                "DEFECT_MF_CP2K_CMD to a command that does."
            ) from None

    def evaluate(self, atoms: Atoms) -> tuple[Evaluation, dict[str, Any]]:
        """One geometry: what the output says, and energy (eV) and forces (eV/A)."""
        try:
            self._cp2k.calculate(atoms.copy(), ["energy", "forces"], self._changes())
        except (AssertionError, RuntimeError, ValueError, OSError) as error:
            # Newer versions end where an SCF does not converge.
            text = self._new_text()
            self.close()
            if "SCF run NOT converged" in text:
                return Evaluation(converged=False, charge=None, unpaired=0), {}
            raise CalculationFailed(f"CP2K ended: {read_abort(text) or repr(error)}") from None
        found = {
            "energy": float(self._cp2k.results["energy"]),
            "forces": np.array(self._cp2k.results["forces"]),
        }
        return read_evaluation(self._new_text()), found

    def _changes(self) -> list[str]:
        """What CP2K is to be told: everything at first, later the positions."""
        return all_changes if self._cp2k._force_env_id is None else ["positions"]

    def _new_text(self) -> str:
        path = self._label.with_suffix(".out")
        if not path.is_file():
            return ""
        content = path.read_bytes()
        new, self._read = content[self._read :], len(content)
        return new.decode(errors="replace")

    def close(self) -> None:
        """End CP2K and remove its files."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # ASE warns where it has to kill
            try:
                self._cp2k.close()
            except (AssertionError, OSError):
                logger.debug("CP2K had ended before it was closed")
        self._folder.cleanup()
