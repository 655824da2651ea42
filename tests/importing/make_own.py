"""Makes ``tests/data/vasp``: outputs in VASP's format that anybody may have.

    python -m tests.importing.make_own

The stand-in for VASP computes a host and four defects of a 16-atom cell with tight binding; no
number in them is one of a real material, and no potential of VASP is needed.
"""

from __future__ import annotations

import gzip
import shutil
import tempfile
from pathlib import Path

import numpy as np
from pymatgen.core import Lattice, Structure

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.engines.vasp.running import executions
from defect_mf_flows.schemas.calculation import CalculationKind
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.testing.vasp import vasp_stand_in

TARGET = Path(__file__).resolve().parents[1] / "data" / "vasp"
SETTINGS = {"functional": "HSE06", "encut": 500, "gamma_only": True}
ZINC, SULPHUR = 0, 8


def host() -> Structure:
    """Zinc blende, twice its primitive cell in every direction."""
    primitive = Structure(
        Lattice([[0, 2.705, 2.705], [2.705, 0, 2.705], [2.705, 2.705, 0]]),
        ["Zn", "S"],
        [[0, 0, 0], [0.25, 0.25, 0.25]],
    )
    return primitive * (2, 2, 2)


def cells() -> dict[str, tuple[str | None, int, Structure, int]]:
    """Folder: defect, charge, first geometry and most ionic steps."""
    zinc, sulphur, aluminium = host(), host(), host()
    zinc.remove_sites([ZINC])
    sulphur.remove_sites([SULPHUR])
    aluminium.replace(ZINC, "Al")
    return {
        "bulk": (None, 0, host(), 0),
        "vac_1_Zn_0": ("v_Zn", 0, zinc, 40),
        "vac_1_Zn_-2": ("v_Zn", -2, zinc, 40),
        "vac_2_S_2": ("v_S", 2, sulphur, 40),
        "sub_1_Al_on_Zn_1": ("Al_Zn", 1, aluminium, 40),
    }


def rattled(structure: Structure, seed: int) -> Structure:
    """Move every atom by some 0.03 A."""
    moves = np.random.default_rng(seed).normal(scale=0.03, size=(len(structure), 3))
    places = structure.cart_coords + moves
    return Structure(structure.lattice, structure.species, places, coords_are_cartesian=True)


def main() -> None:
    """Compute, and put what was written under ``tests/data``."""
    shutil.rmtree(TARGET, ignore_errors=True)
    with tempfile.TemporaryDirectory() as place, vasp_stand_in(Path(place)):
        for seed, (name, (defect, charge, cell, steps)) in enumerate(cells().items()):
            kind = CalculationKind.RELAX if steps else CalculationKind.STATIC
            fidelity = FidelitySettings(
                engine="vasp", settings=SETTINGS, fmax=0.1, steps=max(steps, 1)
            )
            first = rattled(cell, seed) if steps else cell
            maker = reference_maker("hse06", fidelity, kind)
            start = StartStructure(
                defect=defect, charge=charge, label=name, structure=with_charge(first, charge)
            )
            done = maker.compute(start, uuid=name)
            (run,) = executions(maker.folder(name))
            text = gzip.decompress((run / "OUTCAR.gz").read_bytes())
            folder = TARGET / name / "vasp_std"
            folder.mkdir(parents=True)
            # No time in the header: the same numbers give the same file.
            (folder / "OUTCAR.gz").write_bytes(gzip.compress(text, 9, mtime=0))
            print(name, done.n_frames, done.final_energy, done.failure)  # noqa: T201


if __name__ == "__main__":
    main()
