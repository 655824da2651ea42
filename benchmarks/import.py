"""Importing against bare pymatgen and ASE: frames per second and peak memory.

    python benchmarks/import.py                       # files that it makes: 63 atoms, 60 steps
    python benchmarks/import.py FOLDER [--copies N]   # OUTCARs and vasprun.xml of your own

Every reader runs in a process of its own and reads the same files. Nothing is asserted. The files
that it makes hold random numbers in VASP's format: 400 bands of two spins at one k-point, no
density of states.
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
STORED = "import, stored"
BARE = ("ASE", "pymatgen Vasprun")
READERS: dict[str, Callable[[Path], tuple[int, int]]] = {
    "ASE": by_ase,
    "pymatgen Vasprun": by_pymatgen,
    "our readers": by_reading,
    "import --dry-run": by_dry_run,
    STORED: by_import,
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


def make_runs(target: Path, names: tuple[str, ...], count: int, steps: int) -> None:
    """A pristine cell, and ``count`` relaxations of a vacancy in VASP's format."""
    import numpy as np
    from ase.build import bulk

    host = bulk("ZnS", "zincblende", a=5.41, cubic=True).repeat((2, 2, 2))
    host = host[np.argsort(host.numbers != 30, kind="stable")]
    write_run(target / "bulk", host, 0, [host], names)
    vacancy = host[1:]
    for number in range(count):
        rng = np.random.default_rng(number)
        images = []
        for _ in range(steps):
            image = vacancy.copy()
            image.positions += rng.normal(scale=0.05, size=image.positions.shape)
            images.append(image)
        write_run(target / f"run_{number:03d}", vacancy, -2, images, names)


def write_run(folder: Path, atoms: Any, charge: int, images: list[Any], names: Any) -> None:
    """Outputs of one run, compressed; labels are random numbers."""
    import numpy as np

    from defect_mf_flows.testing.vasp_files import Files, Header, Labels

    rng = np.random.default_rng([len(images), abs(hash(folder.name)) % 2**32])
    counts = [int((atoms.numbers == z).sum()) for z in (30, 16)]
    electrons = 12 * counts[0] + 6 * counts[1] - charge
    incar = {"GGA": "PE", "ENCUT": 400, "PREC": "Accurate", "LASPH": True, "ISPIN": 2}
    incar |= {"NELM": 100, "NSW": len(images) - 1, "IBRION": 2, "EDIFFG": -0.01, "ISMEAR": 0}
    incar |= {"SIGMA": 0.05, "NELECT": float(electrons)}
    titles = ["STAND_IN Zn 01Jan2026", "STAND_IN S 01Jan2026"]
    folder.mkdir(parents=True)
    head = Header(incar, ["Zn", "S"], titles, counts, [12.0, 6.0], images[0], bands=400)
    files = Files(folder, head)
    levels = np.sort(rng.uniform(-15, 10, 400))
    full = (np.arange(400) < electrons // 2).astype(float)
    for image in images:
        energy = -250 + rng.normal()
        forces, stress = rng.normal(scale=0.3, size=(len(image), 3)), np.diag(rng.normal(size=3))
        scf = [energy + 10.0**-i for i in range(1, 12)] + [energy]
        potentials = rng.normal(-40, 0.5, len(image))
        files.step(Labels(image, scf, forces, stress, levels, np.array([full, full]), potentials))
    files.close(images[-1], converged=True)
    for path in folder.iterdir():
        if path.name in names:
            Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
        path.unlink()


def show(title: str, rows: list[tuple[str, dict[str, Any]]]) -> None:
    """Print a table; "ratio" is frames per CPU second over those of the faster bare reader."""
    bare = [r["frames"] / r["cpu"] for name, r in rows if name in BARE and r["frames"]]
    print(f"\n{title}")
    print(f"{'':24s}{'files':>6s}{'frames':>8s}{'wall s':>8s}{'CPU s':>8s}", end="")
    print(f"{'frames/CPU s':>14s}{'ratio':>8s}{'peak MiB':>10s}{'growth MiB':>12s}")
    for name, r in rows:
        if not r["frames"]:
            print(f"{name:24s}{r['files']:6d}  no file of a kind that it reads")
            continue
        speed = r["frames"] / r["cpu"]
        print(f"{name:24s}{r['files']:6d}{r['frames']:8d}{r['wall']:8.2f}{r['cpu']:8.2f}", end="")
        print(f"{speed:14.0f}{speed / max(bare):8.1f}" if bare else f"{speed:14.0f}{'':8s}", end="")
        print(f"{r['peak']:10.0f}{r['growth']:12.0f}", flush=True)


def made(count: int, steps: int) -> None:
    """Compare on files made here, and the memory with four times the folders."""
    with tempfile.TemporaryDirectory() as place:
        for name in ("vasprun.xml", "OUTCAR"):
            target = Path(place) / name
            make_runs(target, (name,), count, steps)
            rows = [(reader, apart(reader, target)) for reader in READERS if reader != STORED]
            show(f"{name}.gz: {count} relaxations of 63 atoms, {steps} steps", rows)
        rows = []
        for factor in (1, 4):
            target = Path(place) / f"x{factor}"
            make_runs(target, ("vasprun.xml", "OUTCAR"), factor * count, steps)
            for name in ("import --dry-run", STORED):
                rows.append((f"{name} x{factor}", apart(name, target)))
        show("Both files of every run; once and four times the folders", rows)


def main() -> None:
    """Compare the readers, and the memory with more folders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--copies", type=int, default=8, help="trees for the memory's growth")
    parser.add_argument("--runs", type=int, default=3, help="relaxations, where it makes them")
    parser.add_argument("--steps", type=int, default=60, help="ionic steps of each")
    parser.add_argument("--reader", choices=list(READERS))
    given = parser.parse_args()
    if given.reader:
        print(json.dumps(measure(given.reader, given.folder)))
        return
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    if given.folder is None:
        made(given.runs, given.steps)
        return
    show(f"The files of {given.folder}", [(n, apart(n, given.folder)) for n in READERS])
    with tempfile.TemporaryDirectory() as place:
        rows = []
        for copies in (1, given.copies):
            target = Path(place) / f"x{copies}"
            target.mkdir()
            multiply(given.folder, copies, target)
            for name in ("import --dry-run", STORED):
                rows.append((f"{name} x{copies}", apart(name, target)))
        show("More folders", rows)


if __name__ == "__main__":
    main()
