"""Structures relaxed per second, against ASE's FIRE one by one. Prints a table and keeps it.

Every way relaxes the same starts on the same model with the same threshold, in one run. The
network is untrained science: it is fitted in a minute to tight-binding labels of seven atoms, so
that relaxations converge; the time of a force call does not depend on that.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from ase.optimize import FIRE
from pymatgen.core import Structure

from defect_mf_flows.campaign import FidelitySettings, TrainingSettings
from defect_mf_flows.core.charge import charge_of, to_atoms, with_charge
from defect_mf_flows.core.references import composition_key
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.learning.batched import relax_batched
from defect_mf_flows.learning.flock import compile_flock
from defect_mf_flows.learning.pool import RelaxationPool
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.relaxation import relax
from defect_mf_flows.learning.relaxed import Limits, Relaxed
from defect_mf_flows.learning.training import train
from defect_mf_flows.powerups import package_version
from defect_mf_flows.schemas.calculation import CalculationKind
from defect_mf_flows.schemas.dataset import Dataset, DatasetEntry, FrameReference, ReferenceEnergy
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.frame import content_hash
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.settings import available_cores
from defect_mf_flows.testing import zinc_blende

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "benchmarks" / "search_speed.md"
CHARGES = (0, -1)
#: Repeats of the cubic cell, whose vacancy cells have 31, 63, 127 and 255 atoms.
CELLS = {31: (2, 2, 1), 63: (2, 2, 2), 127: (4, 2, 2), 255: (4, 4, 2)}
HEADS = ["low", "high"]
METHODS = {"low": "GFN1-xTB", "high": "GFN2-xTB"}


@dataclass
class Result:
    """One way of relaxing one set of starts.

    Attributes
    ----------
    name
        For the table.
    seconds
        Wall time.
    calls
        Force calls.
    ends
        What came out; empty for the yardstick.
    """

    name: str
    seconds: float
    calls: int
    ends: list[Relaxed]


def rattled(cell: tuple[int, int, int], charge: int, seed: int, scale: float) -> Structure:
    """A zinc vacancy with every atom displaced."""
    structure = zinc_blende()
    structure.make_supercell(cell)
    structure = structure.get_sorted_structure()
    structure.remove_sites([0])
    shifts = np.random.default_rng(seed).normal(scale=scale, size=(len(structure), 3))
    places = structure.cart_coords + shifts
    moved = Structure(structure.lattice, structure.species, places, coords_are_cartesian=True)
    return with_charge(moved, charge)


def small_model(scratch: Path, epochs: int) -> Model:
    """A model of the size that campaigns use, trained on labels of seven atoms."""
    frames, entries = [], []
    for charge in CHARGES:
        for seed in range(1, 11):
            start = StartStructure(
                defect="v_Zn",
                charge=charge,
                label=f"rattle {seed}",
                structure=rattled((1, 1, 1), charge, seed, 0.02 * seed),
            )
            for head in HEADS:
                method = FidelitySettings(engine="xtb", settings={"method": METHODS[head]})
                maker = reference_maker(head, method, CalculationKind.STATIC)
                for frame in maker.compute(start, uuid=f"{charge} {seed} {head}").frames:
                    frames.append(frame)
                    entries.append(_entry(frame, charge, seed))
    dataset = Dataset(
        dataset_hash=content_hash([entry.model_dump(mode="json") for entry in entries]),
        heads=HEADS,
        entries=entries,
        counts={},
    )
    settings = TrainingSettings(
        r_max=4.5, hidden_irreps="16x0e + 16x1o", max_epochs=epochs, validate_every=10
    )
    return train(frames, dataset, settings=settings, seed=1, scratch=scratch, threads=1)


def _entry(frame: Any, charge: int, seed: int) -> DatasetEntry:
    return DatasetEntry(
        frame=FrameReference(
            calculation=frame.lineage.calculation,
            step=frame.lineage.step,
            content_hash=frame.content_hash,
        ),
        fidelity=frame.fidelity,
        charge=charge,
        defect="v_Zn",
        relaxation=f"{charge} {seed}",
        split={9: "valid", 10: "test"}.get(seed, "train"),
    )


def knowing(model: Model, structures: list[Structure]) -> Model:
    """The model with reference energies (zero) of cells on which it was not trained."""
    groups = {(charge_of(s), composition_key(s)) for s in structures}
    more = [
        ReferenceEnergy(head="high", charge=q, composition=key, energy=0.0, n_labels=1)
        for q, key in sorted(groups)
    ]
    return model.model_copy(update={"references": [*model.references, *more]})


def one_by_one(structures: list[Structure], model: Model, limits: Limits, device: str) -> Result:
    """ASE's FIRE with mace's own calculator, one structure after the other."""
    potential = Potential(model, head="high", device=device)
    began, calls, ends = time.perf_counter(), 0, []
    for structure in structures:
        atoms = to_atoms(structure)
        atoms.calc = potential.calculator(structure)
        optimiser = FIRE(atoms, logfile=os.devnull)
        converged = optimiser.run(fmax=limits.fmax, steps=limits.steps)
        calls += optimiser.nsteps + 1
        places = Structure(
            structure.lattice, structure.species, atoms.positions, coords_are_cartesian=True
        )
        ends.append(
            Relaxed(
                with_charge(places, charge_of(structure)),
                float(atoms.get_potential_energy()),
                bool(converged),
                optimiser.nsteps + 1,
            )
        )
    return Result("ASE FIRE, MACECalculator", time.perf_counter() - began, calls, ends)


def yardstick(
    structures: list[Structure], model: Model, calls: int, batch: int, device: str
) -> Result:
    """As many force calls of the model alone, in batches, without any optimiser."""
    potential = Potential(model, head="high", device=device)
    chunk = (structures * (1 + batch // len(structures)))[:batch]
    potential.predict(chunk, batch=batch)
    repeats = max(1, round(min(calls, 20 * batch) / batch))
    began = time.perf_counter()
    for _ in range(repeats):
        potential.predict(chunk, batch=batch)
    seconds = (time.perf_counter() - began) * calls / (repeats * batch)
    return Result(f"force calls alone, batches of {batch}", seconds, calls, [])


def timed(name: str, run: Callable[[], list[Relaxed]]) -> Result:
    """Time one way."""
    began = time.perf_counter()
    ends = run()
    return Result(name, time.perf_counter() - began, sum(end.steps for end in ends), ends)


def compare(
    structures: list[Structure], model: Model, limits: Limits, device: str, processes: int
) -> list[Result]:
    """Every way on one set of starts; the plain loop first."""
    charges = [charge_of(s) for s in structures]
    warm, few = Limits(1e-9, 4), structures[:4]  # torch compiles its scripts in the first calls
    one_by_one(few[:1], model, warm, device)
    results = [one_by_one(structures, model, limits, device)]
    if device == "cpu":
        relax(few, charges[:4], model, "high", warm.fmax, warm.steps)
        results.append(
            timed(
                "this package, 1 process",
                lambda: relax(structures, charges, model, "high", limits.fmax, limits.steps),
            )
        )
        name = f"this package, {processes} processes"
        with RelaxationPool(model, "high", processes=processes) as pool:
            pool.relax((few * processes)[: 4 * processes], warm)  # loads the model
            results.append(timed(name, lambda: pool.relax(structures, limits)))
        shape = compile_flock(structures, Potential(model, head="high"), processes=processes)
        with RelaxationPool(model, "high", processes=processes, batches=shape) as pool:
            full = processes * (1 if shape is None else shape.size)
            pool.relax((structures * full)[:full], warm)  # loads what was compiled
            results.append(timed(f"{name}, compiled", lambda: pool.relax(structures, limits)))
    relax_batched(few, model, "high", warm, device=device)
    results.append(
        timed(
            f"torch-sim batches on {device}",
            lambda: relax_batched(structures, model, "high", limits, device=device),
        )
    )
    batch = min(8 if device == "cpu" else 64, len(structures))
    results.append(yardstick(structures, model, results[0].calls, batch, device))
    return results


def rows_of(atoms: int, results: list[Result]) -> list[list[str]]:
    """Rows of the table."""
    base, rows = results[0], []
    for found in results:
        count = len(base.ends)
        worst = max(
            (abs(a.energy - b.energy) for a, b in zip(base.ends, found.ends, strict=False)),
            default=float("nan"),
        )
        moved = max(
            (
                float(np.abs(a.structure.cart_coords - b.structure.cart_coords).max())
                for a, b in zip(base.ends, found.ends, strict=False)
            ),
            default=float("nan"),
        )
        rows.append(
            [
                str(atoms),
                str(count),
                found.name,
                str(found.calls),
                f"{count / found.seconds:.3g}",
                f"{base.seconds / found.seconds:.2f}",
                "" if not found.ends else f"{1000 * worst:.2g}",
                "" if not found.ends else f"{moved:.1g}",
            ]
        )
        print(" | ".join(rows[-1]), flush=True)
    return rows


HEAD = [
    "atoms",
    "structures",
    "way",
    "force calls",
    "structures/s",
    "ratio",
    "largest energy difference (meV/cell)",
    "largest displacement (A)",
]
NOTE = (
    "Ratios are to ASE's FIRE with mace's calculator, one structure after the other on one thread, "
    "in the same run. Target on two cores: at least 1.9; on one data-centre GPU: at least 30, and "
    "within 2 times of the force calls alone. Force calls alone: the model's own calls on the "
    "starts, scaled to the number of calls that the relaxations took; on a CPU on one core. "
    "Processes are warm: they load the model once per job, in seconds; what they compile takes "
    "a minute or two the first time, and some seconds per job from then on. The differences "
    "are the largest between the ends of a way and those of the first."
)


def _section(title: str, rows: list[list[str]]) -> list[str]:
    lines = [f"## {title}", "", f"| {' | '.join(HEAD)} |", f"| {' | '.join(['---'] * len(HEAD))} |"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows), ""]


def write(sections: list[tuple[str, list[list[str]]]], command: str) -> None:
    """Write the page of results."""
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    lines = [
        "# Speed of the search",
        "",
        f"Written by `{command}` on {date.today()}: defect-mf-flows {package_version()}, Python "
        f"{platform.python_version()}, torch {torch.__version__}, {available_cores()} cores, load "
        f"{load} at the end (1, 5, 15 minutes).",
        "",
    ]
    for title, rows in sections:
        lines += _section(title, rows) if rows else [f"## {title}", "", "Not measured.", ""]
    RESULTS.write_text("\n".join([*lines, NOTE, ""]))


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--atoms", type=int, nargs="+", choices=list(CELLS), default=list(CELLS))
    parser.add_argument("--structures", type=int, nargs="+", default=[8, 32, 256])
    parser.add_argument("--fmax", type=float, default=0.05)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--processes", type=int, default=available_cores())
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--quick", action="store_true", help="31 atoms, 8 structures")
    parser.add_argument("--no-save", action="store_true", help="print only")
    asked = parser.parse_args()
    if asked.quick:
        asked.atoms, asked.structures, asked.epochs = [31], [8], 20
    torch.set_num_threads(1)
    limits = Limits(asked.fmax, asked.steps)
    with tempfile.TemporaryDirectory() as scratch:
        model = small_model(Path(scratch), asked.epochs)
    gpu = torch.cuda.is_available()
    tables: dict[str, list[list[str]]] = {"cpu": [], "cuda": []}
    for atoms in asked.atoms:
        for count in asked.structures:
            starts = [rattled(CELLS[atoms], CHARGES[k % 2], 100 + k, 0.08) for k in range(count)]
            known = knowing(model, starts)
            for device in ["cpu", "cuda"] if gpu else ["cpu"]:
                found = compare(starts, known, limits, device, asked.processes)
                tables[device] += rows_of(atoms, found)
    name = torch.cuda.get_device_name() if gpu else "none was at hand"
    sections = [("CPU", tables["cpu"]), (f"GPU ({name})", tables["cuda"])]
    if not asked.no_save:
        chosen = f"--atoms {' '.join(map(str, asked.atoms))}"
        chosen += f" --structures {' '.join(map(str, asked.structures))} --steps {asked.steps}"
        chosen += f" --epochs {asked.epochs}"
        write(sections, f"python benchmarks/search.py {chosen}")


if __name__ == "__main__":
    main()
