"""The interface every reference engine fulfils."""

from __future__ import annotations

from dataclasses import dataclass

from jobflow import CURRENT_JOB, Maker, Response, job

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.core.charge import charge_of
from defect_mf_flows.errors import ChargeError
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind
from defect_mf_flows.schemas.defect import StartStructure


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
    """

    name: str = "reference"
    fidelity: str = ""
    kind: CalculationKind = CalculationKind.STATIC
    settings: FidelitySettings | None = None

    @job(data="frames", output_schema=Calculation)
    def make(self, start: StartStructure) -> Response:
        """Compute one start structure as a job.

        Parameters
        ----------
        start
            Geometry, charge and spin.

        Returns
        -------
        Calculation
            With every ionic step as a frame, or with its failure.
        """
        return Response(output=self.compute(start, uuid=CURRENT_JOB.job.uuid))

    def compute(self, start: StartStructure, *, uuid: str) -> Calculation:
        """Compute one start structure now; to be written by each engine."""
        raise TypeError(f"{type(self).__name__} must define compute()")


def check_start(start: StartStructure) -> None:
    """Refuse a start whose structure does not carry its charge.

    Raises
    ------
    ChargeError
        If the charges differ.
    """
    if charge_of(start.structure) != start.charge:
        raise ChargeError(f"start {start.label}: structure and charge state differ in charge.")
