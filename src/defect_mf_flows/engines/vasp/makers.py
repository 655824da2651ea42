"""VASP as a reference engine, on atomate2's Maker and custodian."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from atomate2.vasp.jobs.base import BaseVaspMaker
from atomate2.vasp.sets.base import VaspInputGenerator
from jobflow import CURRENT_JOB, JobConfig, Response, job
from pymatgen.core import Structure

from defect_mf_flows.campaign.vasp import VaspSettings, pbe_of
from defect_mf_flows.core.charge import charge_of, with_charge
from defect_mf_flows.engines.base import ReferenceMaker, check_start
from defect_mf_flows.engines.reuse import take_over
from defect_mf_flows.engines.spin import low_spin
from defect_mf_flows.engines.vasp import handlers as watch
from defect_mf_flows.engines.vasp.begun import Begun, leave_begun, raw_step, same_inputs
from defect_mf_flows.engines.vasp.notes import ChosenSpin, unperturbed_note
from defect_mf_flows.engines.vasp.results import (
    CellOrder,
    calculation_of,
    can_continue,
    check_run,
    unfinished,
    written_inputs,
)
from defect_mf_flows.engines.vasp.running import (
    PBE_FIRST,
    Progress,
    copy_whole,
    last_geometry,
    last_wavecar,
    next_execution,
    read_progress,
    run_in,
    seconds_below,
    shared_wavecar,
    tidy,
    write_inputs,
)
from defect_mf_flows.engines.vasp.sets import ChargedCellSet
from defect_mf_flows.engines.vasp.stepped import (
    OutOfTimeError,
    SinglePoints,
    SteppedMaker,
    out_of_time,
)
from defect_mf_flows.errors import EngineError
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind, EngineRecord
from defect_mf_flows.schemas.curvature import Curvature
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.settings import get_settings

logger = logging.getLogger(__name__)

UNPERTURBED = "Unperturbed"


@dataclass
class VaspReferenceMaker(ReferenceMaker):
    """Reference calculations with VASP.

    A job that custodian stops before the walltime is replaced by one that continues it; a job
    that was killed continues when it is run again.
    """

    name: str = "vasp reference"

    @job(data="frames", config=JobConfig(expose_store=True), output_schema=Calculation)
    def make(self, start: StartStructure) -> Response:
        """Compute one start structure as a job, or as much of it as the walltime allows.

        Parameters
        ----------
        start
            Geometry, charge and spin.

        Returns
        -------
        Calculation
            Of all executions together, through the job that continues the last if one does.
        """
        current = CURRENT_JOB.job
        if self.reuse and (known := self._known(start, current.uuid)) is not None:
            found = take_over(known, start, fidelity=self.fidelity, uuid=current.uuid)
            return Response(output=found)
        fresh = self.reuse and self.guide is None and not self.folder(current.uuid).is_dir()
        begun = self._begun(start, current.uuid) if fresh else None
        if begun is None:
            calculation = self.compute(start, uuid=current.uuid)
        else:
            calculation = self.resume(start, begun, uuid=current.uuid)
        if not unfinished(calculation):
            engine = self.engine_record(start)
            return Response(output=self.hashed(calculation, start, engine))
        following = self.make(start)
        following.name = current.name
        following.config = current.config
        return Response(replace=following)

    def engine_record(self, start: StartStructure) -> EngineRecord:
        """Say which inputs VASP would get for a start.

        Parameters
        ----------
        start
            Geometry, charge and spin.

        Returns
        -------
        EngineRecord
            INCAR, KPOINTS and the headers of the POTCARs, which decide the result; VASP's own
            version is known only after a run and does not count.
        """
        order = CellOrder.of(start.structure)
        cell = with_charge(order.grouped(start.structure), start.charge)
        inputs = self.inputs(start).get_input_set(cell)
        return EngineRecord(
            name="vasp",
            version="by inputs",
            settings={
                "settings": self._vasp().model_dump(mode="json"),
                "incar": str(inputs["INCAR"]).splitlines(),
                "kpoints": str(inputs["KPOINTS"]),
                "potcars": [potcar.header for potcar in inputs["POTCAR"]],
            },
        )

    def has_method_of(
        self, found: Calculation, start: StartStructure, engine: EngineRecord
    ) -> bool:
        """Tell whether VASP got the same inputs, but for where the relaxation ends.

        Parameters
        ----------
        found, start, engine
            As in the base class. Where the spin is guessed, that of ``found`` counts if it was
            guessed as well.
        """
        if found.guide is not None:  # of single points, from orbitals of the one before
            return False
        spin = start.spin
        if self._guesses_spin(start):
            spin = found.spin
            if spin is None or found.engine.settings.get("spin_guesses") != 2:
                return False
        if found.spin != spin:
            return False
        order = CellOrder.of(start.structure)
        cell = with_charge(order.grouped(start.structure), start.charge)
        inputs = self.inputs(start, unpaired=spin).get_input_set(cell)
        return same_inputs(found.engine.settings, written_inputs(inputs, start.charge))

    def resume(
        self,
        start: StartStructure,
        begun: Calculation,
        *,
        uuid: str,
        curvature: Curvature | None = None,
    ) -> Calculation:
        """Continue a relaxation that another campaign ended too soon.

        Parameters
        ----------
        start, begun, uuid, curvature
            As in the base class; the curvature is not used.

        Returns
        -------
        Calculation
            That counts its own calls alone; none, if the other has passed this one's limits.
        """
        order, folder = CellOrder.of(start.structure), self.folder(uuid)
        fmax, most = self._fidelity().fmax, self._fidelity().steps
        frames = begun.frames[:most]
        forces = [float(np.linalg.norm(np.asarray(f.forces), axis=1).max()) for f in frames]
        enough = next((n for n, force in enumerate(forces, start=1) if force <= fmax), None)
        taken = Begun(begun.job_uuid, [raw_step(f, order.indices) for f in frames[:enough]])
        if enough is None and len(frames) < most:
            if self._guesses_spin(start):
                assert begun.spin is not None  # has_method_of has seen to it
                ChosenSpin(begun.spin).write(folder)
            leave_begun(taken, folder)
            return self.compute(start, uuid=uuid)
        return self._shortened(start, begun, taken, order, uuid)

    def _shortened(
        self,
        start: StartStructure,
        begun: Calculation,
        taken: Begun,
        order: CellOrder,
        uuid: str,
    ) -> Calculation:
        """As much of another campaign's relaxation as this one would compute."""
        start = start.model_copy(update={"spin": begun.spin})
        cell = with_charge(order.grouped(start.structure), start.charge)
        progress = Progress(
            steps=taken.steps, saved=len(taken.steps), finished=True, notes=[taken.note]
        )
        inputs = self.inputs(start).get_input_set(cell)
        calculation = self._document(progress, start, order, inputs, uuid)
        last = ("band_edges", "frontier", "site_potentials")  # they belong to the last step
        whole = len(taken.steps) == begun.n_frames and calculation.failure is None
        kept = {name: getattr(begun, name) for name in last} if whole else {}
        return calculation.model_copy(update={"engine": begun.engine, **kept})

    def compute(
        self, start: StartStructure, *, uuid: str, curvature: Curvature | None = None
    ) -> Calculation:
        """Run VASP on a start structure, from where earlier executions ended.

        Once, or, where another fidelity guides a relaxation, for each of its steps.

        Parameters
        ----------
        start
            Geometry, charge and spin.
        uuid
            uuid of the calculation, and name of its folder.
        curvature
            Not used: VASP relaxes by itself.

        Returns
        -------
        Calculation
            With the ionic steps of all executions; with a failure of reason ``walltime`` if
            VASP was stopped and another call would continue.

        Raises
        ------
        ChargeError, FidelityError
            If VASP computed another charge or functional than it was told.
        """
        check_start(start)
        if self.guide is not None and self.kind is CalculationKind.RELAX:
            return self._relax_guided(start, uuid)
        return self.run(start, uuid, began=time.time())

    def _relax_guided(self, start: StartStructure, uuid: str) -> Calculation:
        """Relax with single points of this fidelity, between which the guide chooses the steps."""
        began, inputs = time.time(), self.engine_record(start)
        high = self.points(start, uuid, began)
        try:
            if self._guesses_spin(start):  # at the first geometry, for all others
                first = high.at(start.structure.cart_coords)
                start = start.model_copy(update={"spin": first.spin})
                high.start = start
            guide, every = self.guide, [high]
            if isinstance(guide, VaspReferenceMaker):
                low = guide.points(start, uuid, began)
                every.append(low)
                guide = guide.stepped(low, guide.engine_record(start))
            done = self.stepped(high, inputs, guide).compute(start, uuid=uuid)
        except OutOfTimeError as error:
            return out_of_time(start, uuid, self, high, inputs, str(error))
        for orbitals in self.folder(uuid).glob("*.WAVECAR"):
            orbitals.unlink()
        update: dict[str, Any] = {"n_calls": sum(high.calls.values())}
        if isinstance(self.guide, VaspReferenceMaker):  # another's time is not in the folders
            update["seconds"] = sum(sum(each.seconds.values()) for each in every)
        if high.last is not None:
            update["engine"] = high.last.engine
            if done.final_energy == high.last.final_energy:  # it is of the last frame
                update["site_potentials"] = high.last.site_potentials
        return done.model_copy(update=update)

    def points(self, start: StartStructure, uuid: str, began: float) -> SinglePoints:
        """Single points of a relaxation, each from the orbitals of the one before.

        Parameters
        ----------
        start
            Cell, charge and spin.
        uuid
            uuid of the relaxation.
        began
            When its job began, seconds since the epoch.
        """
        static = replace(
            self, kind=CalculationKind.STATIC, guide=None, name=f"{self.fidelity} single point"
        )
        passed_on = self.folder(uuid) / f"{self.fidelity}.WAVECAR"

        def run(point: StartStructure, name: str) -> Calculation:
            return static.run(point, f"{uuid}/{name}", began=began, passed_on=passed_on)

        return SinglePoints(run, start, self.fidelity)

    def stepped(
        self, points: SinglePoints, engine: EngineRecord, guide: ReferenceMaker | None = None
    ) -> SteppedMaker:
        """Maker that takes the steps of one relaxation with single points of this one."""
        return SteppedMaker(
            name=self.name,
            fidelity=self.fidelity,
            kind=CalculationKind.RELAX,
            settings=self.settings,
            guide=guide,
            points=points,
            engine=engine,
        )

    def run(
        self, start: StartStructure, uuid: str, *, began: float, passed_on: Path | None = None
    ) -> Calculation:
        """Run VASP once, from where earlier executions ended.

        Parameters
        ----------
        start
            Geometry, charge and spin.
        uuid
            Of the calculation, and name of its folder.
        began
            When the job began, seconds since the epoch.
        passed_on
            File with the orbitals of the calculation before, which this one starts from and
            replaces by its own.

        Returns
        -------
        Calculation
            See ``compute``.
        """
        order = CellOrder.of(start.structure)
        cell = with_charge(order.grouped(start.structure), start.charge)
        folder = self.folder(uuid)
        progress = read_progress(folder)
        unpaired, guesses, decided = start.spin, 0, True
        if self._guesses_spin(start):
            unpaired, guesses, decided = self._better_spin(start, cell, folder, began)
        asked, start = start, start.model_copy(update={"spin": unpaired})
        inputs = self.inputs(start)
        if decided and (not progress.finished or watch.WALLTIME in progress.errors):
            self._execute(asked, cell, inputs, folder, progress, began, passed_on)
            progress = read_progress(folder)
        progress.seconds += seconds_below(folder)
        expected = inputs.get_input_set(cell)
        for run in progress.runs:
            check_run(run, expected["INCAR"], start, self.fidelity)
        calculation = self._document(progress, start, order, expected, uuid, guesses)
        if not unfinished(calculation):
            if passed_on is None:
                self._leave(calculation, asked, cell, order, expected, folder)
            else:
                if orbitals := last_wavecar(folder, expected["INCAR"]):
                    copy_whole(orbitals, passed_on)
                tidy(folder)
        return calculation

    def inputs(self, start: StartStructure, *, unpaired: int | None = None) -> ChargedCellSet:
        """Input set of one start structure; inspecting it needs no POTCARs.

        Parameters
        ----------
        start
            Charge state and defect.
        unpaired
            Unpaired electrons to fix.

        Returns
        -------
        ChargedCellSet
            Whose ``get_input_set`` takes the structure.
        """
        return ChargedCellSet(
            settings=self._vasp(),
            relax=self.kind is CalculationKind.RELAX,
            fmax=self._fidelity().fmax,
            steps=self._fidelity().steps,
            symmetric=start.defect is None,
            unpaired=start.spin if unpaired is None else unpaired,
        )

    def vasp_maker(self, start: StartStructure) -> BaseVaspMaker:
        """The same calculation as a job of atomate2's own, with atomate2's task document.

        Parameters
        ----------
        start
            Charge state and defect.

        Returns
        -------
        BaseVaspMaker
            Whose ``make`` takes the structure.
        """
        machine = get_settings()
        return BaseVaspMaker(
            name=self.name,
            input_set_generator=cast("VaspInputGenerator", self.inputs(start)),
            run_vasp_kwargs={
                "vasp_cmd": self._commands()[0],
                "vasp_gamma_cmd": self._commands()[1],
                "handlers": watch.handlers(
                    self._vasp(),
                    relax=self.kind is CalculationKind.RELAX,
                    reference=None,
                    limit=machine.vasp_walltime,
                    buffer=machine.vasp_buffer,
                    frozen=machine.vasp_frozen,
                ),
            },
        )

    def folder(self, uuid: str) -> Path:
        """Folder of a calculation; shared by all workers of a site."""
        return get_settings().scratch.resolve() / "vasp" / uuid

    def _document(
        self,
        progress: Progress,
        start: StartStructure,
        order: CellOrder,
        inputs: Any,
        uuid: str,
        more_calls: int = 0,
    ) -> Calculation:
        return calculation_of(
            progress,
            start,
            order,
            fidelity=self.fidelity,
            kind=self.kind,
            settings=self._vasp(),
            limits=(self._fidelity().fmax, self._fidelity().steps),
            inputs=inputs,
            uuid=uuid,
            more_calls=more_calls,
        )

    # -- one execution -------------------------------------------------------------------

    def _execute(
        self,
        start: StartStructure,
        cell: Structure,
        inputs: ChargedCellSet,
        folder: Path,
        progress: Progress,
        began: float,
        passed_on: Path | None = None,
    ) -> None:
        """Write inputs and run VASP in what earlier executions have left of the job's time."""
        geometry = last_geometry(folder, cell)
        orbitals = last_wavecar(folder, inputs.get_input_set(geometry)["INCAR"])
        if inputs.relax:
            inputs.steps = max(inputs.steps - len(progress.steps), 1)
        if orbitals is None and passed_on is not None and passed_on.is_file():
            orbitals = passed_on
        if orbitals is None and self._vasp().from_wavecar:
            orbitals = shared_wavecar(geometry, inputs.get_input_set(geometry))
            if not orbitals.is_file():
                orbitals = self._pbe_orbitals(start, geometry, inputs, folder, began)
        execution = next_execution(folder)
        write_inputs(geometry, inputs, execution)
        if orbitals is not None:
            copy_whole(orbitals, execution / "WAVECAR")
        machine = get_settings()
        run_in(
            execution,
            commands=self._commands(),
            auto_gamma=not self._vasp().soc,
            found_handlers=watch.handlers(
                self._vasp(),
                relax=inputs.relax,
                reference=None
                if start.label == UNPERTURBED
                else unperturbed_note(start, self._fidelity()),
                limit=machine.vasp_walltime,
                buffer=machine.vasp_buffer,
                frozen=machine.vasp_frozen,
                began=began,
            ),
            poll=machine.vasp_poll,
        )

    def _commands(self) -> tuple[str, str]:
        machine = get_settings()
        if self._vasp().soc:
            return machine.vasp_ncl_cmd, machine.vasp_ncl_cmd
        return machine.vasp_cmd, machine.vasp_gamma_cmd

    # -- spin, orbitals and energies that other runs left ----------------------------------

    def _guesses_spin(self, start: StartStructure) -> bool:
        return self._vasp().spin_guesses == 2 and start.spin is None

    def _better_spin(
        self, start: StartStructure, cell: Structure, folder: Path, began: float
    ) -> tuple[int, int, bool]:
        """Unpaired electrons of the lower of two guesses at the first geometry, and the calls.

        Last, whether both guesses have ended; if not, the job's time did not suffice.
        """
        if (noted := ChosenSpin.read(folder)) is not None:
            return noted.unpaired, noted.calls, True
        low = low_spin(cell)
        static = VaspReferenceMaker(self.name, self.fidelity, CalculationKind.STATIC, self.settings)
        energies: dict[int, float] = {}
        calls = 0
        for unpaired in (low, low + 2):
            place = folder / f"spin_{unpaired}"
            done = static._single_point(start, cell, place, unpaired, began)
            calls += done.calls
            if done.steps:
                energies[unpaired] = done.steps[-1].energy
            elif can_continue(done):
                return low, calls, False
        best = min(energies, key=lambda n: energies[n], default=low)
        ChosenSpin(best, energies, calls).write(folder)
        return best, calls, True

    def _single_point(
        self,
        start: StartStructure,
        cell: Structure,
        place: Path,
        unpaired: int | None,
        began: float,
    ) -> Progress:
        """What comes before the calculation itself, in a folder of its own."""
        inputs, done = self.inputs(start, unpaired=unpaired), read_progress(place)
        if not done.finished or (not done.steps and can_continue(done)):
            self._execute(start, cell, inputs, place, done, began)
            done = read_progress(place)
        expected = inputs.get_input_set(cell)["INCAR"]
        for run in done.runs:
            check_run(run, expected, start, self.fidelity)
        return done

    def _pbe_orbitals(
        self,
        start: StartStructure,
        geometry: Structure,
        inputs: ChargedCellSet,
        folder: Path,
        began: float,
    ) -> Path | None:
        """Orbitals of a PBE single point, from which a hybrid's SCF converges more surely."""
        if self._vasp().functional != "HSE06":
            return None
        settings = self._fidelity().model_copy(update={"settings": pbe_of(self._vasp())})
        name = f"PBE orbitals for {self.fidelity}"
        maker = VaspReferenceMaker(self.name, name, CalculationKind.STATIC, settings)
        maker._single_point(start, geometry, folder / PBE_FIRST, inputs.unpaired, began)
        return last_wavecar(folder / PBE_FIRST, inputs.get_input_set(geometry)["INCAR"])

    def _leave(
        self,
        calculation: Calculation,
        asked: StartStructure,
        cell: Structure,
        order: CellOrder,
        expected: Any,
        folder: Path,
    ) -> None:
        """Leave energy and orbitals to other runs, and tidy up."""
        final = calculation.final_structure
        if calculation.failure is None and final is not None and calculation.final_energy:
            if calculation.start == UNPERTURBED and self.kind is CalculationKind.RELAX:
                # Under the spin that was asked for, as distorted starts look for it.
                relaxed = asked.model_copy(update={"structure": final})
                note = unperturbed_note(relaxed, self._fidelity())
                note.parent.mkdir(parents=True, exist_ok=True)
                note.write_text(json.dumps({"energy": calculation.final_energy}))
            orbitals = last_wavecar(folder, expected["INCAR"])
            if self._vasp().keep_wavecar and orbitals is not None:
                geometry = with_charge(order.grouped(final), charge_of(cell))
                copy_whole(orbitals, shared_wavecar(geometry, expected))
        tidy(folder)

    # -- settings ------------------------------------------------------------------------

    def _fidelity(self) -> Any:
        if self.settings is None:
            raise EngineError(f"{self.name}: no fidelity settings; build it from a campaign.")
        return self.settings

    def _vasp(self) -> VaspSettings:
        return VaspSettings.model_validate(self._fidelity().settings)
