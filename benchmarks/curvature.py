"""Force calls of verifications that began from the model's curvature, against springs alone.

Every high-fidelity relaxation of a finished campaign that began from a curvature is computed once
more from the same geometry without it. Force calls are counted, not seconds.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterable
from datetime import date
from functools import partial
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from tqdm import tqdm

from defect_mf_flows.benchmark.processes import executor
from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.core.stratified import evenly_spaced
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.local.campaign import open_store
from defect_mf_flows.powerups import package_version
from defect_mf_flows.results import CampaignResults
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.settings import available_cores

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "benchmarks" / "curvature.md"
HEAD = [
    "defect, charge",
    "relaxations",
    "calls, springs",
    "calls, curvature",
    "energy of the ends, curvature minus springs, meV/cell",
]


def begun(folder: Path) -> tuple[list[Calculation], FidelitySettings, str]:
    """Relaxations of a campaign that began from a curvature, their method, and whose they are."""
    with open_store(folder) as store:
        api = CampaignResults(store)
        results = api.results()
        found = list(
            api.documents(Calculation, load=True, fidelity=results.fidelities["high"], kind="relax")
        )
    settings = FidelitySettings.model_validate(results.engines[results.fidelities["high"]])
    used = [c for c in found if c.curvature_from is not None and c.frames]
    return used, settings, f"campaign `{results.campaign}` ({results.campaign_hash[:12]})"


def with_springs(done: Calculation, settings: FidelitySettings) -> Calculation:
    """The same relaxation, begun from springs."""
    start = StartStructure(
        defect=done.defect,
        charge=done.charge,
        spin=done.spin,
        label=done.start,
        structure=done.frames[0].structure,
    )
    maker = reference_maker(done.fidelity, settings, CalculationKind.RELAX)
    return maker.compute(start, uuid=done.job_uuid)


def rows_of(pairs: Iterable[tuple[Calculation, Calculation]]) -> list[list[str]]:
    """One row per defect and charge, and one of all; relaxations that did not end are left out."""
    groups: dict[str, list[tuple[Calculation, Calculation]]] = {}
    for one, other in pairs:
        if one.converged and other.converged:
            groups.setdefault(f"{one.defect} {one.charge:+d}", []).append((one, other))
    every = [pair for group in groups.values() for pair in group]
    rows = []
    for name, group in [*groups.items(), ("all", every)]:
        apart = [
            1000 * ((one.final_energy or 0.0) - (other.final_energy or 0.0)) for one, other in group
        ]
        shown = [f"{x:+.0f}" for x in apart]
        if name == "all":
            shown = [
                f"median {np.median(apart):+.0f}, {np.min(apart):+.0f} to {np.max(apart):+.0f}"
            ]
        rows.append(
            [
                name,
                str(len(group)),
                str(sum(other.n_calls for _, other in group)),
                str(sum(one.n_calls for one, _ in group)),
                ", ".join(shown),
            ]
        )
    return rows


def main() -> None:
    """Compute, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of a finished campaign")
    parser.add_argument("--most", type=int, help="relaxations, spread over all; default: all")
    parser.add_argument("--workers", type=int, default=available_cores())
    parser.add_argument("--no-save", action="store_true", help="print only")
    asked = parser.parse_args()
    done, settings, source = begun(asked.folder)
    if not done:
        parser.error(f"{asked.folder}: no relaxation of this campaign began from a curvature")
    total = len(done)
    done = [done[k] for k in evenly_spaced(total, min(total, asked.most or total))]
    with executor(asked.workers) as processes:
        computed = processes.map(partial(with_springs, settings=settings), done)
        again = list(tqdm(computed, total=len(done)))
    rows = rows_of(zip(done, again, strict=True))
    ended = sum(one.converged and other.converged for one, other in zip(done, again, strict=True))
    lines = [
        "# Verifications from the model's curvature",
        "",
        f"Written by `python benchmarks/curvature.py FOLDER --most {len(done)}` on {date.today()}: "
        f"defect-mf-flows {package_version()}, Python {platform.python_version()}; {source}, "
        f"{settings.settings.get('method', settings.engine)} to {settings.fmax:g} eV/A.",
        "",
        f"| {' | '.join(HEAD)} |",
        f"| {' | '.join(['---'] * len(HEAD))} |",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        "Relaxations that a verification began from the model's curvature, once more from the same "
        f"geometry and springs between neighbours: {len(done)} of the campaign's {total}, of which "
        f"{ended} ended both ways and are counted. Where energies differ by more than a few meV, "
        "the two ended in different basins.",
        "",
    ]
    print("\n".join(lines))
    if not asked.no_save:
        RESULTS.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
