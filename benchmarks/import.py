"""Importing against bare pymatgen and ASE: frames per second and peak memory.

    python benchmarks/import.py FOLDER [--copies N]

Every reader runs in a process of its own and reads the same files. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

MIB = 1024


def outcars(folder: Path) -> list[Path]:
    """OUTCARs below a folder."""
    return sorted(folder.rglob("OUTCAR*"))


def vaspruns(folder: Path) -> list[Path]:
    """vasprun.xml files below a folder."""
    return sorted(folder.rglob("vasprun.xml*"))


def by_ase(folder: Path) -> tuple[int, int]:
    """Every step with ASE's reader; the files one after the other."""
    import ase.io

    files = [(p, "vasp-out") for p in outcars(folder)] + [(p, "vasp-xml") for p in vaspruns(folder)]
    return len(files), sum(len(ase.io.read(p, index=":", format=f)) for p, f in files)


def by_pymatgen(folder: Path) -> tuple[int, int]:
    """Every step of vasprun.xml with pymatgen's Vasprun; its Outcar reads no steps."""
    from pymatgen.io.vasp.outputs import Vasprun

    files = vaspruns(folder)
    return len(files), sum(
        len(Vasprun(p, parse_dos=False, parse_potcar_file=False).ionic_steps) for p in files
    )


def by_reading(folder: Path) -> tuple[int, int]:
    """Every step with this package's readers."""
    from defect_mf_flows.importing.vasp import read_vasp
    from defect_mf_flows.importing.walk import walk

    found = [len(read_vasp(source).steps) for source in walk([folder])]
    return len(found), sum(found)


def by_dry_run(folder: Path) -> tuple[int, int]:
    """Everything that `import --dry-run` does: read, recognise, compare, count once."""
    from defect_mf_flows.importing.plan import make_plan
    from defect_mf_flows.importing.walk import walk

    plan = make_plan(walk([folder]), "bench")
    return len(plan.rows), plan.n_frames


def by_import(folder: Path) -> tuple[int, int]:
    """Everything that `import` does, into a private mongod."""
    from defect_mf_flows.importing.plan import make_plan
    from defect_mf_flows.importing.storing import StoredImports, carry_out
    from defect_mf_flows.importing.walk import walk
    from defect_mf_flows.local.imports import open_for_import

    with tempfile.TemporaryDirectory() as place, open_for_import(Path(place)) as store:
        began = time.perf_counter(), time.process_time()
        plan = make_plan(walk([folder]), "bench", known=StoredImports(store, "bench"))
        done = carry_out(plan, store)
        TIMES[:] = [time.perf_counter() - began[0], time.process_time() - began[1]]
    return len(plan.rows), done.frames


TIMES: list[float] = []
READERS: dict[str, Callable[[Path], tuple[int, int]]] = {
    "ASE": by_ase,
    "pymatgen Vasprun": by_pymatgen,
    "our readers": by_reading,
    "import --dry-run": by_dry_run,
    "import, stored": by_import,
}


def measure(name: str, folder: Path) -> dict[str, Any]:
    """Run one reader in this process; libraries are imported before the clock starts."""
    warnings.simplefilter("ignore")
    import ase.io.vasp
    import pymatgen.io.vasp.outputs
    import spglib  # noqa: F401

    import defect_mf_flows.importing.plan
    import defect_mf_flows.importing.vasp  # noqa: F401

    assert ase.io.vasp
    assert pymatgen.io.vasp.outputs
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, cpu = time.perf_counter(), time.process_time()
    files, frames = READERS[name](folder)
    wall, spent = TIMES or [time.perf_counter() - began, time.process_time() - cpu]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "files": files,
        "frames": frames,
        "wall": wall,
        "cpu": spent,
        "growth": (peak - base) / MIB,
        "peak": peak / MIB,
    }


def apart(name: str, folder: Path) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, str(folder), "--reader", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def multiply(folder: Path, copies: int, target: Path) -> None:
    """Copy a tree, the energies of every copy moved so that it is no duplicate."""
    for number in range(copies):
        place = target / f"copy_{number:04d}"
        shutil.copytree(folder, place)
        for path in outcars(place) if number else []:
            text = gzip.decompress(path.read_bytes())

            def moved(match: re.Match[bytes], shift: float = number) -> bytes:
                return match[1] + b"%.8f" % (float(match[2]) + shift)

            text = re.sub(rb"(energy\(sigma->0\) =\s+)(-?[\d.]+)", moved, text)
            path.chmod(0o644)
            path.write_bytes(gzip.compress(text, 1))


def show(title: str, rows: list[tuple[str, dict[str, Any]]]) -> None:
    """Print a table."""
    print(f"\n{title}")
    print(f"{'':22s}{'files':>6s}{'frames':>8s}{'wall s':>8s}{'CPU s':>8s}", end="")
    print(f"{'frames/s':>10s}{'frames/CPU s':>14s}{'peak MiB':>10s}{'growth MiB':>12s}")
    for name, r in rows:
        if not r["frames"]:
            print(f"{name:22s}{r['files']:6d}  no file of a kind that it reads")
            continue
        print(f"{name:22s}{r['files']:6d}{r['frames']:8d}{r['wall']:8.2f}{r['cpu']:8.2f}", end="")
        print(f"{r['frames'] / r['wall']:10.0f}{r['frames'] / r['cpu']:14.0f}", end="")
        print(f"{r['peak']:10.0f}{r['growth']:12.0f}")


def main() -> None:
    """Compare the readers, and the memory with more folders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--copies", type=int, default=8, help="trees for the memory's growth")
    parser.add_argument("--reader", choices=list(READERS))
    given = parser.parse_args()
    if given.reader:
        print(json.dumps(measure(given.reader, given.folder)))
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; OUTCARs of {given.folder}")
    show("The same files", [(name, apart(name, given.folder)) for name in READERS])
    with tempfile.TemporaryDirectory() as place:
        rows = []
        for copies in (1, given.copies):
            target = Path(place) / f"x{copies}"
            target.mkdir()
            multiply(given.folder, copies, target)
            for name in ("import --dry-run", "import, stored"):
                rows.append((f"{name} x{copies}", apart(name, target)))
        show("More folders", rows)


if __name__ == "__main__":
    main()
