"""Ways to look for the ground states of charged defects, and what each spends on it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from defect_mf_flows.benchmark.pool import HIGH, LOW, METHODS, Task, compute
from defect_mf_flows.campaign import (
    DefectSettings,
    FrameSettings,
    HostSettings,
    MatchSettings,
    SearchSettings,
    StartSettings,
)
from defect_mf_flows.core.defects import generate_defects
from defect_mf_flows.core.filters import filter_frames
from defect_mf_flows.core.minima import Matcher
from defect_mf_flows.core.starts import StartMaker, derived_seed
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind
from defect_mf_flows.schemas.defect import DefectSet, StartStructure
from defect_mf_flows.schemas.frame import Frame
from defect_mf_flows.schemas.results import Results
from defect_mf_flows.testing import zinc_blende

#: Defect and charge.
Pair = tuple[str, int]

SEED = 1
#: Every way relaxes to this force, eV/A.
FMAX = 0.05
#: Rattle of the random starts, as a fraction of the shortest bond.
RANDOM_RATTLE = 0.25

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
    supercell
        Repeats of the cubic cell.
    pairs
        Charge states of every defect.
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
    """

    name: str
    supercell: tuple[int, int, int]
    pairs: dict[str, tuple[int, ...]]
    steps: int
    n_random: int
    top: int
    campaign: dict[str, Any]
    starts: StartSettings = field(default_factory=StartSettings)

    def each(self) -> Iterator[Pair]:
        """Every defect and charge."""
        for defect, charges in self.pairs.items():
            for charge in charges:
                yield defect, charge

    def defects(self) -> DefectSet:
        """Defects in their supercells."""
        return generate_defects(
            zinc_blende(),
            host=HostSettings(structure=Path("ZnS"), supercell=list(self.supercell)),
            defects=DefectSettings(
                include=list(self.pairs), charges={d: list(q) for d, q in self.pairs.items()}
            ),
        )


@dataclass(frozen=True)
class Trial:
    """One high-fidelity relaxation of a search.

    Attributes
    ----------
    energy
        Lowest energy of a frame that is no wreck, eV per cell; infinite if there is none.
    calls
        High-fidelity calls.
    """

    energy: float
    calls: float


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
    """

    name: str
    trials: dict[Pair, list[Trial]]
    low_calls: dict[Pair, float]
    ordered: bool


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
        self.seconds: dict[str, list[float]] = {LOW: [], HIGH: []}

    def stepwise(self) -> Way:
        """Every ShakeNBreak start, relaxed at high fidelity."""
        return self._unordered(STEPWISE, {pair: self._starts(pair) for pair in self.size.each()})

    def random(self) -> Way:
        """As many random starts as asked for, relaxed at high fidelity."""
        return self._unordered(RANDOM, {pair: self._random(pair) for pair in self.size.each()})

    def staged(self) -> Way:
        """Every ShakeNBreak start at low fidelity; the lowest minima at high fidelity."""
        starts = {pair: self._starts(pair) for pair in self.size.each()}
        low = self._relax(LOW, starts)
        lowest = {pair: self._lowest(pair, done) for pair, done in low.items()}
        high = self._relax(HIGH, lowest)
        return Way(
            STAGED,
            {pair: [self._trial(c) for c in done] for pair, done in high.items()},
            {pair: float(sum(c.n_calls for c in done)) for pair, done in low.items()},
            ordered=True,
        )

    def _unordered(self, name: str, starts: dict[Pair, list[StartStructure]]) -> Way:
        done = self._relax(HIGH, starts)
        trials = {pair: [self._trial(c) for c in found] for pair, found in done.items()}
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

    def _starts(self, pair: Pair) -> list[StartStructure]:
        return self._maker(pair, SEED).reference()

    def _random(self, pair: Pair) -> list[StartStructure]:
        wanted = SearchSettings(
            distortions=[], pair_distortions=[], rattles=[RANDOM_RATTLE], split_vacancies=False
        )
        return [
            self._maker(pair, derived_seed(SEED, "random", k)).surrogate(wanted)[-1]
            for k in range(self.size.n_random)
        ]

    def _relax(
        self, fidelity: str, starts: dict[Pair, list[StartStructure]]
    ) -> dict[Pair, list[Calculation]]:
        tasks = [
            (pair, Task(fidelity, CalculationKind.RELAX, start, self.size.steps))
            for pair, own in starts.items()
            for start in own
        ]
        run = partial(compute, folder=self.labels)
        found: dict[Pair, list[Calculation]] = {pair: [] for pair in starts}
        computed = self.processes.map(run, [task for _, task in tasks])
        for (pair, _), done in zip(tasks, computed, strict=True):
            found[pair].append(done)
            if done.n_calls:
                self.seconds[fidelity].append(done.seconds / done.n_calls)
        return found

    def _lowest(self, pair: Pair, done: list[Calculation]) -> list[StartStructure]:
        """The lowest minima of a low-fidelity search, as starts."""
        defect, charge = pair
        ends = [frames[-1] for frames in map(self._sound, done) if frames]
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

    def _trial(self, done: Calculation) -> Trial:
        energies = [frame.energy for frame in self._sound(done)]
        return Trial(min(energies, default=math.inf), done.n_calls)

    def _sound(self, done: Calculation) -> list[Frame]:
        host = self.defects.host.supercell
        return filter_frames(done.frames, settings=FrameSettings(), lattice_of=host)[0]


def ours(size: SearchSize, folder: Path, *, workers: int) -> tuple[Way, dict[str, float]]:
    """Run the package's own campaign, or continue it.

    Parameters
    ----------
    size
        What to search.
    folder
        Of the campaign.
    workers
        Processes.

    Returns
    -------
    way
        One trial per defect and charge: the verified ground state, and an equal share of all
        high-fidelity calls, training labels and host included.
    account
        High-fidelity calls by what they were for, and the seconds of training and search.
    """
    results = _run_campaign(_campaign(size, folder), folder, workers)
    pairs = list(size.each())
    verified = {(g.defect, g.charge): g.energy_hf for g in results.ground_states}
    spent = dict.fromkeys((LOW, HIGH), 0.0)
    account: dict[str, float] = {}
    for cost in results.cost:
        if cost.fidelity in spent:
            spent[cost.fidelity] += cost.calls
        if cost.fidelity == HIGH:
            account[cost.stage] = account.get(cost.stage, 0.0) + cost.calls
        elif cost.fidelity is None:
            account[f"{cost.stage}, seconds"] = cost.seconds
    share = spent[HIGH] / len(pairs)
    trials = {pair: [Trial(verified.get(pair, math.inf), share)] for pair in pairs}
    low = dict.fromkeys(pairs, spent[LOW] / len(pairs))
    return Way(OURS, trials, low, ordered=True), account


def _run_campaign(file: Path, folder: Path, workers: int) -> Results:
    """Run a campaign as a user does, in processes of its own; a finished one is only read."""
    command = [sys.executable, "-m", "defect_mf_flows.cli", "run", str(file)]
    command += ["--folder", str(folder), "--workers", str(workers)]
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise ResultsError(
            f"the campaign {file} ended with status {done.returncode}; mend what it says above "
            "and run the benchmark again, it goes on from there."
        )
    return Results.model_validate(json.loads((folder / "results.json").read_text()))


def _campaign(size: SearchSize, folder: Path) -> Path:
    """Write the campaign file and its host."""
    folder.mkdir(parents=True, exist_ok=True)
    zinc_blende().to(filename=str(folder / "host.cif"))

    def method(fidelity: str) -> dict[str, Any]:
        settings = {"method": METHODS[fidelity]}
        return {"engine": "xtb", "settings": settings, "fmax": FMAX, "steps": size.steps}

    content = {
        "name": f"search-{size.name or 'benchmark'}",
        "seed": SEED,
        "disclaimer": "Tight binding at Gamma: a test of the method.",
        "host": {"structure": "host.cif", "supercell": list(size.supercell)},
        "defects": {
            "include": list(size.pairs),
            "charges": {defect: list(charges) for defect, charges in size.pairs.items()},
        },
        "fidelities": {LOW: method(LOW), HIGH: method(HIGH)},
        "roles": {"low": LOW, "high": HIGH},
        "starts": {"distortions": size.starts.distortions},
        **size.campaign,
    }
    path = folder / "search.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
