"""Curvature of the model where a high-fidelity relaxation begins."""

from __future__ import annotations

import numpy as np
from jobflow import job
from pymatgen.core import Structure

from defect_mf_flows.core.charge import with_spin
from defect_mf_flows.core.vibrations import curvature
from defect_mf_flows.jobs.common import WITH_STORE, job_store, own_uuid, read_output
from defect_mf_flows.schemas.curvature import Curvature, geometry_hash, triangle_of
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.model import Model


@job(data=["triangle"], config=WITH_STORE, output_schema=Curvature)
def model_curvature(start: StartStructure, model_uuid: str, device: str) -> Curvature:
    """Ask the highest head of a model how its energy bends at a start.

    Parameters
    ----------
    start
        What will be relaxed there.
    model_uuid
        uuid of the training job.
    device
        torch device.

    Returns
    -------
    Curvature
        By finite differences of the model's forces.

    Raises
    ------
    ChargeError
        If the head was not trained on the charge or spin.
    """
    from defect_mf_flows.learning.potential import Potential

    model = read_output(job_store(), model_uuid, Model, load=True)
    potential = Potential(model, head=model.heads[-1], device=device)

    def forces(cells: list[Structure]) -> list[np.ndarray]:
        return [found for _, found in potential.predict(cells)]

    return Curvature(
        job_uuid=own_uuid(),
        charge=start.charge,
        spin=start.spin,
        head=potential.head,
        model_hash=model.model_hash,
        geometry=geometry_hash(start),
        n_atoms=len(start.structure),
        triangle=triangle_of(curvature(with_spin(start.structure, start.spin), forces)),
    )
