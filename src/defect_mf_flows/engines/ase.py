"""Any ASE calculator as an engine; every step becomes a frame, also those before a failure."""

from __future__ import annotations

import importlib.metadata
import inspect
import os
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorError

from defect_mf_flows.campaign.calculators import find_calculator
from defect_mf_flows.core.charge import charge_probe, from_atoms, to_atoms
from defect_mf_flows.engines.base import ReferenceMaker, check_start
from defect_mf_flows.engines.reuse import UNKNOWN_VERSION
from defect_mf_flows.errors import ChargeError, EngineError
from defect_mf_flows.schemas.calculation import (
    BandEdges,
    Calculation,
    CalculationKind,
    EngineRecord,
    Failure,
    FailureReason,
)
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.frame import Frame, Lineage

#: A relaxation with a larger force (eV/A) or displacement (A) has exploded.
EXPLODED_FORCE = 500.0
EXPLODED_DISPLACEMENT = 6.0


@dataclass
class Track:
    """What a calculation has produced so far."""

    frames: list[Frame] = field(default_factory=list)
    calls: int = 0
    failure: tuple[FailureReason, str] | None = None
    converged: bool = False


@dataclass
class AseReferenceMaker(ReferenceMaker):
    """Reference calculations with the ASE calculator that the campaign names.

    Settings: ``calculator`` (dotted path), ``kwargs``, and either ``charge_keyword`` (its
    argument for the total charge) or ``charge_info`` (its key in ``atoms.info``);
    ``spin_keyword`` for unpaired electrons.
    """

    name: str = "ase reference"

    # -- what a calculator-specific subclass may change ---------------------------------

    def build_calculator(self, charge: int, spin: int | None) -> Calculator:
        """Build the calculator for one charge state.

        Parameters
        ----------
        charge
            Total charge.
        spin
            Unpaired electrons, or None.

        Returns
        -------
        Calculator
            That was told the charge.

        Raises
        ------
        EngineError
            If the class cannot be imported or does not take the arguments.
        """
        settings = self._settings()
        arguments = dict(settings.get("kwargs", {}))
        if "charge_keyword" in settings:
            arguments[settings["charge_keyword"]] = charge
        if spin is not None:
            if "spin_keyword" not in settings:
                raise EngineError(
                    f"fidelity {self.fidelity!r}: a spin is set but the calculator has no "
                    "settings.spin_keyword; give it, or leave the spin out."
                )
            arguments[settings["spin_keyword"]] = spin
        try:
            calculator = find_calculator(settings["calculator"])(**arguments)
        except (ImportError, AttributeError, TypeError) as error:
            raise EngineError(
                f"fidelity {self.fidelity!r}: cannot build {settings['calculator']}: {error}; "
                "install the package or correct settings.calculator and settings.kwargs."
            ) from error
        for role in ("charge_keyword", "spin_keyword"):
            if role in settings and not _takes(calculator, settings[role]):
                raise EngineError(
                    f"fidelity {self.fidelity!r}: {settings['calculator']} has no argument "
                    f"{settings[role]!r} and would ignore it; correct settings.{role}."
                )
        return calculator

    def record(self, calculator: Calculator, charge: int) -> EngineRecord:
        """Describe program, version and settings for the provenance of the labels."""
        package = type(calculator).__module__.partition(".")[0]
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = UNKNOWN_VERSION
        return EngineRecord(
            name=package, version=version, settings={**self._settings(), "charge": charge}
        )

    def engine_record(self, start: StartStructure) -> EngineRecord | None:
        """Program, version and settings that would compute a start."""
        return self.record(self.build_calculator(start.charge, start.spin), start.charge)

    def band_edges(self, atoms: Atoms) -> BandEdges | None:
        """Band edges after a single point; None where the calculator gives none."""
        return None

    # -- the calculation -----------------------------------------------------------------

    def compute(self, start: StartStructure, *, uuid: str) -> Calculation:
        """Relax or compute one start structure.

        Parameters
        ----------
        start
            Geometry, charge and spin.
        uuid
            uuid of the calculation.

        Returns
        -------
        Calculation
            A failure of the method (SCF, explosion) is recorded in it, not raised.
        """
        check_start(start)
        began = time.monotonic()
        atoms = to_atoms(start.structure, spin=start.spin)
        info_key = self._settings().get("charge_info")
        if info_key is not None:
            atoms.info[info_key] = start.charge
        calculator = self.build_calculator(start.charge, start.spin)
        charge_probe(calculator, atoms, expected=start.charge)
        atoms.calc = calculator
        track = Track()
        try:
            self._run(atoms, start, uuid, track)
        except (CalculatorError, RuntimeError, FloatingPointError, ArithmeticError) as error:
            track.failure = (_reason(error), f"{type(error).__name__}: {error}"[:500])
        final = track.frames[-1] if track.frames else None
        return Calculation(
            job_uuid=uuid,
            kind=self.kind,
            fidelity=self.fidelity,
            defect=start.defect,
            charge=start.charge,
            spin=start.spin,
            start=start.label,
            n_atoms=len(atoms),
            converged=track.converged,
            failure=self._failure(start, track),
            n_calls=track.calls,
            seconds=time.monotonic() - began,
            engine=self.record(calculator, start.charge),
            band_edges=self.band_edges(atoms) if track.failure is None else None,
            final_energy=final.energy if final else None,
            final_structure=final.structure if final else None,
            n_frames=len(track.frames),
            frames=track.frames,
        )

    def _run(self, atoms: Atoms, start: StartStructure, uuid: str, track: Track) -> None:
        if self.kind is CalculationKind.STATIC:
            self._observe(atoms, start, uuid, track)
            track.converged = track.failure is None
            return
        from ase.optimize import LBFGS

        assert self.settings is not None
        # Rattled starts are far from quadratic: the softer Hessian guess and longer steps
        # need a third fewer force calls than ASE's defaults (measured on 31 atoms of ZnS).
        optimizer = LBFGS(atoms, logfile=os.devnull, alpha=30.0, maxstep=0.3)
        for converged in optimizer.irun(fmax=self.settings.fmax, steps=self.settings.steps):
            self._observe(atoms, start, uuid, track)
            track.converged = bool(converged)
            if track.failure is not None:
                track.converged = False
                return
        if not track.converged:
            track.failure = (
                FailureReason.STEPS,
                f"forces above {self.settings.fmax} eV/A after {self.settings.steps} steps",
            )

    def _observe(self, atoms: Atoms, start: StartStructure, uuid: str, track: Track) -> None:
        energy, forces = float(atoms.get_potential_energy()), atoms.get_forces()
        track.calls += 1
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            track.failure = (FailureReason.NOT_FINITE, f"energy {energy} at step {track.calls}")
            return
        frame = Frame(
            structure=from_atoms(atoms),
            charge=start.charge,
            spin=start.spin,
            fidelity=self.fidelity,
            energy=energy,
            forces=forces,
            lineage=Lineage(
                defect=start.defect,
                charge=start.charge,
                start=start.label,
                calculation=uuid,
                step=len(track.frames),
            ),
        )
        track.frames.append(frame)
        largest = float(np.linalg.norm(forces, axis=1).max())
        moved = np.linalg.norm(atoms.positions - start.structure.cart_coords, axis=1).max()
        if largest > EXPLODED_FORCE or moved > EXPLODED_DISPLACEMENT:
            track.failure = (
                FailureReason.EXPLODED,
                f"force {largest:.0f} eV/A, displacement {moved:.1f} A",
            )

    def _failure(self, start: StartStructure, track: Track) -> Failure | None:
        if track.failure is None:
            return None
        reason, message = track.failure
        return Failure(
            stage=self.kind.value,
            reason=reason,
            message=message,
            fidelity=self.fidelity,
            defect=start.defect,
            charge=start.charge,
            start=start.label,
        )

    def _settings(self) -> dict[str, Any]:
        if self.settings is None:
            raise EngineError(f"{self.name}: no fidelity settings; build it from a campaign.")
        return self.settings.settings


def _takes(calculator: Calculator, keyword: str) -> bool:
    """False if a calculator is known to ignore a keyword.

    ASE calculators store any keyword without a word, and one that ignores the charge
    computes every charge state as neutral. Those that list their defaults can be asked.
    """
    defaults = getattr(calculator, "default_parameters", None)
    return (
        not defaults
        or keyword in defaults
        or keyword in inspect.signature(type(calculator)).parameters
    )


def _reason(error: Exception) -> FailureReason:
    """Tell an SCF that did not converge from other failures of the method."""
    if isinstance(error, ChargeError):
        raise error
    text = str(error).lower()
    return FailureReason.SCF if "scf" in text or "converge" in text else FailureReason.OTHER
