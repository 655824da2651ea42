"""Force calls of relaxations with GFN2-xTB that GFN1-xTB guides, against those from springs.

The starts are those of ``relaxer.py``: vacancies whose neighbours were pulled inwards, all atoms
displaced at random, and then the minima that GFN1-xTB has near by, from which a high fidelity
relaxes what a low one has found. Force calls are counted, not seconds.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from relaxer import CASES, ROOT, calculator, start_of  # sets the threads before numpy
from tqdm import tqdm

from defect_mf_flows.engines.guided import GuidedRelaxer
from defect_mf_flows.engines.relaxer import Relaxer
from defect_mf_flows.powerups import package_version

RESULTS = ROOT / "docs" / "benchmarks" / "guided.md"
LOW, HIGH = "GFN1-xTB", "GFN2-xTB"
#: What the relaxations begin from.
STARTS = ("displaced atoms", f"{LOW} minimum")


@dataclass(frozen=True)
class Ended:
    """A relaxation.

    Attributes
    ----------
    high, low
        Force calls of both methods.
    energy
        Where it ended, eV.
    converged
        Whether forces fell below the threshold.
    guided
        Whether the guide led it to the end.
    """

    high: int
    low: int
    energy: float
    converged: bool
    guided: bool


def relax(atoms: Atoms, optimizer: Relaxer | GuidedRelaxer, fmax: float, most: int) -> Ended:
    """Relax, one expensive call per step, until its SCF fails."""
    number, force, energy = 0, np.inf, np.nan
    try:
        while number < most:
            if number:
                optimizer.step()
            number += 1
            force = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
            energy = float(atoms.get_potential_energy())
            if force < fmax:
                break
    except CalculationFailed:
        force = np.inf
    return Ended(number, optimizer.guide_calls, energy, force < fmax, not optimizer.given_up)


def start(case: str, seed: int, kind: str, asked: argparse.Namespace) -> Atoms:
    """Where a relaxation begins, with the expensive method's calculator."""
    atoms = start_of(case, seed, asked.rattle, LOW)
    if kind != STARTS[0]:
        relax(atoms, Relaxer(atoms), asked.fmax, asked.most)
    atoms.calc = calculator(HIGH, CASES[case][2])
    return atoms


def pairs_of(asked: argparse.Namespace) -> Iterator[tuple[str, str, list[tuple[Ended, Ended]]]]:
    """For each case and kind of start the relaxations from springs, and guided, of all seeds."""
    bar = tqdm(total=len(asked.cases) * len(STARTS) * len(asked.seeds))
    for case in asked.cases:
        for kind in STARTS:
            found = []
            for seed in asked.seeds:
                alone = start(case, seed, kind, asked)
                led, guide = alone.copy(), alone.copy()
                led.calc, guide.calc = (calculator(m, CASES[case][2]) for m in (HIGH, LOW))
                springs = relax(alone, Relaxer(alone), asked.fmax, asked.most)
                relaxer = GuidedRelaxer(led, guide, asked.fmax)
                found.append((springs, relax(led, relaxer, asked.fmax, asked.most)))
                bar.update()
            yield case, kind, found
    bar.close()


def row_of(case: str, kind: str, found: list[tuple[Ended, Ended]]) -> list[str]:
    """Sums over the starts from which both converged."""
    both = [pair for pair in found if all(end.converged for end in pair)]
    apart = [1000 * (two.energy - one.energy) for one, two in both]
    failed = [sum(not pair[k].converged for pair in found) for k in (0, 1)]
    return [
        case,
        kind,
        str(sum(one.high for one, _ in both)),
        str(sum(two.high for _, two in both)),
        str(sum(two.low for _, two in both)),
        ", ".join(f"{x:+.0f}" for x in apart),
        str(sum(not two.guided for _, two in both)),
        f"{failed[0]}, {failed[1]}",
    ]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--fmax", type=float, default=0.05, help="eV/Angstrom")
    parser.add_argument("--rattle", type=float, default=0.12, help="Angstrom")
    parser.add_argument("--most", type=int, default=100, help="force calls")
    parser.add_argument("--no-save", action="store_true")
    asked = parser.parse_args()
    rows, totals = [], {kind: [0, 0, 0] for kind in STARTS}
    for case, kind, found in pairs_of(asked):
        rows.append(row_of(case, kind, found))
        for one, two in (pair for pair in found if all(end.converged for end in pair)):
            for k, count in enumerate((one.high, two.high, two.low)):
                totals[kind][k] += count
        tqdm.write(" | ".join(rows[-1]))
    for kind, (alone, led, low) in totals.items():
        share = f" ({led / alone:.2f} of those)" if alone else ""
        rows.append(["all", kind, str(alone), f"{led}{share}", str(low), "", "", ""])
        tqdm.write(" | ".join(rows[-1]))
    if not asked.no_save:
        write(rows, asked)


def write(rows: list[list[str]], asked: argparse.Namespace) -> None:
    """Write the page of results."""
    head = [
        "defect",
        "begins from",
        f"{HIGH} calls from springs",
        f"{HIGH} calls guided",
        f"{LOW} calls of the guide",
        "end of the guided against that from springs, meV/cell, per start",
        "went on from springs",
        "did not converge, from springs and guided",
    ]
    lines = [
        "# Force calls of guided relaxations",
        "",
        f"Written by `python benchmarks/guided.py` on {date.today()}: defect-mf-flows "
        f"{package_version()}, Python {platform.python_version()}.",
        "",
        f"| {' | '.join(head)} |",
        f"| {' | '.join(['---'] * len(head))} |",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"Relaxations with {HIGH} to {asked.fmax:g} eV/A, sums over {len(asked.seeds)} starts "
        "each. The starts: two neighbours of the vacancy 30 % nearer, all atoms displaced by "
        f"{asked.rattle} A (standard deviation); and the minimum to which {LOW} relaxes them. At "
        f"most {asked.most} calls each; sums are of the starts from which both converged. Where "
        "energies differ by more than a few meV, the two ended in different basins.",
        "",
    ]
    RESULTS.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
