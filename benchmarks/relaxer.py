"""Force calls of a reference relaxation: ours against ASE's FIRE and LBFGS, on real tight binding.

Vacancies in several hosts, two neighbours pulled inwards and all atoms displaced at random, are
relaxed with GFN1-xTB by each minimiser. Force calls are counted, not seconds.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.geometry import find_mic
from ase.io import read
from ase.optimize import FIRE, LBFGS
from tblite.ase import TBLite
from tqdm import tqdm

from defect_mf_flows.engines.relaxer import Relaxer
from defect_mf_flows.powerups import package_version

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "benchmarks" / "relaxer.md"
#: Host, its cell, the symbol that is missing, and the charge.
CASES: dict[str, tuple[Callable[[], Atoms], str, int]] = {
    "Si, v_Si": (lambda: bulk("Si", a=5.43, cubic=True) * (2, 2, 1), "Si", 0),
    "ZnS, v_Zn": (lambda: bulk("ZnS", "zincblende", a=5.41, cubic=True) * (2, 2, 1), "Zn", -2),
    "ZnS, v_S": (lambda: bulk("ZnS", "zincblende", a=5.41, cubic=True) * (2, 2, 1), "S", 2),
    "MgO, v_O": (lambda: bulk("MgO", "rocksalt", a=4.21, cubic=True) * (2, 2, 1), "O", 2),
    "GaN, v_N": (lambda: bulk("GaN", "wurtzite", a=3.19, c=5.19) * (3, 2, 2), "N", 1),
    "Sb2Se3, v_Se": (lambda: _sb2se3() * (1, 2, 1), "Se", 2),
}
WAYS: dict[str, Callable[[Atoms], Any]] = {
    "ASE FIRE": lambda atoms: FIRE(atoms, logfile=os.devnull),
    "ASE LBFGS": lambda atoms: LBFGS(atoms, logfile=os.devnull),
    "ASE LBFGS, alpha 30, steps to 0.3 A": lambda atoms: LBFGS(
        atoms, logfile=os.devnull, alpha=30.0, maxstep=0.3
    ),
    "this package": Relaxer,
}


def _sb2se3() -> Atoms:
    """The host with its short axis second."""
    atoms: Any = read(ROOT / "examples" / "hosts" / "Sb2Se3.cif")
    lengths = atoms.cell.lengths()
    order = np.argsort(lengths)[[1, 0, 2]]
    return Atoms(
        atoms.get_chemical_symbols(),
        positions=atoms.get_scaled_positions()[:, order] * lengths[order],
        cell=lengths[order],
        pbc=True,
    )


def start_of(name: str, seed: int, rattle: float, method: str = "GFN1-xTB") -> Atoms:
    """A vacancy whose two nearest neighbours moved inwards by 30 %, all atoms displaced."""
    make, symbol, charge = CASES[name]
    atoms = make()
    missing = max(i for i, own in enumerate(atoms.get_chemical_symbols()) if own == symbol)
    site = atoms.positions[missing].copy()
    del atoms[missing]
    vectors, lengths = find_mic(atoms.positions - site, atoms.cell, pbc=True)
    for i in np.argsort(lengths)[:2]:
        atoms.positions[i] -= 0.3 * vectors[i]
    atoms.positions += np.random.default_rng(seed).normal(0, rattle, atoms.positions.shape)
    atoms.calc = calculator(method, charge)
    return atoms


def calculator(method: str, charge: int) -> TBLite:
    """Tight binding with electrons warm enough for every case."""
    return TBLite(method=method, charge=charge, electronic_temperature=600.0, verbosity=0)


def relax(atoms: Atoms, way: str, thresholds: list[float], most: int) -> tuple[list[int], float]:
    """Force calls until each threshold, and the energy at the end, eV."""
    optimizer = WAYS[way](atoms)
    calls = [most + 1] * len(thresholds)
    for number in range(1, most + 1):
        force = float(np.linalg.norm(atoms.get_forces(), axis=1).max())
        calls = [min(c, number) if force < t else c for c, t in zip(calls, thresholds, strict=True)]
        if force < min(thresholds):
            break
        optimizer.step()
    return calls, float(atoms.get_potential_energy())


def rows_of(asked: argparse.Namespace) -> Iterator[tuple[str, str, list[list[int]], list[float]]]:
    """One row per case and way, all seeds together."""
    bar = tqdm(total=len(asked.cases) * len(WAYS) * len(asked.seeds))
    for case in asked.cases:
        for way in WAYS:
            found = []
            for seed in asked.seeds:
                atoms = start_of(case, seed, asked.rattle)
                found.append(relax(atoms, way, asked.fmax, asked.most))
                bar.update()
            yield case, way, [calls for calls, _ in found], [energy for _, energy in found]
    bar.close()


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--fmax", type=float, nargs="+", default=[0.1, 0.05], help="eV/Angstrom")
    parser.add_argument("--rattle", type=float, default=0.12, help="Angstrom")
    parser.add_argument("--most", type=int, default=250, help="force calls")
    parser.add_argument("--no-save", action="store_true")
    asked = parser.parse_args()
    rows: list[list[str]] = []
    lowest: dict[str, list[float]] = {}
    for case, way, calls, energies in rows_of(asked):
        lowest.setdefault(case, energies)
        middles = [float(np.median(column)) for column in zip(*calls, strict=True)]
        shown = [f"{m:g}" if m <= asked.most else f"over {asked.most}" for m in middles]
        apart = [1000 * (e - first) for e, first in zip(energies, lowest[case], strict=True)]
        rows.append([case, way, *shown, ", ".join(f"{x:+.0f}" for x in apart)])
        tqdm.write(" | ".join(rows[-1]))
    if not asked.no_save:
        write(rows, asked)


def write(rows: list[list[str]], asked: argparse.Namespace) -> None:
    """Write the page of results."""
    head = ["defect", "minimiser", *(f"calls to {t:g} eV/A" for t in asked.fmax)]
    head.append("energy against FIRE's end, meV/cell, per start")
    lines = [
        "# Force calls of reference relaxations",
        "",
        f"Written by `python benchmarks/relaxer.py` on {date.today()}: defect-mf-flows "
        f"{package_version()}, Python {platform.python_version()}, GFN1-xTB.",
        "",
        f"| {' | '.join(head)} |",
        f"| {' | '.join(['---'] * len(head))} |",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"Medians of {len(asked.seeds)} starts: two neighbours of the vacancy 30 % nearer, all "
        f"atoms displaced by {asked.rattle} A (standard deviation). Where energies differ by more "
        "than a few meV, the minimisers ended in different basins.",
        "",
    ]
    RESULTS.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
