"""GPAW's text output in the layout with tables (seen: 26.7), which ASE's reader cannot read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from monty.io import zopen

from defect_mf_flows.errors import ImportingError

_VERSION = re.compile(r"\|__\|\|\s+\| \|\|/\\\|\s*-\s*(\S+)")
_PARAMETER = re.compile(r"^  (mode|xc|charge)=(.+?),?$")
_GRID = re.compile(r"Monkhorst-Pack size: \[(\d+), (\d+), (\d+)\]")


def gpaw_images(path: Path) -> Iterator[tuple[Atoms, dict[str, Any]]]:
    """Every geometry with energy and forces, and what the file tells of charge and method.

    Parameters
    ----------
    path
        Text output.

    Yields
    ------
    atoms, told
        ``told["charge"]`` is the file's own.

    Raises
    ------
    ImportingError
        If the file has none, for example of an older GPAW.
    """
    told: dict[str, Any] = {"program": "gpaw", "scf_converged": False}
    atoms, cell, energy, count = None, None, None, 0
    with zopen(path, "rt", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("Atoms  #"):
                atoms, told["scf_converged"] = _atoms(lines), False
            elif line.startswith("Unit cell  #"):
                cell = _rows(lines, slice(2, 5))
            elif line.startswith("Converged in"):
                told["scf_converged"] = True
            elif line.startswith("  Extrapolated:"):
                energy = float(line.split()[1])
            elif line.startswith("Forces  #"):
                forces = _rows(lines, slice(1, 4))
                if atoms is not None and cell is not None and len(forces) == len(atoms):
                    count += 1
                    yield _image(atoms, cell, energy, forces), dict(told)
            else:
                _tell(line, told)
    if not count:
        raise ImportingError(
            f"{path}: no energy with forces in the layout of GPAW 25 and later; write an older "
            "GPAW's results as extended XYZ with ase convert, and add the charge."
        )


def _tell(line: str, told: dict[str, Any]) -> None:
    if match := _PARAMETER.match(line):
        if match[1] != "charge":
            told[match[1]] = match[2]
    elif line.startswith("  Charge:"):
        told["charge"] = float(line.split()[1])
    elif match := _GRID.search(line):
        told["kpoints"] = "x".join(match.groups())
    elif match := _VERSION.search(line):
        told["version"] = match[1]


def _image(atoms: Atoms, cell: np.ndarray, energy: float | None, forces: np.ndarray) -> Atoms:
    image = atoms.copy()
    image.set_cell(cell)
    image.pbc = True
    image.calc = SinglePointCalculator(image, energy=energy, forces=forces)
    return image


def _table(lines: Any) -> Iterator[list[str]]:
    """Cells of the rows of a table, without its heading."""
    next(lines, "")
    next(lines, "")
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.split("|")]


def _rows(lines: Any, columns: slice) -> np.ndarray:
    return np.array([[float(x) for x in cells[columns]] for cells in _table(lines)])


def _atoms(lines: Any) -> Atoms:
    rows = list(_table(lines))
    positions = [[float(x) for x in cells[3:6]] for cells in rows]
    return Atoms([cells[2] for cells in rows], positions=positions)
