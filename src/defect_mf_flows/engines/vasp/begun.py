"""What another campaign's relaxation has reached, laid into the folder of the one that goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.core.charge import charge_of, with_charge
from defect_mf_flows.engines.vasp.outcar import RawStep
from defect_mf_flows.schemas.frame import Frame

BEGUN = "begun.json"
#: Tags that say where a relaxation ends and not which way it goes.
LIMITS = ("NSW", "EDIFFG")
#: What decides the way, of what a calculation records.
DECISIVE = ("charge", "kpoints", "potcars")


@dataclass(frozen=True)
class Begun:
    """Ionic steps of another campaign's relaxation, atoms in POSCAR's order.

    Attributes
    ----------
    calculation
        Its uuid.
    steps
        At least one.
    """

    calculation: str
    steps: list[RawStep]

    @property
    def passed(self) -> list[RawStep]:
        """All but the last, whose geometry VASP starts from and computes again."""
        return self.steps[:-1]

    @property
    def note(self) -> str:
        """For the calculation that goes on."""
        return f"step {len(self.steps) - 1}: continues {self.calculation}"

    def continued(self, start: Structure) -> Structure:
        """The start with its atoms where the relaxation stopped.

        Parameters
        ----------
        start
            In POSCAR's order, with its charge.
        """
        symbols = [site.specie.symbol for site in start]
        moved = Structure(
            start.lattice, symbols, self.steps[-1].positions, coords_are_cartesian=True
        )
        return with_charge(moved, charge_of(start))


def raw_step(frame: Frame, indices: tuple[int, ...]) -> RawStep:
    """Turn a frame back into an ionic step.

    Parameters
    ----------
    frame
        Of VASP.
    indices
        Index into the frame's cell for every atom of POSCAR.
    """
    chosen = list(indices)
    return RawStep(
        cell=frame.structure.lattice.matrix,
        positions=frame.structure.cart_coords[chosen],
        energy=frame.energy,
        forces=None if frame.forces is None else np.asarray(frame.forces)[chosen],
        stress=None if frame.stress is None else np.asarray(frame.stress),
        scf_converged=True,
    )


def leave_begun(begun: Begun, folder: Path) -> None:
    """Write it into the folder of the calculation that goes on, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "calculation": begun.calculation,
        "steps": [
            {
                "cell": step.cell.tolist(),
                "positions": step.positions.tolist(),
                "energy": step.energy,
                "forces": None if step.forces is None else step.forces.tolist(),
                "stress": None if step.stress is None else step.stress.tolist(),
            }
            for step in begun.steps
        ],
    }
    part = folder / f"{BEGUN}.part"
    part.write_text(json.dumps(content))
    part.replace(folder / BEGUN)


def read_begun(folder: Path) -> Begun | None:
    """Read what was laid into a calculation's folder; None if nothing was."""
    path = folder / BEGUN
    if not path.is_file():
        return None
    content = json.loads(path.read_text())
    steps = [
        RawStep(
            cell=np.array(step["cell"]),
            positions=np.array(step["positions"]),
            energy=step["energy"],
            forces=None if step["forces"] is None else np.array(step["forces"]),
            stress=None if step["stress"] is None else np.array(step["stress"]),
            scf_converged=True,
        )
        for step in content["steps"]
    ]
    return Begun(content["calculation"], steps)


def same_inputs(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether VASP got the same inputs twice, but for where a relaxation ends.

    Parameters
    ----------
    one, other
        As calculations record them.
    """

    def decisive(record: Mapping[str, Any]) -> list[Any]:
        incar = {k: v for k, v in record.get("incar", {}).items() if k not in LIMITS}
        return [incar, *(record.get(name) for name in DECISIVE)]

    return decisive(one) == decisive(other)
