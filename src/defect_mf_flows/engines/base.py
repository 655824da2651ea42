"""The interface every reference engine fulfils."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from jobflow import CURRENT_JOB, JobConfig, JobStore, Maker, Response, job
from monty.json import MontyDecoder

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.core.charge import charge_of
from defect_mf_flows.engines.checkpoint import forget_stored
from defect_mf_flows.engines.imported import find_imported
from defect_mf_flows.engines.reuse import (
    find_begun,
    find_finished,
    input_hash,
    read_single_point,
    take_over,
)
from defect_mf_flows.errors import ChargeError, EngineError
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind, EngineRecord
from defect_mf_flows.schemas.curvature import Curvature
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.settings import get_settings

logger = logging.getLogger(__name__)


@dataclass
class ReferenceMaker(Maker):
    """Relaxes a start structure, or computes its energy and forces, at one fidelity.

    An engine subclasses this and writes ``compute``; flow, dataset and search know only
    ``make`` and the ``Calculation`` that comes back.

    Parameters
    ----------
    name
        Job name.
    fidelity
        Name of the fidelity; the labels carry it.
    kind
        Relaxation or single point.
    settings
        Engine, its settings, force threshold and step limit.
    reuse
        Take over a finished calculation with identical input, if the store holds one.
    guide
        Maker of a cheaper fidelity that guides the relaxations, for engines that move the atoms
        themselves.
    """

    name: str = "reference"
    fidelity: str = ""
    kind: CalculationKind = CalculationKind.STATIC
    settings: FidelitySettings | None = None
    reuse: bool = False
    guide: ReferenceMaker | None = None
    #: Whether it moves the atoms itself, so that a relaxation can begin from what others computed.
    own_minimiser: ClassVar[bool] = False

    @job(data="frames", config=JobConfig(expose_store=True), output_schema=Calculation)
    def make(
        self,
        start: StartStructure,
        curvature_uuid: str | None = None,
        single_point_uuid: str | None = None,
    ) -> Response:
        """Compute one start structure as a job.

        Parameters
        ----------
        start
            Geometry, charge and spin.
        curvature_uuid
            uuid of the job that asked a model for its curvature there, if one did.
        single_point_uuid
            uuid of a calculation of this fidelity there, if there is one: the first step of a
            relaxation, which is not computed again.

        Returns
        -------
        Calculation
            With every ionic step as a frame, or with its failure.
        """
        forget_old_checkpoints()
        uuid = CURRENT_JOB.job.uuid
        if self.reuse and (known := self._known(start, uuid)) is not None:
            return Response(output=take_over(known, start, fidelity=self.fidelity, uuid=uuid))
        begun = self._begun(start, uuid) if self.reuse else None
        saved = 0 if begun is None else begun.n_calls + begun.calls_saved
        if begun is None and single_point_uuid is not None:
            begun = read_single_point(CURRENT_JOB.store, single_point_uuid, start)
        curvature = read_curvature(CURRENT_JOB.store, curvature_uuid)
        if begun is not None:
            done = self.resume(start, begun, uuid=uuid, curvature=curvature)
        else:
            done = self.compute(start, uuid=uuid, curvature=curvature)
        done = done.model_copy(update={"calls_saved": saved})
        return Response(output=self.hashed(done, start, done.engine))

    def hashed(self, done: Calculation, start: StartStructure, engine: EngineRecord) -> Calculation:
        """Copy a calculation with what others find it by.

        Parameters
        ----------
        done
            The finished calculation of ``start``.
        start
            What was asked for.
        engine
            As ``engine_record`` says it for ``start``.

        Returns
        -------
        Calculation
            With the hash of its input and its lowest energy, eV.
        """
        lowest = min((frame.energy for frame in done.frames), default=None)
        update = {"input_hash": self._input_hash(start, engine), "lowest_energy": lowest}
        return done.model_copy(update=update)

    def _known(self, start: StartStructure, uuid: str) -> Calculation | None:
        """A finished calculation of the same input in the running job's store, or None."""
        check_start(start)
        engine = self.engine_record(start)
        key = None if engine is None else self._input_hash(start, engine)
        known = None if key is None else find_finished(CURRENT_JOB.store, key, but=uuid)
        if known is not None or self.settings is None:
            return known
        return find_imported(
            CURRENT_JOB.store,
            start,
            fidelity=self.fidelity,
            kind=self.kind,
            settings=self.settings,
        )

    def _begun(self, start: StartStructure, uuid: str) -> Calculation | None:
        """A relaxation of the same input that another campaign ended sooner, or None."""
        engine = self.engine_record(start)
        if engine is None or self.kind is not CalculationKind.RELAX:
            return None
        return find_begun(
            CURRENT_JOB.store,
            start,
            engine,
            but=uuid,
            same_method=lambda found: self.has_method_of(found, start, engine),
        )

    def has_method_of(
        self, found: Calculation, start: StartStructure, engine: EngineRecord
    ) -> bool:
        """Tell whether a relaxation went as this Maker would let it go.

        Parameters
        ----------
        found
            A relaxation of the same charge.
        start
            What is asked for.
        engine
            As ``engine_record`` says it for ``start``.

        Returns
        -------
        bool
            Limits of steps and forces do not count.
        """
        guide = None if found.guide is None else found.guide.engine
        return (found.engine, found.spin, guide) == (engine, start.spin, self.guide_record(start))

    def _input_hash(self, start: StartStructure, engine: EngineRecord) -> str | None:
        if self.settings is None:
            return None
        return input_hash(start, self.kind, self.settings, engine, guide=self.guide_record(start))

    def guide_record(self, start: StartStructure) -> EngineRecord | None:
        """Say which program would guide the relaxation of a start.

        Parameters
        ----------
        start
            Geometry, charge and spin.

        Returns
        -------
        EngineRecord or None
            None where nothing guides.
        """
        if self.guide is None or self.kind is not CalculationKind.RELAX:
            return None
        return self.guide.engine_record(start)

    def engine_record(self, start: StartStructure) -> EngineRecord | None:
        """Say which program would compute a start, with which settings.

        Parameters
        ----------
        start
            Geometry, charge and spin.

        Returns
        -------
        EngineRecord or None
            The one that ``compute`` would write into its calculation. None, as for engines
            that do not define this, means that nothing is reused.
        """
        return None

    def compute(
        self, start: StartStructure, *, uuid: str, curvature: Curvature | None = None
    ) -> Calculation:
        """Compute one start structure now; to be written by each engine."""
        raise TypeError(f"{type(self).__name__} must define compute()")

    def resume(
        self,
        start: StartStructure,
        begun: Calculation,
        *,
        uuid: str,
        curvature: Curvature | None = None,
    ) -> Calculation:
        """Continue a relaxation; engines that cannot compute it anew.

        Parameters
        ----------
        start
            What is asked for.
        begun
            Relaxation of the same input that ended too soon, with its frames.
        uuid
            uuid of the calculation.
        curvature
            Of a model at its start.

        Returns
        -------
        Calculation
            That counts its own calls alone.
        """
        return self.compute(start, uuid=uuid, curvature=curvature)


def read_curvature(store: JobStore, uuid: str | None) -> Curvature | None:
    """Read the curvature that a job has asked a model for.

    Parameters
    ----------
    store
        Of the running job.
    uuid
        Of that job, or None.

    Returns
    -------
    Curvature or None
        None without a job.

    Raises
    ------
    EngineError
        If the job's output is something else.
    """
    if uuid is None:
        return None
    content = store.get_output(uuid, load=True)
    found = MontyDecoder().process_decoded(content)
    if not isinstance(found, Curvature):
        raise EngineError(
            f"the output of job {uuid} is a {type(found).__name__} and no Curvature; give the job "
            "that computed it."
        )
    return found


def job_scratch(uuid: str) -> Path | None:
    """Where a job keeps its checkpoint.

    Parameters
    ----------
    uuid
        uuid of the calculation.

    Returns
    -------
    Path or None
        The machine's scratch folder; None outside the job, where nobody would come back.
    """
    running = CURRENT_JOB.job
    return get_settings().scratch if running is not None and running.uuid == uuid else None


def forget_old_checkpoints() -> None:
    """Remove the checkpoints of this machine whose jobs have their output in the store."""
    store = CURRENT_JOB.store

    def stored(uuids: list[str]) -> set[str]:
        found = store.query({"uuid": {"$in": uuids}}, properties=["uuid"])
        return {str(document["uuid"]) for document in found}

    try:
        forget_stored(get_settings().scratch, stored)
    except Exception as error:  # of the database's client, whatever it is
        logger.warning("old checkpoints stay for now: %s", str(error)[:200])


def check_start(start: StartStructure) -> None:
    """Refuse a start whose structure does not carry its charge.

    Raises
    ------
    ChargeError
        If the charges differ.
    """
    if charge_of(start.structure) != start.charge:
        raise ChargeError(f"start {start.label}: structure and charge state differ in charge.")
