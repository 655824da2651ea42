"""Dynamics of one charge state, on the model of a campaign or of a folder."""

from __future__ import annotations

from pathlib import Path

from defect_mf_flows.core.charge import charge_of
from defect_mf_flows.core.notation import charge_text
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.learning.dynamics import Progress, model_dynamics
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.results.cells import ModelCells
from defect_mf_flows.schemas.dynamics import DynamicsReport, DynamicsSettings


def cell_dynamics(
    cells: ModelCells,
    settings: DynamicsSettings,
    path: Path,
    *,
    steps: int,
    device: str = "cpu",
    progress: Progress = lambda done, total: None,
) -> DynamicsReport:
    """Dynamics of the only one of some cells.

    Parameters
    ----------
    cells
        One cell and its model.
    settings
        Of the dynamics.
    path
        Trajectory to write, or to continue.
    steps
        In all.
    device
        torch device.
    progress
        Called with steps done and in all.

    Returns
    -------
    DynamicsReport

    Raises
    ------
    ResultsError
        If there are several cells.
    """
    if len(cells.cells) != 1:
        charges = ", ".join(charge_text(charge_of(c.structure)) for c in cells.cells)
        raise ResultsError(f"{cells.source}: charges {charges}; give one of them (--charge).")
    (cell,) = cells.cells
    found = model_dynamics(
        Potential(cells.model, head=cells.head, device=device),
        cell.structure,
        settings,
        path,
        steps=steps,
        defect=cell.defect,
        pairs=cell.pairs,
        progress=progress,
    )
    return found.model_copy(update={"notes": [*cells.notes, *found.notes]})
