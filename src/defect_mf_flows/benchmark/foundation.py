"""Benchmark of foundation models against known ground states of charged defects."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.benchmark.foundation_models import (
    FoundationModel,
    find_model,
    is_charge_blind,
    load_model,
)
from defect_mf_flows.benchmark.foundation_page import write_page
from defect_mf_flows.benchmark.known import Known
from defect_mf_flows.core.charge import from_atoms, to_atoms, with_charge
from defect_mf_flows.core.matching import symmetric_deviation
from defect_mf_flows.errors import TrainingError
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.frame import content_hash, structure_key

if TYPE_CHECKING:
    from ase.calculators.calculator import Calculator

logger = logging.getLogger(__name__)

#: Forces beyond all reason, eV/A.
MAX_FORCE = 1e3
#: An end this far below the median of its charge state has collapsed, eV per cell.
COLLAPSED = 15.0


@dataclass(frozen=True)
class Search:
    """How starts are relaxed.

    Attributes
    ----------
    fmax, steps
        FIRE ends at this force (eV/A) or after this many steps.
    """

    fmax: float = 0.03
    steps: int = 200

    @property
    def limits(self) -> str:
        """Both, as a sentence of the page."""
        return f"FIRE to {self.fmax} eV/A, at most {self.steps} steps."


def run(
    models: list[str],
    known: list[Known],
    search: Search,
    *,
    scratch: Path,
    out: Path,
    command: str,
    variant: str = "",
) -> Path:
    """Relax all starts with every model, compare with the known ground states, write the page.

    Parameters
    ----------
    models
        ``NAME`` or ``NAME=PATH``. A model that another environment has run into the same
        ``scratch`` need not be installed in this one.
    known
        Defects with known ground states.
    search
        Limits of the relaxations.
    scratch
        Cache: a file per relaxation, so that an interrupted benchmark continues.
    out, command, variant
        Of the page.

    Returns
    -------
    Path
        The page.
    """
    cache = scratch / "foundation"
    cache.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    for text in models:
        try:
            found[text.partition("=")[0]] = _searched(text, known, search, cache)
        except TrainingError as error:
            logger.warning("%s: %s", text, error)
            missing[text.partition("=")[0]] = str(error)
    rows = [
        {"model": name, "defect": item.defect.name, **row}
        for name, result in found.items()
        for item, ends in zip(known, result["ends"], strict=True)
        for row in _compared(item, ends)
    ]
    heads = {name: {k: v for k, v in r.items() if k != "ends"} for name, r in found.items()}
    return write_page(
        rows, heads, missing, known, search.limits, out=out, command=command, variant=variant
    )


def _searched(text: str, known: list[Known], search: Search, cache: Path) -> dict[str, Any]:
    """Every relaxation of a model, and what the model is."""
    model, path = find_model(text)
    identity = [model.name, None if path is None else content_hash([path.read_bytes().hex()])]
    head = cache / f"{content_hash(identity)[:20]}.json"
    wanted = [
        (start, cache / f"{content_hash([identity, _key(start), search.fmax, search.steps])}.json")
        for item in known
        for starts in item.starts.values()
        for start in starts
    ]
    if not (head.is_file() and all(file.is_file() for _, file in wanted)):
        calculator = load_model(model, path)
        about = _about(model, path, calculator, wanted[0][0].structure)
        _write(head, about)
        for number, (start, file) in enumerate(wanted, start=1):
            if not file.is_file():
                _write(file, relax_start(calculator, start, search))
            logger.info("%s: %d of %d relaxations", model.name, number, len(wanted))
    ends = iter([json.loads(file.read_text()) for _, file in wanted])
    return {**json.loads(head.read_text()), "ends": [_by_charge(k, ends) for k in known]}


def _by_charge(known: Known, ends: Iterator[Any]) -> dict[int, list[tuple[str, dict[str, Any]]]]:
    return {q: [(s.label, next(ends)) for s in starts] for q, starts in known.starts.items()}


def _key(start: StartStructure) -> list[Any]:
    return [start.charge, structure_key(start.structure)]


def _about(
    model: FoundationModel, path: Path | None, calculator: Calculator, structure: Structure
) -> dict[str, Any]:
    return {
        "version": model.version,
        "weights": "in the package" if model.bundled else "downloaded",
        **({"weights": path.name} if path is not None else {}),
        "blind": is_charge_blind(calculator, to_atoms(structure)),
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content))
    temporary.replace(path)


def relax_start(calculator: Calculator, start: StartStructure, search: Search) -> dict[str, Any]:
    """Relax one start at fixed cell with ASE's FIRE.

    Parameters
    ----------
    calculator
        Of a foundation model.
    start
        Its charge is attached to the atoms, for models that read it.
    search
        Limits.

    Returns
    -------
    dict
        ``energy`` (eV per cell), ``converged``, ``steps``, ``seconds``, ``structure``; or
        ``problem`` where it exploded.
    """
    from ase.optimize import FIRE

    atoms = to_atoms(start.structure)
    atoms.calc = calculator
    calculator.reset()
    began, steps = time.monotonic(), 0
    try:
        optimizer = FIRE(atoms, logfile=None)
        for _ in optimizer.irun(fmax=search.fmax, steps=search.steps):
            forces, steps = atoms.get_forces(), optimizer.nsteps
            if not np.isfinite(forces).all() or np.abs(forces).max() > MAX_FORCE:
                return {"problem": f"forces beyond {MAX_FORCE:g} eV/A", "steps": steps}
        energy = float(atoms.get_potential_energy())
        converged = bool(np.linalg.norm(atoms.get_forces(), axis=1).max() <= search.fmax)
    except Exception as error:  # a model may refuse an exploding geometry in its own way
        return {"problem": f"{type(error).__name__}: {error}"[:200], "steps": steps}
    bare = atoms.copy()
    return {
        "energy": energy,
        "converged": converged,
        "steps": steps,
        "seconds": time.monotonic() - began,
        "structure": with_charge(from_atoms(bare), start.charge).as_dict(),
    }


def _compared(
    known: Known, ends: dict[int, list[tuple[str, dict[str, Any]]]]
) -> list[dict[str, Any]]:
    """One row per relaxation: energy above the model's lowest of the charge, RMSD, ..."""
    rows = []
    for charge, items in ends.items():
        every = [end["energy"] for _, end in items if "energy" in end]
        floor = float(np.median(every)) - COLLAPSED if every else 0.0
        energies = [energy for energy in every if energy >= floor]
        for label, end in items:
            row: dict[str, Any] = {"charge": charge, "start": label, "steps": end["steps"]}
            if "energy" not in end:
                rows.append({**row, "problem": end["problem"]})
                continue
            if end["energy"] < floor:
                below = floor + COLLAPSED - end["energy"]
                rows.append({**row, "problem": f"collapsed, {below:.0f} eV below the median"})
                continue
            move = symmetric_deviation(
                Structure.from_dict(end["structure"]), known.ground[charge], list(known.defect.site)
            )
            row |= {
                "energy": end["energy"] - min(energies),
                "converged": end["converged"],
                "rmsd": move.rmsd,
                "local_rmsd": move.local_rmsd,
            }
            rows.append(row)
    return rows
