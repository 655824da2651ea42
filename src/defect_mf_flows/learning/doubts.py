"""Where on the way of a relaxation the members of a committee disagree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.core.stratified import evenly_spaced
from defect_mf_flows.core.uncertainty import force_spread
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.search import Doubt

if TYPE_CHECKING:
    from defect_mf_flows.learning.relaxed import Relaxed

#: Geometries of a relaxation that are looked at: neighbouring steps hardly differ.
LOOKS = 8


def find_doubts(
    model: Model, labels: list[str], ends: list[Relaxed], *, limit: float | None, device: str
) -> list[Doubt]:
    """Find geometries before the end of relaxations at which a committee disagrees.

    Parameters
    ----------
    model
        With its members.
    labels, ends
        Starts, and their relaxations with trajectories.
    limit
        Spread of the force on one atom, eV/Angstrom; None: nothing is looked for.
    device
        torch device.

    Returns
    -------
    list of Doubt
        In the order of the relaxations. Also of those that exploded: their start is where the
        model is wrong.
    """
    if limit is None or not model.members:
        return []
    looks = [
        (label, step, end.at(step))
        for label, end in zip(labels, ends, strict=True)
        for step in _steps(end)
    ]
    if not looks:
        return []
    forces = _forces(model, [structure for *_, structure in looks], device)
    spreads = [force_spread(np.array(each)) for each in zip(*forces, strict=True)]
    return [
        Doubt(start=label, step=step, force_spread=spread, structure=structure)
        for (label, step, structure), spread in zip(looks, spreads, strict=True)
        if spread > limit
    ]


def _steps(end: Relaxed) -> list[int]:
    """Steps to look at; the end itself is a predicted minimum, which has its own way to labels."""
    before = 0 if end.trajectory is None else len(end.trajectory.energies) - 1
    return evenly_spaced(before, LOOKS)


def _forces(model: Model, structures: list[Structure], device: str) -> list[list[np.ndarray]]:
    """Per member the forces of every structure, shape (n_atoms, 3), eV/Angstrom."""
    found = []
    for member in [model, *model.members]:
        potential = Potential(member, head=model.heads[-1], device=device)
        found.append([forces for _, forces in potential.predict(structures)])
    return found
