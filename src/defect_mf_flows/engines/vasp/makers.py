"""VASP as a reference engine, on atomate2's Maker and custodian."""

from __future__ import annotations

import json
import logging
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from atomate2.vasp.files import write_vasp_input_set
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
from defect_mf_flows.engines.vasp.results import (
    CellOrder,
    calculation_of,
    can_continue,
    check_run,
    unfinished,
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
)
from defect_mf_flows.engines.vasp.sets import ChargedCellSet
from defect_mf_flows.errors import EngineError
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind, EngineRecord
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.frame import content_hash
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
        calculation = self.compute(start, uuid=current.uuid)
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

    def compute(self, start: StartStructure, *, uuid: str) -> Calculation:
        """Run VASP once on a start structure, from where earlier executions ended.

        Parameters
        ----------
        start
            Geometry, charge and spin.
        uuid
            uuid of the calculation, and name of its folder.

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
        began, settings = time.time(), self._vasp()
        order = CellOrder.of(start.structure)
        cell = with_charge(order.grouped(start.structure), start.charge)
        folder = self.folder(uuid)
        progress = read_progress(folder)
        unpaired, guesses, decided = start.spin, 0, True
        if settings.spin_guesses == 2 and start.spin is None:
            unpaired, guesses, decided = self._better_spin(start, cell, folder, began)
        asked, start = start, start.model_copy(update={"spin": unpaired})
        inputs = self.inputs(start)
        if decided and (not progress.finished or watch.WALLTIME in progress.errors):
            self._execute(asked, cell, inputs, folder, progress, began)
            progress = read_progress(folder)
        progress.seconds += seconds_below(folder)
        expected = inputs.get_input_set(cell)
        for run in progress.runs:
            check_run(run, expected["INCAR"], start, self.fidelity)
        calculation = calculation_of(
            progress,
            start,
            order,
            fidelity=self.fidelity,
            kind=self.kind,
            settings=settings,
            limits=(self._fidelity().fmax, self._fidelity().steps),
            inputs=expected,
            uuid=uuid,
            more_calls=guesses,
        )
        if not unfinished(calculation):
            self._leave(calculation, asked, cell, order, expected, folder)
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

    # -- one execution -------------------------------------------------------------------

    def _execute(
        self,
        start: StartStructure,
        cell: Structure,
        inputs: ChargedCellSet,
        folder: Path,
        progress: Progress,
        began: float,
    ) -> None:
        """Write inputs and run VASP in what earlier executions have left of the job's time."""
        geometry = last_geometry(folder, cell)
        orbitals = last_wavecar(folder, inputs.get_input_set(geometry)["INCAR"])
        if inputs.relax:
            inputs.steps = max(inputs.steps - len(progress.steps), 1)
        if orbitals is None and self._vasp().from_wavecar:
            orbitals = shared_wavecar(geometry, inputs.get_input_set(geometry))
            if not orbitals.is_file():
                orbitals = self._pbe_orbitals(start, geometry, inputs, folder, began)
        execution = next_execution(folder)
        self._write(geometry, inputs, execution)
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
                reference=None if start.label == UNPERTURBED else self._reference(start),
                limit=machine.vasp_walltime,
                buffer=machine.vasp_buffer,
                frozen=machine.vasp_frozen,
                began=began,
            ),
            poll=machine.vasp_poll,
        )

    def _write(self, geometry: Structure, inputs: ChargedCellSet, execution: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Settings of atomate2 for all its users must not change a fidelity.
            write_vasp_input_set(
                geometry,
                cast("VaspInputGenerator", inputs),
                execution,
                apply_incar_updates=False,
                clean_prev=False,
            )

    def _commands(self) -> tuple[str, str]:
        machine = get_settings()
        if self._vasp().soc:
            return machine.vasp_ncl_cmd, machine.vasp_ncl_cmd
        return machine.vasp_cmd, machine.vasp_gamma_cmd

    # -- spin, orbitals and energies that other runs left ----------------------------------

    def _better_spin(
        self, start: StartStructure, cell: Structure, folder: Path, began: float
    ) -> tuple[int, int, bool]:
        """Unpaired electrons of the lower of two guesses at the first geometry, and the calls.

        Last, whether both guesses have ended; if not, the job's time did not suffice.
        """
        note = folder / "spin.json"
        if note.is_file():
            content = json.loads(note.read_text())
            return int(content["unpaired"]), int(content["calls"]), True
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
        note.write_text(json.dumps({"unpaired": best, "energies": energies, "calls": calls}))
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

    def _reference(self, start: StartStructure) -> Path:
        """Where the unperturbed start's run notes its energy for the distorted ones."""
        key = content_hash(
            {
                "settings": self._fidelity().settings,
                "defect": start.defect,
                "charge": start.charge,
                "spin": start.spin,
                "lattice": np.round(start.structure.lattice.matrix, 5).tolist(),
                "formula": start.structure.composition.formula,
            }
        )
        return get_settings().scratch.resolve() / "vasp" / "unperturbed" / f"{key}.json"

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
                note = self._reference(asked.model_copy(update={"structure": final}))
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
