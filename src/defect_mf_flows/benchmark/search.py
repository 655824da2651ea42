"""Benchmark of searches: who reaches the lowest known minimum, for how many expensive calls."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from defect_mf_flows.benchmark.pool import FMAX, HIGH, LOW, METHODS, disclaimer
from defect_mf_flows.benchmark.processes import executor
from defect_mf_flows.benchmark.search_campaign import (
    account,
    earlier_minima,
    first_to_reach,
    own_way,
    run_own,
    share,
)
from defect_mf_flows.benchmark.search_ways import (
    OURS,
    RANDOM_RATTLE,
    STAGED,
    STEPWISE,
    Pair,
    Searches,
    SearchSize,
    Trial,
    Way,
    missed_minima,
)
from defect_mf_flows.benchmark.sizes import NETWORK
from defect_mf_flows.benchmark.writing import Page, staircases
from defect_mf_flows.campaign import DefectSettings, HostSettings, StartSettings
from defect_mf_flows.core.refinement import REACHED

#: File of the host's cell, in the folder of the package's campaign.
CELL = Path("host.vasp")
#: Orders in which the starts of an unordered search are taken.
ORDERS = 500

#: Starts, charges and the other searches are sized for about four hours on two cores: 240 starts
#: of some 25 steps at either fidelity are most of it, so that little is left for random starts.
#: The campaign's settings came after runs on this system, whose models had holes.
FULL = SearchSize(
    name="",
    host=HostSettings(structure=CELL, supercell=[2, 2, 1]),
    wanted=DefectSettings(
        include=["v_Zn", "v_S", "S_Zn"],
        charges={defect: [-2, -1, 0, 1, 2] for defect in ("v_Zn", "v_S", "S_Zn")},
    ),
    steps=80,
    n_random=3,
    top=3,
    campaign={
        "frames": {"per_relaxation": 20},
        "picks": {"fraction": 0.018, "relaxations": 1},
        "split": {"valid": 0.1, "test": 0.02, "labels": 0.1},
        "training": {
            **NETWORK,
            "r_max": 4.4,
            "charge_term": "intensive",
            "high_prior": 0.1,
            "energy_weight_late": 100.0,
            "max_epochs": 16,
            "compile": True,
        },
        "search": {
            "pair_distortions": [-0.4],
            "rattles": [0.05, 0.1, 0.15],
            "steps": 150,
            "trust": 0.3,
        },
        "verification": {
            "minima": 1,
            "low_check": 0.3,
            "low_minima": 8,
            "relax_within": 0.1,
            "relaxations": 1,
            "trace_verified": True,
        },
        "loop": {"max_rounds": 3},
    },
)

QUICK = SearchSize(
    name="quick",
    host=HostSettings(structure=CELL, supercell=[1, 1, 1]),
    wanted=DefectSettings(include=["v_Zn"], charges={"v_Zn": [0, -1]}),
    steps=20,
    n_random=2,
    top=1,
    campaign={
        "frames": {"per_relaxation": 5},
        "picks": {"fraction": 0.3},
        "training": {"r_max": 3.5, "hidden_irreps": "8x0e + 8x1o", "max_epochs": 8},
        "search": {"distortions": [-0.3], "pair_distortions": [], "rattles": [0.05], "steps": 20},
        "verification": {"minima": 1},
        "loop": {"max_rounds": 1},
    },
    starts=StartSettings(distortions=[-0.3, 0.0, 0.3]),
)


def run(size: SearchSize, *, scratch: Path, out: Path, command: str, workers: int) -> Path:
    """Run every way of searching, or what is left of it, and write the page.

    Parameters
    ----------
    size
        Full, quick or a test's.
    scratch
        Cache of calculations, and the campaign's folder.
    out
        Folder of the page, its figure and its numbers.
    command
        That makes the page.
    workers
        Processes.

    Returns
    -------
    Path
        The page.
    """
    labels = scratch / "labels"
    labels.mkdir(parents=True, exist_ok=True)
    folder = scratch / f"search-{size.key}"
    results, done = run_own(size, folder, workers=workers)
    with executor(workers) as processes:
        searches = Searches(size, labels, processes)
        own = own_way(size, done, searches.defects.host.supercell)
        share(searches, results.engines, done)
        earlier = earlier_minima(folder, size, searches.defects.host.supercell)
        ways = [own, searches.staged(), searches.stepwise(), searches.random()]
    ratio = _price(searches, scratch / f"price-{size.key}.json")
    missed = sum(missed_minima(searches.defects, pair, *ways[:2]) for pair in size.each())
    comparison = Comparison(size, ways, ratio, missed, earlier)
    stem = f"search-{size.subject}" if size.subject else "search"
    page = Page(stem, size.name, out, command)
    first = first_to_reach(size, done, searches.defects.host.supercell, comparison.best)
    about = _about(size, len(searches.defects.host.supercell), ratio, account(results), first)
    title = f"Searches, {size.formula}" if size.subject else "Searches"
    page.text(title, about, disclaimer(size.formula))
    comparison.write(page)
    return page.write(comparison.rows())


def _price(searches: Searches, file: Path) -> float:
    """What a low-fidelity call costs: measured once, so that a page written again is the same."""
    if not file.is_file():
        temporary = file.with_suffix(".part")
        temporary.write_text(json.dumps(searches.price()))
        temporary.replace(file)
    return float(json.loads(file.read_text()))


class Comparison:
    """Ways of searching, against the lowest minimum that is known.

    Parameters
    ----------
    size
        What was searched.
    ways
        All, the package's own first.
    ratio
        Cost of a low-fidelity call in high-fidelity calls.
    missed
        Minima that the package verified and the staged search has at neither fidelity.
    earlier
        Lowest energies that campaigns with other settings have found, eV per cell.
    """

    def __init__(
        self,
        size: SearchSize,
        ways: Sequence[Way],
        ratio: float,
        missed: int,
        earlier: Mapping[Pair, float],
    ) -> None:
        self.size, self.ways, self.ratio, self.missed = size, list(ways), ratio, missed
        self.pairs = list(size.each())
        self.best = {
            pair: min([earlier[pair], *(t.energy for way in ways for t in way.trials[pair])])
            for pair in self.pairs
        }

    def write(self, page: Page) -> None:
        """Targets, totals, pair by pair, and the curve."""
        page.table("Targets", ["what", "value", "at least", "met"], self._targets())
        page.table(
            f"All starts of every search ({len(self.pairs)} defects and charges)",
            [
                "search",
                f"within {1000 * REACHED:g} meV of the lowest known minimum",
                "high-fidelity calls",
                "low-fidelity calls",
                "high-fidelity equivalents",
            ],
            [self._totals(way) for way in self.ways],
        )
        page.table(
            "Lowest energy above the lowest known minimum, meV per cell",
            ["defect, charge", *(way.name for way in self.ways)],
            [
                [f"{defect} {charge:+d}" if charge else f"{defect} 0"]
                + [_milli(self.excess(way, (defect, charge))) for way in self.ways]
                for defect, charge in self.pairs
            ],
        )
        drawing = staircases(
            {
                f"{what} per defect and charge": {
                    way.name: self.curve(way, ratio=ratio) for way in self.ways
                }
                for what, ratio in (
                    ("high-fidelity calls", 0.0),
                    ("high-fidelity equivalent calls", self.ratio),
                )
            },
            "share of ground states reached",
            scale="log",
        )
        # To all of them, however few were reached.
        drawing.axes[0].set_ylim(0, 1.05)
        page.figure(drawing)

    def excess(self, way: Way, pair: Pair) -> float:
        """How far above the lowest known minimum a search ended, eV per cell."""
        return min((t.energy for t in way.trials[pair]), default=math.inf) - self.best[pair]

    def reached(self, way: Way) -> int:
        """Defects and charges whose ground state a search found."""
        return sum(self.excess(way, pair) <= REACHED for pair in self.pairs)

    def high_calls(self, way: Way) -> float:
        """All high-fidelity calls of a search."""
        return sum(trial.calls for pair in self.pairs for trial in way.trials[pair])

    def curve(self, way: Way, *, ratio: float) -> list[tuple[float, float]]:
        """Share of ground states reached against calls per defect and charge.

        Parameters
        ----------
        way
            Of searching.
        ratio
            High-fidelity calls that a low-fidelity call counts for.

        Returns
        -------
        list of (float, float)
            Calls, ascending, and the share from there on.
        """
        rng = np.random.default_rng(0)
        first: list[float] = []
        orders = 1 if way.ordered else ORDERS
        for pair in self.pairs:
            trials = way.trials[pair]
            for _ in range(orders):
                order = range(len(trials)) if way.ordered else rng.permutation(len(trials))
                spent = ratio * way.low_calls[pair]
                spent += self._first(pair, [trials[int(k)] for k in order])
                first.append(spent)
        at = np.sort([spent for spent in first if math.isfinite(spent)])
        return [(float(x), (k + 1) / len(first)) for k, x in enumerate(at)]

    def _first(self, pair: Pair, trials: list[Trial]) -> float:
        """High-fidelity calls until the ground state; infinite if it is never reached."""
        spent = 0.0
        for trial in trials:
            spent += trial.calls
            if trial.energy - self.best[pair] <= REACHED:
                return spent
        return math.inf

    def rows(self) -> list[dict[str, Any]]:
        """Numbers behind the page."""
        return [
            {
                "search": way.name,
                "defect": pair[0],
                "charge": pair[1],
                "excess": self.excess(way, pair),
                "high_calls": sum(trial.calls for trial in way.trials[pair]),
                "low_calls": way.low_calls[pair],
            }
            for way in self.ways
            for pair in self.pairs
        ]

    def _totals(self, way: Way) -> list[str]:
        high, low = self.high_calls(way), sum(way.low_calls.values())
        return [
            way.name,
            f"{self.reached(way)} of {len(self.pairs)}",
            f"{high:.0f}",
            f"{low:.0f}",
            f"{high + self.ratio * low:.0f}",
        ]

    def _targets(self) -> list[list[str]]:
        way = {item.name: item for item in self.ways}
        found = 100 * self.reached(way[OURS]) / len(self.pairs)
        saved = 100 * (1 - self.high_calls(way[OURS]) / self.high_calls(way[STEPWISE]))
        count = sum(
            self.excess(way[OURS], pair) <= REACHED < self.excess(way[STAGED], pair)
            for pair in self.pairs
        )
        return [
            _line("ground states that this package reached, %", found, 95),
            _line(f"fewer high-fidelity calls than {STEPWISE}, %", saved, 90),
            _line(
                "minima verified at high fidelity that the staged search has at neither fidelity",
                self.missed,
                1,
            ),
            _line(
                "ground states that this package reached and the staged search did not (asks for "
                "more than a minimum)",
                count,
                1,
            ),
        ]


def _line(text: str, value: float, limit: float) -> list[str]:
    return [text, f"{value:.1f}", f"{limit:.1f}", "yes" if value >= limit else "no"]


def _milli(value: float) -> str:
    return f"{1000 * value:.0f}" if math.isfinite(value) else "none"


def _about(
    size: SearchSize, atoms: int, ratio: float, account: dict[str, float], first: Counter[str]
) -> str:
    spent = {
        name: f"{value:.0f}" + ("" if "seconds" in name else f" {METHODS[HIGH]} calls")
        for name, value in account.items()
    }
    return "\n\n".join(
        [
            f"{', '.join(size.wanted.include)} in {size.formula}, {atoms}-atom host cell, Gamma "
            f"only, closed shell, seed {size.seed}; low fidelity {METHODS[LOW]}, high fidelity "
            f"{METHODS[HIGH]}, one call of the first costs {ratio:.2f} of the second (single "
            "points of both in turn, measured once). A call is one energy with forces.",
            f"Every relaxation ends at {FMAX:g} eV/A or after {size.steps} steps; the starts of "
            f"ShakeNBreak are the same in every search. In the {size.n_random} random starts per "
            "defect and charge every atom is displaced, with a standard deviation of "
            f"{RANDOM_RATTLE:g} of a bond, ShakeNBreak's own rattle, and no bond is distorted. "
            "Unordered starts are taken in "
            f"{ORDERS} random orders.",
            "The lowest known minimum is the lowest that any of the searches, or a campaign that "
            "ran in the same folder with other settings before, found at high fidelity; in every "
            "search alike only ends of converged relaxations count. Each defect and charge bears "
            "its own calls, training labels included, in the order in which they finished; those "
            "on the pristine host are shared equally. The staged search takes its low-fidelity "
            "relaxations from this package's campaign where start and settings are the same, and "
            "both are charged for them in full.",
            "This package's campaign differs from its defaults in\n\n"
            + "\n".join(
                f"- `{section}`: "
                + ", ".join(f"`{name}: {value}`" for name, value in settings.items())
                for section, settings in size.campaign.items()
            ),
            "and spent\n\n" + "\n".join(f"- {name}: {value}" for name, value in spent.items()),
            "Its relaxations that first reached the ground states began from\n\n"
            + "\n".join(f"- {kind}: {count}" for kind, count in first.most_common()),
        ]
    )
