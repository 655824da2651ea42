"""Size of a campaign's report, and how soon it opens: python benchmarks/report.py [--out F].

Geometries, defects and distances are those of ZnS; energies and errors are invented, as many
as a campaign of that size has. A results.json of a real campaign can stand beside them.
"""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from functools import partial
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import click
import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.campaign import DefectSettings, HostSettings
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.core.defects import generate_defects
from defect_mf_flows.core.environment import environments
from defect_mf_flows.learning.descriptors import project
from defect_mf_flows.report.compare import load_results
from defect_mf_flows.report.html import render_report
from defect_mf_flows.schemas.calculation import BandEdges, Failure, FailureReason
from defect_mf_flows.schemas.defect import Defect, DefectSet
from defect_mf_flows.schemas.loop import RoundSummary, StopVerdict
from defect_mf_flows.schemas.model import DescriptorMap, EpochRecord, HeadMetrics, ParityPoint
from defect_mf_flows.schemas.results import (
    FormationEnergies,
    FoundMinimum,
    GroundState,
    PesPoint,
    Results,
    StageCost,
    TransitionLevel,
)
from defect_mf_flows.schemas.search import Deviation, Verdict
from defect_mf_flows.testing import zinc_blende
from defect_mf_flows.testing.browser import Browser

DEFECTS = ("v_Zn", "v_S", "S_Zn", "Zn_S")
HEADS = ("pbe", "hse06")
CHARGES = (2, 1, 0, -1, -2)
STARTS = (
    "Unperturbed", *(f"Bond_Distortion_{d}.0%" for d in range(-60, 61, 10)), "Dimer",
    "Rattle_0.05", "Rattle_0.15", "Pair_S1-S2_-40.0%", "Low_+0_0", "Low_+1_0", "Low_-1_0",
    "Verified_0", "Verified_1", "Given_0", "Given_1",
)  # fmt: skip
FRAMES = 10  # low-fidelity labels per relaxation; every tenth is one of high fidelity as well
WIDTHS = {"desktop": 1280, "phone": 390}
STRUCTURES = 500
LIMIT_S, LIMIT_MB = 2.0, 10.0


def moved(cell: Structure, charge: int, rng: np.random.Generator) -> Structure:
    """The cell with its atoms pushed about."""
    xyz = cell.cart_coords + rng.normal(scale=0.08, size=(len(cell), 3))
    found = Structure(cell.lattice, cell.species, xyz, coords_are_cartesian=True)
    return with_charge(found, charge)


def ground_state(
    name: str, defect: Defect, charge: int, rng: np.random.Generator, *, nearest: float
) -> GroundState:
    """A verified ground state: real cell and distances, invented energies."""
    verified, model = (moved(defect.supercell, charge, rng) for _ in range(2))
    energy, error = -1000.0 - 5 * charge, float(rng.normal(scale=0.02))
    shift = Deviation(rmsd=0.05, local_rmsd=0.06, max_displacement=0.1)
    return GroundState(
        defect=name,
        charge=charge,
        verdict=(Verdict.CONFIRMED, Verdict.LOWER, Verdict.WRONG)[charge % 3],
        reason="0.426 eV below the low-fidelity ground state (Dimer), which stays",
        energy_model=energy + error,
        energy_hf=energy,
        energy_error=error,
        rmsd=0.05,
        local_rmsd=0.06,
        max_displacement=0.1,
        start="Bond_Distortion_-30.0%",
        found_by="model",
        starts=list(STARTS[:5]),
        n_minima=5,
        low_start="Dimer",
        low_is_ground_state=charge % 2 == 0,
        low_excess=0.1,
        low_deviation=shift,
        shortest_bonds={"verified": nearest, "low": 3.8},
        structure=verified,
        environments=environments(
            defect, {"verified": verified, "model": model, "low": defect.supercell}
        ),
    )


def results(made: DefectSet, n_defects: int, n_starts: int) -> Results:
    """Results of a campaign.

    Parameters
    ----------
    made
        Defects to take over and over, under other names.
    n_defects, n_starts
        Relaxations: defects, times five charges, times starts.
    """
    rng = np.random.default_rng(1)
    known = [made.get(name) for name in DEFECTS]
    of = {f"{d.name}_site{n}": d for n, d in zip(range(n_defects), cycle(known), strict=False)}
    states = [(name, q) for name in of for q in CHARGES]
    starts = STARTS[:n_starts]
    assert len(starts) == n_starts
    return Results(
        campaign="benchmark",
        campaign_hash="0" * 64,
        disclaimer="A benchmark of the report: these numbers are invented.",
        host={
            "formula": "ZnS",
            "n_atoms": len(made.host.supercell),
            "cell": made.host.supercell.lattice.matrix.tolist(),
        },
        fidelities={"low": "pbe", "high": "hse06"},
        engines={name: {"engine": "invented"} for name in HEADS},
        correction="none",
        band_edges=BandEdges(vbm=0.0, cbm=2.0),
        ground_states=[ground_state(n, of[n], q, rng, nearest=2.2) for n, q in states],
        descriptors=[descriptor_map(name, 400 // n_defects, rng) for name in of],
        **levels_part(list(of)),
        **model_part(FRAMES * len(states) * n_starts, rng),
        **search_part(states, starts, rng),
        counts={"frames": {"pbe": 1000}, "labels": {"pbe": 900}, "labels_by_split": {}},
        failures=[
            Failure(
                stage="low fidelity", reason=FailureReason.STEPS, message="not converged",
                defect=name, charge=q, start=starts[-1],
            )
            for name, q in states
        ],
        cost=[
            StageCost(stage="low fidelity", fidelity="pbe", jobs=500, calls=20000, seconds=1e6),
            StageCost(stage="high fidelity", fidelity="hse06", jobs=500, calls=500, seconds=1e6),
            StageCost(stage="training", fidelity=None, jobs=3, calls=0, seconds=1e4),
            StageCost(stage="search", fidelity=None, jobs=1500, calls=90000, seconds=1e4),
            StageCost(stage="verification", fidelity="hse06", jobs=75, calls=900, seconds=2e6),
        ],
        seeds={"campaign": 1},
    )  # fmt: skip


def levels_part(names: list[str]) -> dict[str, Any]:
    """Transition levels and formation energies."""
    levels = [
        TransitionLevel(
            defect=name, from_charge=a, to_charge=b, model=0.5 * n + 0.01, hf=0.5 * n,
            low=0.5 * n - 0.2, thermodynamic=True,
        )
        for name in names
        for n, (a, b) in enumerate(pairwise(CHARGES))
    ]  # fmt: skip
    formation = [
        FormationEnergies(
            defect=name, source=source, charges=list(CHARGES),
            energies=[-0.9 * q + 0.4 * q * q for q in CHARGES],
        )
        for name in names
        for source in ("hf", "model", "low")
    ]  # fmt: skip
    return {"transition_levels": levels, "formation": formation}


def model_part(n_low: int, rng: np.random.Generator) -> dict[str, Any]:
    """Errors, parity and learning curve of the last model."""
    metrics = [
        HeadMetrics(
            head=head, charge=q, split=split, n_frames=100, energy_rmse_cell=20.0,
            energy_mae_cell=15.0, energy_rmse_atom=0.3, relative_energy_rmse_cell=10.0,
            force_rmse=30.0, force_mae=20.0,
        )
        for head in HEADS
        for q in CHARGES
        for split in ("train", "valid", "test")
    ]  # fmt: skip
    history = [
        EpochRecord(
            epoch=e, train_loss=1 / (e + 1), learning_rate=0.01,
            valid={h: {"energy_rmse": 99 / (e + 1), "force_rmse": 200 / (e + 1)} for h in HEADS},
        )
        for e in range(200)
    ]  # fmt: skip
    points = [*parity("pbe", n_low, rng), *parity("hse06", n_low // 10, rng)]
    return {"metrics": metrics, "parity": points, "history": history, "best_epoch": 190}


def search_part(
    states: list[tuple[str, int]], starts: tuple[str, ...], rng: np.random.Generator
) -> dict[str, Any]:
    """Minima, end points and rounds."""
    keys = [f"{name}|{q:+d}" for name, q in states]
    minima = [
        FoundMinimum(defect=n, charge=q, rank=r, energy=0.1 * r, n_starts=3, start=starts[0])
        for n, q in states
        for r in range(min(6, len(starts)))
    ]
    ends = [
        PesPoint(
            defect=n, charge=q, source=source, start=start,
            energy=float(rng.exponential(0.5)) * (i > 0), rmsd=float(rng.uniform(0, 0.6)),
        )
        for n, q in states
        for source in ("low", "model")
        for i, start in enumerate(starts)
    ]  # fmt: skip
    rounds = [
        RoundSummary(
            round=n, model="m", dataset="d", searches="s", verifications="v",
            verdicts=dict.fromkeys(keys, Verdict.CONFIRMED),
            ground_energies=dict.fromkeys(keys, -1000.0),
            energy_errors=dict.fromkeys(keys, 0.01), new_labels=len(states),
        )
        for n in (1, 2, 3)
    ]  # fmt: skip
    return {
        "ranked_minima": minima,
        "pes": ends,
        "rounds": rounds,
        "stop": StopVerdict.CONVERGED,
        "stop_reason": "every charge state is confirmed",
    }


def parity(head: str, count: int, rng: np.random.Generator) -> list[ParityPoint]:
    """Invented labels and predictions."""
    energies = rng.exponential(1.0, count)
    errors = rng.normal(scale=0.02, size=count)
    sides = rng.choice(["train", "valid", "test"], size=count, p=[0.8, 0.1, 0.1])
    return [
        ParityPoint(
            head=head, charge=CHARGES[i % len(CHARGES)], split=str(side), energy=float(e),
            energy_model=float(e + d), force_rmse=30.0,
        )
        for i, (e, d, side) in enumerate(zip(energies, errors, sides, strict=True))
    ]  # fmt: skip


def descriptor_map(defect: str, count: int, rng: np.random.Generator) -> DescriptorMap:
    """A map of invented features."""
    charges = [CHARGES[i % len(CHARGES)] for i in range(max(count, 10))]
    rows = rng.normal(size=(len(charges), 8))
    apart = rows + 5 * np.outer(charges, np.eye(8)[0])
    return DescriptorMap(
        defect=defect, charges=charges, splits=["train"] * len(charges),
        starts=[STARTS[1]] * len(charges), n_frames=1000, held_charge=0,
        with_charge=project(apart, charges), without_charge=project(rows, charges),
    )  # fmt: skip


def measure(name: str, found: Results, folder: Path, repeats: int) -> dict[str, Any]:
    """Render a report, open it, and tell size and times."""
    begin = time.perf_counter()
    text = render_report(found)
    row: dict[str, Any] = {
        "name": name,
        "relaxations": sum(p.source == "low" for p in found.pes),
        "geometries": len(found.ground_states),
        "render": time.perf_counter() - begin,
        "megabytes": len(text.encode()) / 1e6,
        "figures": text.count('class="plot"'),
    }
    page = folder / "report.html"
    page.write_text(text, encoding="utf-8")
    for device, width in WIDTHS.items():
        runs = []
        for _ in range(repeats):
            with Browser() as browser:  # a new one: nothing is cached
                told = browser.open(page, width=width)
                browser.run("document.querySelector('.plot').scrollIntoView()")
                browser.wait("document.querySelector('.js-plotly-plot') !== null")
                told["figure"] = browser.run("performance.now()")
                assert not browser.messages, browser.messages
                runs.append(told)
        row[device] = {k: statistics.median(r[k] for r in runs) / 1000 for k in runs[0]}
    click.echo(row, err=True)
    return row


HEADER = f"""# Does the report of a large campaign open?

`python benchmarks/report.py` renders reports and opens each in a new headless Chromium, at the
width of a desktop and of a phone. The aim: a campaign of 500 structures opens in under
{LIMIT_S:g} s and stays under {LIMIT_MB:g} MB. Geometries and distances are those of defects in a
64-atom cell of ZnS; energies are invented, as many as such a campaign has.

- **open**: load event over, words and tables can be read and scrolled, by the browser's clock.
- **painted**: first content on the screen.
- **figure**: the first figure is drawn, once the page was scrolled to it.

Plotly, 4.7 MB of every page, is parsed after the first picture; a figure is drawn when the reader
comes near it, a geometry when it is chosen.
"""


def page_of(rows: list[dict[str, Any]], repeats: int) -> str:
    """The page docs/benchmarks/report.md."""
    lines = [
        HEADER,
        "| campaign | relaxations | geometries | figures | written in (s) | size (MB) | "
        "window | open (s) | painted (s) | figure (s) |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        for device in WIDTHS:
            found = row[device]
            lines.append(
                f"| {row['name']} | {row['relaxations']} | {row['geometries']} | "
                f"{row['figures']} | {row['render']:.1f} | {row['megabytes']:.1f} | {device} | "
                f"{found['load']:.2f} | {found['paint']:.2f} | {found['figure']:.2f} |"
            )
    slowest = {k: max(row[d][k] for row in rows for d in WIDTHS) for k in ("load", "paint")}
    lines += [
        "",
        f"Slowest load event {slowest['load']:.2f} s, slowest first content "
        f"{slowest['paint']:.2f} s (aim {LIMIT_S:g} s); largest page "
        f"{max(r['megabytes'] for r in rows):.1f} MB "
        f"(aim {LIMIT_MB:g} MB).",
    ]
    cores, load = os.cpu_count(), os.getloadavg()[0]
    lines += [
        "",
        f"Median of {repeats}, {platform.machine()}, {cores} cores with a load of {load:.1f} from "
        "other work, graphics drawn by the processor.",
    ]
    return "\n".join(lines) + "\n"


@click.command()
@click.option("--out", type=click.Path(path_type=Path), help="Page to write.")
@click.option("--results", "real", type=click.Path(path_type=Path), help="A results.json.")
@click.option(
    "--defects", type=click.IntRange(4, 100), multiple=True, default=(4, 20), show_default=True,
    help="Among how many defects the structures are divided.",
)  # fmt: skip
@click.option("--repeats", default=3, show_default=True, help="Openings per page and width.")
def main(out: Path | None, real: Path | None, defects: tuple[int, ...], repeats: int) -> None:
    """Print size and opening times of reports."""
    made = generate_defects(
        zinc_blende(),
        host=HostSettings(structure="ZnS.cif", supercell=[2, 2, 2]),
        defects=DefectSettings(include=list(DEFECTS)),
    )
    cases = {
        f"{n} defects": partial(results, made, n, STRUCTURES // (n * len(CHARGES))) for n in defects
    }
    if real is not None:
        cases["a real campaign"] = partial(load_results, real)
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(name, make(), Path(folder), repeats) for name, make in cases.items()]
    text = page_of(rows, repeats)
    click.echo(text)
    if out is not None:
        out.write_text(text, encoding="utf-8")
    for row in rows:
        slow = [d for d in WIDTHS if row[d]["load"] > LIMIT_S]
        if slow or row["megabytes"] > LIMIT_MB:
            click.echo(f"{row['name']}: over the aim ({row['megabytes']:.1f} MB, slow on {slow})")


if __name__ == "__main__":
    main()
