"""CP2K's output (seen: 2023.1) with the positions of a relaxation from ``PROJECT-pos-1.xyz``.

pymatgen's ``Cp2kOutput`` takes energies from any other project in the same folder and loses the
order of the SCF's ends, so it is not used.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import Bohr, Hartree
from monty.io import zopen

from defect_mf_flows.errors import ImportingError

#: Energies that are printed twice agree to this, Hartree.
_SAME_ENERGY = 1e-9


def cp2k_images(path: Path) -> Iterator[tuple[Atoms, dict[str, Any]]]:
    """Every geometry with energy and forces, and what the file tells of charge and method.

    Parameters
    ----------
    path
        Output with ``&FORCES ON``.

    Yields
    ------
    atoms, told
        Energies in eV and forces in eV/A, converted from Hartree and Bohr.

    Raises
    ------
    ImportingError
        If it holds none, or the positions of a later step cannot be found.
    """
    told: dict[str, Any] = {"program": "cp2k", "scf_converged": False, "kpoints": "1x1x1"}
    cell: list[list[float]] = []
    first: Atoms | None = None
    waiting: dict[str, Any] = {}
    count = 0
    with zopen(path, "rt", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith(" CELL| Vector") and len(cell) < 3:
                cell.append([float(x) for x in line.split("]:")[1].split()[:3]])
            elif "ATOMIC COORDINATES IN" in line.upper() and first is None:
                first = _coordinates(lines, cell)
            elif "SCF run converged in" in line:
                told["scf_converged"] = True
            elif line.startswith(" ENERGY| Total FORCE_EVAL"):
                waiting = {"energy": float(line.split()[-1])}
            elif line.startswith(" ATOMIC FORCES in [a.u.]"):
                waiting["forces"] = _forces(lines)
                if first is not None and "energy" in waiting:
                    yield _image(path, told, first, waiting, count), dict(told)
                    count += 1
                told["scf_converged"] = False
            else:
                _tell(line, told)
    if not count:
        raise ImportingError(
            f"{path}: no energy with forces; CP2K prints them with &FORCES ON in FORCE_EVAL/PRINT."
        )


def _tell(line: str, told: dict[str, Any]) -> None:
    for start, key in (
        (" DFT| Charge", "charge"),
        (" CP2K| version string", "version"),
        (" GLOBAL| Project name", "project"),
        (" QS| Density cutoff [a.u.]", "encut"),
    ):
        if line.startswith(start):
            word = line.split()[-1]
            told[key] = float(word) if key in ("charge", "encut") else word
    if line.startswith(" FUNCTIONAL| ") and line.rstrip().endswith(":"):
        name = line.split("|")[1].strip(" :\n")
        told["functional"] = "+".join(sorted({*told.get("functional", name).split("+"), name}))
    elif line.startswith(" BRILLOUIN| K-point grid"):
        told["kpoints"] = "x".join(line.split()[-3:])


def _coordinates(lines: Any, cell: list[list[float]]) -> Atoms:
    symbols, positions = [], []
    for line in lines:
        words = line.split()
        if len(words) == 9 and words[0].isdigit():
            symbols.append(words[2])
            positions.append([float(x) for x in words[4:7]])
        elif symbols:
            break
    return Atoms(symbols, positions=positions, cell=cell, pbc=True)


def _forces(lines: Any) -> np.ndarray:
    found = []
    for line in lines:
        words = line.split()
        if len(words) == 6 and words[0].isdigit():
            found.append([float(x) for x in words[3:]])
        elif line.startswith(" SUM OF"):
            break
    return np.array(found) * Hartree / Bohr


def _image(
    path: Path, told: dict[str, Any], first: Atoms, step: dict[str, Any], number: int
) -> Atoms:
    image = first.copy()
    if number:
        image.positions = _later(path, str(told.get("project")), step["energy"], number)
    if len(step["forces"]) != len(image):
        raise ImportingError(f"{path}, step {number}: {len(step['forces'])} forces; cut off.")
    image.calc = SinglePointCalculator(
        image, energy=step["energy"] * Hartree, forces=step["forces"]
    )
    return image


def _later(path: Path, project: str, energy: float, number: int) -> np.ndarray:
    """Positions of a later step: those that the trajectory gives the same energy."""
    trajectory = path.parent / f"{project}-pos-1.xyz"
    if not trajectory.is_file():
        raise ImportingError(
            f"{path}: the positions of step {number} are in {trajectory.name}, which is missing; "
            "put it beside the output."
        )
    with trajectory.open() as lines:
        titles = [line for line in lines if "E =" in line]
    for index, title in enumerate(titles):
        if abs(float(title.rpartition("E =")[2]) - energy) <= _SAME_ENERGY:
            image: Any = ase.io.read(trajectory, index=index, format="xyz")
            return np.array(image.positions)
    raise ImportingError(
        f"{path}, step {number}: {trajectory.name} has no geometry with its energy; the two files "
        "belong to different runs."
    )
