"""Deduplication of many minima: time, how it grows, and agreement with comparing all pairs.

The minima are what a large search leaves: a hundred basins of a vacancy in a 31-atom cell, each
reached many times with the noise of unconverged relaxations, as symmetry copies with their atoms
in any order.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from datetime import date
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.campaign import DefectSettings, HostSettings, MatchSettings
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.core.defects import generate_defects
from defect_mf_flows.core.matching import soap_distance
from defect_mf_flows.core.minima import SURE, Matcher
from defect_mf_flows.core.symmetry import Geometry, operations_of
from defect_mf_flows.powerups import package_version
from defect_mf_flows.schemas.defect import DefectSet
from defect_mf_flows.testing import zinc_blende

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "benchmarks" / "matching.md"


def ends_of(
    defects: DefectSet, n: int, basins: int, noise: float
) -> tuple[list[Structure], list[float], list[int]]:
    """Ends of relaxations, their energies, and the basin of each."""
    defect = defects.defects[0]
    operations = operations_of(defect.supercell)
    rng = np.random.default_rng(1)
    cell = defect.supercell
    middles = [
        cell.cart_coords + rng.normal(scale=0.12, size=(len(cell), 3)) for _ in range(basins)
    ]
    heights = rng.uniform(0, 1.5, size=basins)
    structures, energies, kinds = [], [], []
    for _ in range(n):
        kind = int(rng.integers(basins))
        places = cell.lattice.get_fractional_coords(
            middles[kind] + rng.normal(scale=noise, size=(len(cell), 3))
        )
        operation = operations[int(rng.integers(len(operations)))]
        order = rng.permutation(len(cell))
        moved = Structure(cell.lattice, [cell.species[i] for i in order], operation(places)[order])
        structures.append(with_charge(moved, 0))
        energies.append(float(heights[kind] + abs(rng.normal(scale=0.002))))
        kinds.append(kind)
    return structures, energies, kinds


def pairwise(matcher: Matcher, structures: list[Structure], energies: list[float]) -> list[int]:
    """The same criterion, each end against every minimum before it."""
    from defect_mf_flows.core.matching import soap_vectors
    from defect_mf_flows.core.minima import HOPELESS, choose_threshold

    vectors = soap_vectors(structures, matcher.defect.site)
    limit = choose_threshold(energies, vectors, settings=matcher.settings).value
    found: list[int] = []
    labels = [-1] * len(structures)
    for i in np.argsort(energies, kind="stable"):
        for number, j in enumerate(found):
            distance = soap_distance(vectors[i], vectors[j])
            near = abs(energies[i] - energies[j]) <= matcher.settings.energy
            if not near or distance > HOPELESS * limit:
                continue
            if distance <= SURE * limit or matcher.alike(
                Geometry.of(structures[i]), Geometry.of(structures[j])
            ):
                labels[i] = number
                break
        else:
            labels[i] = len(found)
            found.append(int(i))
    return labels


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 2500, 5000, 10_000])
    parser.add_argument("--basins", type=int, default=100)
    parser.add_argument("--noise", type=float, default=0.01, help="Angstrom")
    parser.add_argument("--compared", type=int, default=1000)
    parser.add_argument("--no-save", action="store_true")
    asked = parser.parse_args()
    defects = generate_defects(
        zinc_blende(),
        host=HostSettings(structure=Path("host.cif"), supercell=[2, 2, 1]),
        defects=DefectSettings(include=["v_Zn"]),
    )
    matcher = Matcher(defects.defects[0], defects.host.supercell, MatchSettings())
    rows = []
    for n in asked.sizes:
        structures, energies, kinds = ends_of(defects, n, asked.basins, asked.noise)
        began, cpu = time.perf_counter(), time.process_time()
        found = matcher.collect(structures, energies, [str(i) for i in range(n)])
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        pure = len(set(zip(found.labels, kinds, strict=True))) == len(found.minima)
        agreement = ""
        if n == asked.compared:
            labels = pairwise(matcher, structures, energies)
            same = sum(a == b for a, b in zip(labels, found.labels, strict=True))
            agreement = f"{same} of {n}"
        rows.append(
            [
                f"{n:,}",
                str(len(found.minima)),
                str(len(set(kinds))),
                "yes" if pure else "no",
                f"{seconds:.1f}",
                f"{cpu:.1f}",
                f"{1e6 * cpu / (n * np.log2(n)):.0f}",
                f"{found.threshold.value:.1e}" + ("" if found.threshold.chosen else " (default)"),
                agreement,
            ]
        )
        print(" | ".join(rows[-1]), flush=True)
    if not asked.no_save:
        write(rows, asked)


def write(rows: list[list[str]], asked: argparse.Namespace) -> None:
    """Write the page of results."""
    head = [
        "ends",
        "minima found",
        "basins",
        "no minimum mixes basins",
        "wall (s)",
        "CPU (s)",
        "CPU / n log2 n (us)",
        "threshold",
        "agrees with all pairs",
    ]
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    lines = [
        "# Deduplication of minima",
        "",
        f"Written by `python benchmarks/matching.py` on {date.today()}: defect-mf-flows "
        f"{package_version()}, Python {platform.python_version()}, one core, load {load} at the "
        "end (1, 5, 15 minutes).",
        "",
        f"| {' | '.join(head)} |",
        f"| {' | '.join(['---'] * len(head))} |",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"31-atom cell, noise of {asked.noise} A on every coordinate, symmetry copies, atoms in "
        "any order; times include SOAP vectors, what became of each defect, and the threshold. "
        "Target: 10,000 in under a minute, growing no faster than n log n.",
        "",
    ]
    RESULTS.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
