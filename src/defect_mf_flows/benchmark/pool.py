"""The labelled pool: V_Zn in ZnS at two fidelities and two cell sizes, computed once.

Every calculation is a file named after the content of what it computes, so that an
interrupted pool continues and pools share what they have in common.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from defect_mf_flows.benchmark.processes import executor
from defect_mf_flows.campaign import (
    DefectSettings,
    FidelitySettings,
    FrameSettings,
    HostSettings,
    StartSettings,
)
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.core.defects import generate_defects
from defect_mf_flows.core.filters import filter_frames
from defect_mf_flows.core.starts import StartMaker
from defect_mf_flows.core.stratified import evenly_spaced
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.errors import DatasetError
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind
from defect_mf_flows.schemas.defect import DefectSet, StartStructure
from defect_mf_flows.schemas.frame import Frame, content_hash, structure_key
from defect_mf_flows.testing import zinc_blende

logger = logging.getLogger(__name__)

LOW, HIGH = "gfn1", "gfn2"
METHODS = {LOW: "GFN1-xTB", HIGH: "GFN2-xTB"}
#: Every relaxation ends at this force, eV/A.
FMAX = 0.05
DEFECT = "v_Zn"


def disclaimer(formula: str) -> str:
    """What numbers for a host must not be taken for."""
    return (
        "Tight binding stands in for the two levels of DFT: these numbers test the method and "
        f"say nothing about {formula}."
    )


DISCLAIMER = disclaimer("ZnS")


@dataclass(frozen=True)
class PoolSize:
    """How large a pool is.

    Attributes
    ----------
    small, large
        Repeats of the cubic cell: what models learn, and the size they did not see; None: no
        cell of another size, whose labels are the dearest.
    charges
        Charge states.
    distortions
        Bond distortions of the starts, beside the unperturbed one and the dimers.
    steps, frames
        Limit on the steps of a relaxation, and frames kept of each.
    large_steps, large_frames, large_distortions
        The same in the large cell.
    seed
        Of the rattles.
    """

    small: tuple[int, int, int] = (2, 2, 1)
    large: tuple[int, int, int] | None = (2, 2, 2)
    charges: tuple[int, ...] = (-2, -1, 0, 1)
    distortions: tuple[float, ...] = (-0.6, -0.5, -0.4, -0.3, -0.2, -0.1, 0.0, 0.2, 0.4, 0.6)
    steps: int = 40
    frames: int = 8
    large_steps: int = 12
    large_frames: int = 4
    large_distortions: tuple[float, ...] = (-0.3, 0.0)
    seed: int = 1


QUICK = PoolSize(
    small=(1, 1, 1),
    large=(2, 1, 1),
    charges=(-1, 0),
    distortions=(-0.3, 0.2),
    steps=4,
    frames=3,
    large_steps=2,
    large_frames=2,
    large_distortions=(),
)


@dataclass(frozen=True)
class PoolPoint:
    """One geometry with labels of both fidelities.

    Attributes
    ----------
    relaxation
        Key of the relaxation it comes from.
    is_end
        True for the last geometry of the relaxation.
    low, high
        Its labels.
    """

    relaxation: str
    is_end: bool
    low: Frame
    high: Frame


@dataclass
class Pool:
    """Labels, and what they cost.

    Attributes
    ----------
    size
        What was asked for; None: labels that were given.
    small, large
        Geometries of the cell that models learn and of the one they did not see (none if
        there is none).
    hosts
        Pristine host: (cell, fidelity) -> frame.
    seconds, calls
        Wall time and force calls per fidelity, also of what is not kept.
    failed
        Calculations that ended early or frames that were dropped.
    heads
        Fidelities of the labels, low and high.
    method
        Of the high labels, in words.
    about
        What the labels are of, in words.
    disclaimer
        What numbers made with them must not be taken for.
    """

    size: PoolSize | None
    small: list[PoolPoint] = field(default_factory=list)
    large: list[PoolPoint] = field(default_factory=list)
    hosts: dict[tuple[str, str], Frame] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    failed: int = 0
    heads: tuple[str, str] = (LOW, HIGH)
    method: str = METHODS[HIGH]
    about: str = ""
    disclaimer: str = DISCLAIMER

    @property
    def content(self) -> str:
        """Hash of all labels."""
        points = [*self.small, *self.large]
        hosts = sorted(frame.content_hash for frame in self.hosts.values())
        return content_hash([[p.low.content_hash, p.high.content_hash] for p in points] + hosts)


@dataclass(frozen=True)
class Task:
    """One reference calculation.

    Attributes
    ----------
    fidelity, kind, start, steps
        What to compute.
    """

    fidelity: str
    kind: CalculationKind
    start: StartStructure
    steps: int = 1

    @property
    def key(self) -> str:
        """Hash of what decides the result."""
        return content_hash(
            [
                METHODS[self.fidelity],
                self.kind.value,
                self.start.charge,
                self.steps,
                self.start.label,
                structure_key(self.start.structure),
            ]
        )

    @property
    def settings(self) -> FidelitySettings:
        """Method, force threshold and limit on steps."""
        return FidelitySettings(
            engine="xtb",
            settings={"method": METHODS[self.fidelity]},
            fmax=FMAX,
            steps=self.steps,
        )

    def path(self, folder: Path) -> Path:
        """File of the calculation."""
        return folder / f"{self.key}.json"


def compute(task: Task, folder: Path) -> Calculation:
    """Compute a task, or read it if it was computed before.

    Parameters
    ----------
    task
        What to compute.
    folder
        Holds one file per calculation.

    Returns
    -------
    Calculation
        Also of a calculation that failed.
    """
    path = task.path(folder)
    if path.is_file():
        return Calculation.model_validate(json.loads(path.read_text()))
    maker = reference_maker(task.fidelity, task.settings, task.kind)
    calculation = maker.compute(task.start, uuid=task.key)
    keep(task, calculation, folder)
    return calculation


def keep(task: Task, calculation: Calculation, folder: Path) -> None:
    """Write the calculation of a task to where it is looked for.

    Parameters
    ----------
    task
        What was computed.
    calculation
        Its outcome.
    folder
        Holds one file per calculation.
    """
    path = task.path(folder)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(calculation.model_dump_json())
    temporary.replace(path)


def build_pool(size: PoolSize, folder: Path, *, workers: int) -> Pool:
    """Compute what is missing of a pool and read the rest.

    Parameters
    ----------
    size
        How large.
    folder
        Cache; made if missing.
    workers
        Single-threaded processes.

    Returns
    -------
    Pool
        In an order that does not depend on the workers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pool = Pool(size, about=describe(size))
    repeats = {"small": size.small, "large": size.large}
    cells = {name: _defects(cell, size) for name, cell in repeats.items() if cell is not None}
    with executor(workers) as processes:
        run = partial(_run, pool, processes, folder)
        hosts = [
            _host(cell, method, defects) for cell, defects in cells.items() for method in METHODS
        ]
        planned = [task for cell in cells for task in relaxations(cell, cells[cell], size)]
        # The largest first, so that none is left alone at the end.
        order = sorted(planned, key=lambda task: -len(task[1].start.structure))
        done = dict(zip([k for k, _ in order], run([t for _, t in order]), strict=True))
        points = [
            (name, frame, last)
            for name, _ in planned
            for frame, last in _kept(pool, done[name], cells[name.split("|")[0]], size)
        ]
        high = run([_single_point(name, frame) for name, frame, _ in points])
        for (cell, method, _), found in zip(hosts, run([t for *_, t in hosts]), strict=True):
            if found.failure is not None:
                raise DatasetError(f"host, {method}: {found.failure.message}; no pool without it.")
            pool.hosts[cell, method] = found.frames[0]
    for (name, frame, last), label in zip(points, high, strict=True):
        if label.failure is not None:
            pool.failed += 1
            continue
        point = PoolPoint(name, last, frame, label.frames[0])
        (pool.small if name.startswith("small") else pool.large).append(point)
    return pool


def _run(
    pool: Pool, processes: ProcessPoolExecutor, folder: Path, tasks: list[Task]
) -> Iterable[Calculation]:
    results = []
    for number, (task, found) in enumerate(
        zip(tasks, processes.map(partial(compute, folder=folder), tasks), strict=True), start=1
    ):
        pool.seconds[task.fidelity] = pool.seconds.get(task.fidelity, 0.0) + found.seconds
        pool.calls[task.fidelity] = pool.calls.get(task.fidelity, 0) + found.n_calls
        logger.info("pool: %d of %d %s %s", number, len(tasks), task.fidelity, task.kind.value)
        results.append(found)
    return results


def _defects(repeats: tuple[int, int, int], size: PoolSize) -> DefectSet:
    return generate_defects(
        zinc_blende(),
        host=HostSettings(structure=Path("ZnS"), supercell=list(repeats)),
        defects=DefectSettings(include=[DEFECT], charges={DEFECT: list(size.charges)}),
    )


def defects_of(size: PoolSize) -> DefectSet:
    """Host and vacancy of the small cell."""
    return _defects(size.small, size)


def _host(cell: str, method: str, defects: DefectSet) -> tuple[str, str, Task]:
    structure = with_charge(defects.host.supercell, 0)
    start = StartStructure(defect=None, charge=0, label=f"{cell}|host", structure=structure)
    return cell, method, Task(method, CalculationKind.STATIC, start)


def relaxations(cell: str, defects: DefectSet, size: PoolSize) -> list[tuple[str, Task]]:
    """Name and task of every relaxation in one of the cells, ``"small"`` or ``"large"``."""
    large = cell == "large"
    settings = StartSettings(
        distortions=list(size.large_distortions if large else size.distortions)
    )
    tasks = []
    for charge in size.charges:
        defect = defects.get(DEFECT)
        maker = StartMaker(defect, charge=charge, spin=None, settings=settings, seed=size.seed)
        for start in maker.reference():
            if large and start.label.startswith("Dimer"):
                continue
            name = f"{cell}|{charge:+d}|{start.label}"
            steps = size.large_steps if large else size.steps
            tasks.append((name, Task(LOW, CalculationKind.RELAX, start, steps)))
    return tasks


def _kept(
    pool: Pool, done: Calculation, defects: DefectSet, size: PoolSize
) -> list[tuple[Frame, bool]]:
    """Frames that enter the pool; running out of steps is no reason to drop one."""
    frames, dropped = filter_frames(
        done.frames, settings=FrameSettings(), lattice_of=defects.host.supercell
    )
    pool.failed += len(dropped)
    large = len(defects.host.supercell) > 8 * int(np.prod(size.small))
    wanted = size.large_frames if large else size.frames
    chosen = evenly_spaced(len(frames), wanted)
    return [(frames[i], i == len(frames) - 1) for i in chosen]


def _single_point(name: str, frame: Frame) -> Task:
    start = StartStructure(
        defect=DEFECT,
        charge=frame.charge,
        label=f"{name}@{frame.lineage.step}",
        structure=frame.structure,
    )
    return Task(HIGH, CalculationKind.STATIC, start)


def cost(pool: Pool) -> str:
    """What the pool cost, in one line; of labels that were given, nobody said."""
    if not pool.calls:
        return "not known here"
    parts = [
        f"{METHODS[name]}: {pool.calls[name]} force calls, {pool.seconds[name] / 60:.1f} min"
        for name in METHODS
        if name in pool.calls
    ]
    return "; ".join(parts) + " (one thread each, wall time while computing)"


def describe(size: PoolSize) -> str:
    """Content of a pool in words, for the head of a table."""
    charges = ", ".join(f"{charge:+d}" for charge in size.charges)
    text = (
        f"V_Zn in ZnS, charges {charges}; GFN1-xTB relaxations and GFN2-xTB single points, "
        f"Gamma only, closed shell; models learn {_atoms(size.small)} atoms"
    )
    return text if size.large is None else f"{text}, size test {_atoms(size.large)} atoms"


def _atoms(repeats: tuple[int, int, int]) -> int:
    return 8 * int(np.prod(repeats)) - 1
