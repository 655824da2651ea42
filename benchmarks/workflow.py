"""What the workflow costs: jobs, queries, datasets. Prints tables and keeps them in the docs.

Wall times depend on what else the machine does; ratios are measured side by side in one run, and
CPU seconds are given along.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from defect_mf_flows.local.mongod import PrivateMongod
from defect_mf_flows.powerups import package_version

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "benchmarks" / "workflow.md"
DATABASE = "frames"

Table = tuple[str, list[str], list[list[str]], str]


def overhead(port: int, sizes: list[int], run: int, scratch: Path) -> Table:
    """Time per job of empty jobs, three ways in turn."""
    from overhead import measure

    rows = []
    for size in sizes:
        for journal in (False, True):
            ways = measure(port, size, min(run, size), scratch, journal)
            bare = ways[0].per_job
            for way in ways if not journal else [ways[0], ways[-1]]:
                acknowledged = ", journal acknowledged" if journal and way is ways[-1] else ""
                rows.append(
                    [
                        str(size),
                        way.name + acknowledged,
                        f"{way.submitted:.2f}",
                        f"{1000 * way.per_job:.0f}",
                        f"{way.per_job / bare:.2f}",
                    ]
                )
                print(rows[-1], flush=True)
    head = ["jobs in the flow", "way", "submit (s)", "per job (ms)", "ratio to FireWorks"]
    note = (
        f"Of each flow {run} jobs were run, ten at a time each way in turn; medians. `jobflow on "
        "FireWorks` is its stock `flow_to_workflow` with FireWorks' rapidfire: it also stores an "
        "output. `this package` adds routing, stamps, the version check and the worker's loop. "
        "In production its clients also wait until a write is in the journal, so that a kill of "
        "mongod loses nothing: `journal acknowledged`. Target: at most 1.3."
    )
    return "Overhead per job", head, rows, note


def frames(
    port: int, n_calculations: int, n_frames: int, n_assembled: int, scratch: Path
) -> list[Table]:
    """Queries, streaming and dataset assembly on a filled store."""
    from reading import assembly, query_times, streaming
    from synthetic import fill

    began = time.perf_counter()
    first_high = fill(port, DATABASE, n_calculations, n_frames, workers=2)
    total = n_calculations * n_frames
    print(f"filled with {total} frames in {time.perf_counter() - began:.0f} s", flush=True)
    found = _apart(query_times, port, DATABASE)
    tables: list[Table] = [
        (
            f"Queries with {total:,} frames in the store",
            ["query", "rows", "median (ms)"],
            [[name, str(rows), f"{ms:.1f}"] for name, rows, ms in found],
            f"{n_calculations:,} calculations of {n_frames} frames, 31 atoms. Target: 50 ms for an "
            "indexed query. The table of every calculation is not one: it reads them all.",
        )
    ]
    _show(tables[-1])
    seen = _apart(streaming, port, DATABASE, min(10_000, total))
    tables.append(
        (
            f"Streaming {seen['frames']:,} frames",
            ["wall (s)", "CPU (s)", "growth of memory (MiB)", "peak memory (MiB)"],
            [[f"{seen[k]:.1f}" for k in ("seconds", "cpu", "growth_mib", "peak_mib")]],
            "Growth from the 400th frame on. Every frame is checked against its hash.",
        )
    )
    _show(tables[-1])
    chosen = _shares(n_calculations, first_high, n_assembled)
    steps = _apart(assembly, port, DATABASE, *chosen, str(scratch))
    total = n_frames * sum(last - first for first, last in chosen)
    rows = [
        [name, f"{v['seconds']:.0f}", f"{v['cpu']:.0f}", f"{v['peak_mib']:.0f}"]
        for name, v in steps
    ]
    total_row = [sum(v[k] for _, v in steps) for k in ("seconds", "cpu")]
    rows.append(["sum", *(f"{t:.0f}" for t in total_row), ""])
    tables.append(
        (
            f"Dataset of {total:,} frames",
            ["step", "wall (s)", "CPU (s)", "peak memory so far (MiB)"],
            rows,
            "Charge and hash of every frame are checked at both readings. Target for assembling: 2 "
            "minutes, 2 GB; one process takes 2 ms per frame to fetch and parse it, to build and "
            "hash its geometry, and to look for atoms too close.",
        )
    )
    _show(tables[-1])
    return tables


def _shares(
    n_calculations: int, first_high: int, n_assembled: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Ranges of low and high calculations, in the store's proportion."""
    part = min(1.0, n_assembled / n_calculations)
    low, high = round(part * first_high), round(part * (n_calculations - first_high))
    return (0, max(low, 30)), (first_high, first_high + max(high, 3))


def _apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call in a fresh process, whose memory is its own."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *arguments).result()


def _markdown(table: Table) -> str:
    title, head, rows, note = table
    lines = [f"## {title}", "", "| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", note, ""])


def _show(table: Table) -> None:
    print("\n" + _markdown(table), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="*", default=[100, 1000, 5000])
    parser.add_argument("--run", type=int, default=100, help="jobs run of each flow")
    parser.add_argument("--calculations", type=int, default=2500, help="0: leave this part out")
    parser.add_argument(
        "--assemble", type=int, default=2500, help="calculations in the dataset [2500]"
    )
    parser.add_argument("--frames", type=int, default=40, help="frames per calculation")
    parser.add_argument("--scratch", type=Path, help="folder for databases [a temporary one]")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the tables are kept")
    return parser.parse_args()


def main() -> None:
    """Measure, print, write."""
    asked = _arguments()
    tables: list[Table] = []
    with tempfile.TemporaryDirectory(dir=asked.scratch) as folder:
        scratch = Path(folder)
        with PrivateMongod(scratch / "data") as server:
            if asked.jobs:
                tables.append(overhead(server.port, asked.jobs, asked.run, scratch))
                _show(tables[-1])
            if asked.calculations:
                tables += frames(
                    server.port, asked.calculations, asked.frames, asked.assemble, scratch
                )
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    head = (
        "# Cost of the workflow\n\nWritten by `python benchmarks/workflow.py "
        f"--jobs {' '.join(map(str, asked.jobs))} --run {asked.run} --calculations "
        f"{asked.calculations} --frames {asked.frames} --assemble {asked.assemble}`"
        + f" on {date.today()}: defect-mf-flows {package_version()}, Python "
        f"{platform.python_version()}, {os.cpu_count()} cores, load {load} at the end (1, 5, 15 "
        "minutes).\n\n"
    )
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(head + "\n".join(_markdown(table) for table in tables))
    print(f"written: {asked.output}")


if __name__ == "__main__":
    main()
