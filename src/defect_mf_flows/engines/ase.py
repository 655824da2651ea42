"""Any ASE calculator as an engine; every step becomes a frame, also those before a failure."""

from __future__ import annotations

import importlib.metadata
import inspect
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, CalculatorError
from ase.calculators.singlepoint import SinglePointCalculator

from defect_mf_flows.campaign.calculators import find_calculator
from defect_mf_flows.core.charge import charge_probe, to_atoms
from defect_mf_flows.engines.base import ReferenceMaker, check_start, job_scratch
from defect_mf_flows.engines.checkpoint import Checkpoint, StoredStep
from defect_mf_flows.engines.guided import GuidedRelaxer
from defect_mf_flows.engines.relaxer import Relaxer
from defect_mf_flows.engines.reuse import UNKNOWN_VERSION
from defect_mf_flows.engines.track import Track
from defect_mf_flows.errors import ChargeError, CheckpointError, DatasetError, EngineError
from defect_mf_flows.schemas.calculation import (
    BandEdges,
    Calculation,
    CalculationKind,
    EngineRecord,
    FailureReason,
    FrontierLevel,
    Guide,
)
from defect_mf_flows.schemas.curvature import Curvature
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.frame import content_hash, structure_key

logger = logging.getLogger(__name__)

#: What a method may raise of which the calculation is told, and not the campaign.
FAILURES = (CalculatorError, RuntimeError, FloatingPointError, ArithmeticError)
#: Where an SCF fails a relaxation takes half of the step that led there, at most so many times.
HALVED = 2


@dataclass
class AseReferenceMaker(ReferenceMaker):
    """Reference calculations with the ASE calculator that the campaign names.

    Settings: ``calculator`` (dotted path), ``kwargs``, and either ``charge_keyword`` (its
    argument for the total charge) or ``charge_info`` (its key in ``atoms.info``);
    ``spin_keyword`` for unpaired electrons.
    """

    name: str = "ase reference"
    own_minimiser: ClassVar[bool] = True

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
        package = self.program(calculator)
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = UNKNOWN_VERSION
        return EngineRecord(
            name=package, version=version, settings={**self._settings(), "charge": charge}
        )

    def program(self, calculator: Calculator) -> str:
        """Package that computes, whose version is recorded."""
        return type(calculator).__module__.partition(".")[0]

    def engine_record(self, start: StartStructure) -> EngineRecord | None:
        """Program, version and settings that would compute a start."""
        return self.describe(self.start_calculator(start), start)

    def start_calculator(self, start: StartStructure) -> Calculator:
        """Build the calculator of one start; by default its charge and spin decide."""
        return self.build_calculator(start.charge, start.spin)

    def ready(self, start: StartStructure) -> Atoms:
        """Build the atoms of a start with a calculator that was told its charge.

        Raises
        ------
        ChargeError
            If the calculator holds another charge.
        EngineError
            If the calculator cannot be built.
        """
        atoms = to_atoms(start.structure, spin=start.spin)
        info_key = self._settings().get("charge_info")
        if info_key is not None:
            atoms.info[info_key] = start.charge
        calculator = self.start_calculator(start)
        charge_probe(calculator, atoms, expected=start.charge)
        atoms.calc = calculator
        return atoms

    def describe(self, calculator: Calculator, start: StartStructure) -> EngineRecord:
        """Describe the calculator of one start; by default its charge alone enters."""
        return self.record(calculator, start.charge)

    def band_edges(self, atoms: Atoms) -> BandEdges | None:
        """Band edges after a single point; None where the calculator gives none."""
        return None

    def frontier(self, atoms: Atoms) -> list[FrontierLevel] | None:
        """Levels next to the gap per k-point, by which shallow states are told; None without."""
        return None

    def scratch(self, uuid: str) -> Path | None:
        """Where steps are kept as they are made; None where single points keep themselves."""
        return job_scratch(uuid)

    def notes(self, atoms: Atoms) -> list[str]:
        """What was tried in vain in the last evaluation before something succeeded."""
        return []

    # -- the calculation -----------------------------------------------------------------

    def compute(
        self, start: StartStructure, *, uuid: str, curvature: Curvature | None = None
    ) -> Calculation:
        """Relax or compute one start structure.

        Parameters
        ----------
        start
            Geometry, charge and spin.
        uuid
            uuid of the calculation.
        curvature
            Of a model there, from which the minimiser begins.

        Returns
        -------
        Calculation
            A failure of the method (SCF, explosion) is recorded in it, not raised.
        """
        return self._compute(start, uuid, curvature=curvature)

    def resume(
        self,
        start: StartStructure,
        begun: Calculation,
        *,
        uuid: str,
        curvature: Curvature | None = None,
    ) -> Calculation:
        """Continue a relaxation that another campaign ended too soon; see the base class."""
        return self._compute(start, uuid, begun=begun, curvature=curvature)

    def _compute(
        self,
        start: StartStructure,
        uuid: str,
        *,
        begun: Calculation | None = None,
        curvature: Curvature | None = None,
    ) -> Calculation:
        check_start(start)
        if curvature is not None:
            curvature.check(start)
        atoms, guide = self.ready(start), self._guided(start)
        engine = self.describe(atoms.calc, start)
        inputs = self._inputs(start, uuid, engine)
        if curvature is not None:  # it decides on the path
            inputs["curvature"] = curvature.content_hash
        with Checkpoint(self.scratch(uuid), inputs) as checkpoint:
            track = Track(start, uuid, self.fidelity, checkpoint)
            self._continue(atoms, track, begun, self._minimiser(atoms, guide, curvature))
        final = track.frames[-1] if track.frames else None
        # Out of steps, the eigenvalues still belong to the last geometry.
        told = track.failure is None or track.failure[0] is FailureReason.STEPS
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
            failure=track.failed(self.kind.value),
            n_calls=track.calls,
            seconds=track.seconds,
            engine=engine,
            band_edges=track.edges if told else None,
            frontier=track.frontier if told else None,
            final_energy=final.energy if final else None,
            final_structure=final.structure if final else None,
            n_frames=len(track.frames),
            curvature_from=None if curvature is None else curvature.job_uuid,
            guide=self._guide_of(start, guide, track),
            notes=track.notes,
            frames=track.frames,
        )

    def _continue(
        self,
        atoms: Atoms,
        track: Track,
        begun: Calculation | None,
        optimizer: Relaxer | GuidedRelaxer,
    ) -> None:
        """Take up the stored steps, else those of a calculation, and compute what is missing."""
        try:
            track.recall(atoms)
        except (CheckpointError, DatasetError, ChargeError) as error:
            track.forget(str(error))
        if begun is not None and not track.checkpoint.steps:
            assert self.settings is not None
            track.take_up(atoms, begun, fmax=self.settings.fmax, steps=self.settings.steps)
        if track.has_ended():
            return
        try:
            self._run(atoms, track, optimizer)
        except FAILURES as error:
            track.failure = (_reason(error), f"{type(error).__name__}: {error}"[:500])
        track.finish()

    def _guided(self, start: StartStructure) -> Atoms | None:
        """Atoms of a start with the calculator of the guide; None where nothing guides."""
        if self.guide is None or self.kind is not CalculationKind.RELAX:
            return None
        if not isinstance(self.guide, AseReferenceMaker):
            raise EngineError(f"{self.name}: {self.guide.name} has no calculator that could guide.")
        return self.guide.ready(start)

    def _minimiser(
        self, atoms: Atoms, guide: Atoms | None, curvature: Curvature | None
    ) -> Relaxer | GuidedRelaxer:
        if guide is None:
            return Relaxer(atoms, None if curvature is None else curvature.matrix())
        if curvature is not None:
            raise EngineError(
                f"{self.name}: a relaxation begins from a curvature or is guided; give one of them."
            )
        assert self.settings is not None
        return GuidedRelaxer(atoms, guide, self.settings.fmax)

    def _guide_of(self, start: StartStructure, guide: Atoms | None, track: Track) -> Guide | None:
        """What guided a relaxation, and what that cost."""
        if guide is None:
            return None
        assert isinstance(self.guide, AseReferenceMaker)
        record = self.guide.describe(guide.calc, start)
        return Guide(fidelity=self.guide.fidelity, engine=record, calls=track.guide_calls)

    def _run(self, atoms: Atoms, track: Track, optimizer: Relaxer | GuidedRelaxer) -> None:
        if self.kind is CalculationKind.STATIC:
            if not track.frames:
                self._observe(atoms, track)
            track.converged = track.failure is None
            return
        assert self.settings is not None
        calculator, fmax = atoms.calc, self.settings.fmax
        asked = track.guide_calls  # by a process before this one
        if track.checkpoint.steps:
            images = [_image(atoms, step) for step in track.checkpoint.steps]
            optimizer.replay_trajectory(images)
            atoms.positions = images[-1].positions
            atoms.calc = images[-1].calc  # the labels of the last step are not computed again
        else:
            self._observe(atoms, track)
        while track.failure is None and not track.converged:
            track.converged = track.largest_force < fmax
            if track.converged:
                return
            if len(track.frames) > self.settings.steps:
                message = f"forces above {fmax} eV/A after {self.settings.steps} steps"
                track.failure = (FailureReason.STEPS, message)
                return
            before, given_up = atoms.get_positions(), optimizer.given_up
            optimizer.step()
            track.guide_calls = asked + optimizer.guide_calls
            lost = optimizer.given_up if optimizer.given_up != given_up else ""
            atoms.calc = calculator
            self._observe_nearer(
                atoms, track, before, [f"no guide from here on: {lost}"] * bool(lost)
            )

    def _observe_nearer(
        self, atoms: Atoms, track: Track, before: np.ndarray, notes: list[str]
    ) -> None:
        """Observe where a step has led or, while the SCF fails there, half as far from before."""
        for failed in range(HALVED + 1):
            try:
                self._observe(atoms, track, failed=failed, notes=notes)
            except FAILURES as error:
                if failed == HALVED or _reason(error) is not FailureReason.SCF:
                    raise
                logger.info("%s: %s; half of the step is taken", track.start.label, error)
                atoms.positions = 0.5 * (before + atoms.positions)
            else:
                return

    def _observe(
        self, atoms: Atoms, track: Track, *, failed: int = 0, notes: Sequence[str] = ()
    ) -> None:
        track.calls += 1
        energy = float(atoms.get_potential_energy())
        forces = atoms.get_forces() if self._has_forces(atoms) else None
        if not (np.isfinite(energy) and (forces is None or np.isfinite(forces).all())):
            track.failure = (FailureReason.NOT_FINITE, f"energy {energy} at step {track.calls}")
            return
        track.edges, track.frontier = self.band_edges(atoms), self.frontier(atoms)
        notes = [*notes, *self.notes(atoms)]
        if failed:
            notes = [*notes, f"the SCF failed farther on; 1/{2**failed} of the step was taken"]
        track.add(atoms, energy, forces, notes=notes, failed=failed)

    def _has_forces(self, atoms: Atoms) -> bool:
        """Whether the method has forces; without them a cell cannot be relaxed."""
        if "forces" in getattr(atoms.calc, "implemented_properties", ["forces"]):
            return True
        if self.kind is CalculationKind.RELAX:
            raise EngineError(
                f"{self.name}: {type(atoms.calc).__name__} has no forces and cannot relax; let "
                f"another fidelity relax, and use {self.fidelity!r} for single points."
            )
        return False

    def _inputs(self, start: StartStructure, uuid: str, engine: EngineRecord) -> dict[str, Any]:
        """Everything that decides the result; a checkpoint with other inputs is not read.

        The job's uuid is among them: a repeated job has the same, and two jobs that ask for the
        same calculation are each charged for their own calls.
        """
        guide = self.guide_record(start)
        return {
            "job": uuid,
            "kind": self.kind.value,
            "fidelity": self.fidelity,
            "charge": start.charge,
            "spin": start.spin,
            "defect": start.defect,
            "start": start.label,
            "structure": content_hash(structure_key(start.structure)),
            "engine": engine.model_dump(mode="json"),
            "settings": self.settings.model_dump(mode="json") if self.settings else None,
            **({} if guide is None else {"guide": guide.model_dump(mode="json")}),
        }

    def _settings(self) -> dict[str, Any]:
        if self.settings is None:
            raise EngineError(f"{self.name}: no fidelity settings; build it from a campaign.")
        return self.settings.settings


def _image(atoms: Atoms, step: StoredStep) -> Atoms:
    """A geometry that knows its labels."""
    image = atoms.copy()
    image.positions = step.positions
    image.calc = SinglePointCalculator(image, energy=step.energy, forces=np.asarray(step.forces))
    return image


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
    told = getattr(error, "reason", None)
    if isinstance(told, FailureReason):  # by an engine that knows
        return told
    text = str(error).lower()
    return FailureReason.SCF if "scf" in text or "converge" in text else FailureReason.OTHER
