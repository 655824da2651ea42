"""Ways to look for the ground states of charged defects, and what each spends on it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.benchmark.pool import HIGH, LOW, Task, compute
from defect_mf_flows.campaign import (
    DefectSettings,
    FrameSettings,
    HostSettings,
    MatchSettings,
    StartSettings,
)
from defect_mf_flows.core.defects import generate_defects
from defect_mf_flows.core.filters import filter_frames
from defect_mf_flows.core.minima import Matcher
from defect_mf_flows.core.starts import StartMaker, derived_seed
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind
from defect_mf_flows.schemas.defect import DefectSet, StartStructure
from defect_mf_flows.schemas.frame import Frame
from defect_mf_flows.testing import zinc_blende

#: Defect and charge.
Pair = tuple[str, int]

#: Rattle of the random starts, as a fraction of the shortest bond: that of ShakeNBreak itself.
RANDOM_RATTLE = 0.1

STEPWISE = "ShakeNBreak at high fidelity"
STAGED = "ShakeNBreak at low, its lowest minima at high fidelity"
RANDOM = "random starts at high fidelity"
OURS = "this package"


@dataclass(frozen=True)
class SearchSize:
    """How large the benchmark of searches is.

    Attributes
    ----------
    name
        For the file names: empty for the full one.
    host
        Supercell; ``structure`` is the name of a file that the campaign's folder gets.
    wanted
        Defects, all in ``include``, and all their charge states.
    steps
        Limit on the steps of every relaxation.
    n_random
        Random starts per defect and charge.
    top
        Low-fidelity minima that the staged search relaxes at high fidelity.
    campaign
        Sections of the package's campaign that differ from their defaults.
    starts
        Starts of ShakeNBreak.
    cell
        Of the host.
    seed
        Of the campaign and of all starts.
    subject
        Name of the campaign that somebody gave; empty: the benchmark's own.
    """

    name: str
    host: HostSettings
    wanted: DefectSettings
    steps: int
    n_random: int
    top: int
    campaign: dict[str, Any]
    starts: StartSettings = field(default_factory=StartSettings)
    cell: Structure = field(default_factory=zinc_blende)
    seed: int = 1
    subject: str = ""

    def each(self) -> Iterator[Pair]:
        """Every defect and charge."""
        for defect in self.wanted.include:
            for charge in self.wanted.charges[defect]:
                yield defect, charge

    def defects(self) -> DefectSet:
        """Defects in their supercells."""
        return generate_defects(self.cell, host=self.host, defects=self.wanted)

    @property
    def key(self) -> str:
        """In names of folders and files."""
        return self.subject or self.name or "full"

    @property
    def formula(self) -> str:
        """Of the host."""
        return self.cell.composition.reduced_formula


@dataclass(frozen=True)
class Trial:
    """What a search paid for at high fidelity, and what that found.

    Attributes
    ----------
    energy
        Of the end of a converged relaxation, eV per cell; infinite if there is none.
    calls
        High-fidelity calls.
    end
        Geometry of that end.
    """

    energy: float
    calls: float
    end: Structure | None = None

    @classmethod
    def of(cls, done: Calculation, host: Structure) -> Trial:
        """Score a high-fidelity calculation; every way of searching is scored by this rule.

        Parameters
        ----------
        done
            Any calculation; only the end of a converged relaxation that is no wreck counts.
        host
            The pristine supercell.
        """
        kept = sound(done, host)
        ended = done.kind is CalculationKind.RELAX and done.converged and done.failure is None
        if not ended or not kept or kept[-1].content_hash != done.frames[-1].content_hash:
            return cls(math.inf, done.n_calls)
        return cls(kept[-1].energy, done.n_calls, kept[-1].structure)


def sound(done: Calculation, host: Structure) -> list[Frame]:
    """Frames of a calculation that are no wrecks."""
    return filter_frames(done.frames, settings=FrameSettings(), lattice_of=host)[0]


@dataclass(frozen=True)
class Way:
    """What one way of searching did.

    Attributes
    ----------
    name
        In tables.
    trials
        Per defect and charge.
    low_calls
        Low-fidelity calls that came before, per defect and charge.
    ordered
        Whether the trials have an order; those of starts that are all alike have none.
    low_ends
        Where the low-fidelity relaxations ended, per defect and charge.
    """

    name: str
    trials: dict[Pair, list[Trial]]
    low_calls: dict[Pair, float]
    ordered: bool
    low_ends: dict[Pair, list[Structure]] = field(default_factory=dict)


def missed_minima(defects: DefectSet, pair: Pair, own: Way, staged: Way) -> int:
    """Count the minima of one search that a staged search has at neither fidelity.

    Parameters
    ----------
    defects
        Of the searches.
    pair
        Defect and charge.
    own, staged
        The searches.

    Returns
    -------
    int
        Minima, as the campaign tells them apart, in which high-fidelity relaxations of ``own``
        ended, and none of ``staged``; nor did a low-fidelity relaxation of ``staged`` end in
        their geometry, whatever its rank.
    """
    matcher = Matcher(defects.get(pair[0]), defects.host.supercell, MatchSettings())
    first = len([t for t in own.trials[pair] if t.end is not None])
    ends = [
        (t.end, t.energy) for way in (own, staged) for t in way.trials[pair] if t.end is not None
    ]
    names = [f"end {k}" for k in range(len(ends))]
    found = matcher.collect([e for e, _ in ends], [energy for _, energy in ends], names)
    new = set(found.labels[:first]) - set(found.labels[first:])
    return sum(
        not any(
            matcher.same_geometry(found.minima[k].structure, low)
            for low in staged.low_ends.get(pair, [])
        )
        for k in new
    )


class Searches:
    """Runs the ways that need no model; what is computed is kept.

    Parameters
    ----------
    size
        What to search.
    labels
        Cache of calculations.
    processes
        To compute in.
    """

    def __init__(self, size: SearchSize, labels: Path, processes: ProcessPoolExecutor) -> None:
        self.size, self.labels, self.processes = size, labels, processes
        self.defects = size.defects()

    def stepwise(self) -> Way:
        """Every ShakeNBreak start, relaxed at high fidelity."""
        return self._unordered(STEPWISE, {pair: self.starts(pair) for pair in self.size.each()})

    def random(self) -> Way:
        """As many random starts as asked for, relaxed at high fidelity."""
        starts = {pair: self.random_starts(pair) for pair in self.size.each()}
        return self._unordered(RANDOM, starts)

    def staged(self) -> Way:
        """Every ShakeNBreak start at low fidelity; the lowest minima at high fidelity."""
        starts = {pair: self.starts(pair) for pair in self.size.each()}
        low = self._relax(LOW, starts)
        ends = {pair: self._ends(done) for pair, done in low.items()}
        high = self._relax(HIGH, {pair: self._lowest(pair, found) for pair, found in ends.items()})
        return Way(
            STAGED,
            self._trials(high),
            {pair: float(sum(c.n_calls for c in done)) for pair, done in low.items()},
            ordered=True,
            low_ends={pair: [end.structure for end in found] for pair, found in ends.items()},
        )

    def _unordered(self, name: str, starts: dict[Pair, list[StartStructure]]) -> Way:
        trials = self._trials(self._relax(HIGH, starts))
        return Way(name, trials, dict.fromkeys(trials, 0.0), ordered=False)

    def _maker(self, pair: Pair, seed: int) -> StartMaker:
        defect, charge = pair
        return StartMaker(
            self.defects.get(defect),
            charge=charge,
            spin=None,
            settings=self.size.starts,
            seed=seed,
        )

    def starts(self, pair: Pair) -> list[StartStructure]:
        """Start structures of ShakeNBreak."""
        return self._maker(pair, self.size.seed).reference()

    def random_starts(self, pair: Pair) -> list[StartStructure]:
        """Starts in which every atom is displaced, each with a seed of its own."""
        return [
            start
            for k in range(self.size.n_random)
            for start in self._maker(pair, derived_seed(self.size.seed, "random", k)).rattled(
                RANDOM_RATTLE
            )
        ]

    def _relax(
        self, fidelity: str, starts: dict[Pair, list[StartStructure]]
    ) -> dict[Pair, list[Calculation]]:
        tasks = [
            (pair, self.task(fidelity, start)) for pair, own in starts.items() for start in own
        ]
        run = partial(compute, folder=self.labels)
        found: dict[Pair, list[Calculation]] = {pair: [] for pair in starts}
        computed = self.processes.map(run, [task for _, task in tasks])
        for (pair, _), done in zip(tasks, computed, strict=True):
            found[pair].append(done)
        return found

    def price(self, most: int = 6) -> float:
        """Cost of a low-fidelity call in high-fidelity calls.

        Parameters
        ----------
        most
            Unrelaxed defects and charges that are computed.

        Returns
        -------
        float
            Median over single points of both methods in turn on the same geometries. The seconds
            of relaxations would not do: the machine may have been busy during those of one method.
        """
        ratios = []
        for pair in list(self.size.each())[:most]:
            start, seconds = self.starts(pair)[0], {}
            for fidelity in (LOW, HIGH):
                task = Task(fidelity, CalculationKind.STATIC, start)
                maker = reference_maker(fidelity, task.settings, task.kind)
                seconds[fidelity] = maker.compute(start, uuid=task.key).seconds
            ratios.append(seconds[LOW] / seconds[HIGH])
        return float(np.median(ratios))

    def task(self, fidelity: str, start: StartStructure) -> Task:
        """Relaxation of a start."""
        return Task(fidelity, CalculationKind.RELAX, start, self.size.steps)

    def _ends(self, done: list[Calculation]) -> list[Frame]:
        """Last sound frames, of relaxations that ran out of steps as well."""
        host = self.defects.host.supercell
        return [frames[-1] for frames in (sound(c, host) for c in done) if frames]

    def _lowest(self, pair: Pair, ends: list[Frame]) -> list[StartStructure]:
        """The lowest minima of a low-fidelity search, as starts."""
        defect, charge = pair
        matcher = Matcher(self.defects.get(defect), self.defects.host.supercell, MatchSettings())
        minima = matcher.collect(
            [f.structure for f in ends], [f.energy for f in ends], [f.lineage.start for f in ends]
        ).minima
        return [
            StartStructure(
                defect=defect, charge=charge, label=f"low minimum {k}", structure=m.structure
            )
            for k, m in enumerate(minima[: self.size.top])
        ]

    def _trials(self, done: dict[Pair, list[Calculation]]) -> dict[Pair, list[Trial]]:
        host = self.defects.host.supercell
        return {pair: [Trial.of(c, host) for c in found] for pair, found in done.items()}
