"""Host and defects."""

from __future__ import annotations

from dataclasses import dataclass, field

from jobflow import Maker, Response, job
from pymatgen.core import Structure

from defect_mf_flows.campaign import DefectSettings, HostSettings
from defect_mf_flows.core.defects import generate_defects
from defect_mf_flows.jobs.common import own_uuid
from defect_mf_flows.schemas.defect import DefectSet


@dataclass
class DefectsMaker(Maker):
    """Makes the supercell and its defects with doped.

    Parameters
    ----------
    name
        Job name.
    host
        Supercell settings.
    defects
        Which defects and charges.
    """

    name: str = "host and defects"
    host: HostSettings | None = None
    defects: DefectSettings = field(default_factory=DefectSettings)

    @job(data="entry", output_schema=DefectSet)
    def make(self, structure: Structure) -> Response:
        """Generate supercell and defects from the host's cell.

        Parameters
        ----------
        structure
            The host's cell.

        Returns
        -------
        DefectSet
            Host and defects.
        """
        assert self.host is not None
        made = generate_defects(structure, host=self.host, defects=self.defects)
        return Response(output=made.model_copy(update={"job_uuid": own_uuid()}))
