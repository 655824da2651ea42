"""Real HSE06 OUTCARs, and broken copies of them."""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from jobflow import JobStore
from maggma.stores import MemoryStore

ROOT = Path(__file__).resolve().parents[2]
PLACES = (ROOT.parent / "shared", ROOT.parents[1] / "shared", ROOT / "shared")
REAL = next((p for p in PLACES if (p / "data" / "zns_hse06").is_dir()), PLACES[0])
REAL = REAL / "data" / "zns_hse06"
SEVERAL = ("bulk", "vac_1_Zn_-2", "vac_1_Zn_0", "sub_1_Al_on_Zn_1", "vac_2_S_2")


@pytest.fixture(scope="session")
def real() -> Path:
    if not REAL.is_dir():
        pytest.skip(f"NO REAL VASP OUTPUT: {REAL} is absent; what users have is not tested")
    return REAL


@pytest.fixture
def tree(real, tmp_path) -> Path:
    """A few of the real folders, to break."""
    for name in SEVERAL:
        shutil.copytree(real / name, tmp_path / "tree" / name)
    return tmp_path / "tree"


@pytest.fixture
def store() -> JobStore:
    found = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    found.connect()
    return found


def rewrite(path: Path, change: Callable[[str], str]) -> None:
    """Change the text of a gzipped file."""
    text = gzip.decompress(path.read_bytes()).decode()
    changed = change(text)
    assert changed != text, "the copy must really be another"
    path.write_bytes(gzip.compress(changed.encode(), 1))


def outcar(tree: Path, name: str) -> Path:
    return next((tree / name).rglob("OUTCAR.gz"))


def copy_of(tree: Path, name: str, to: str) -> Path:
    shutil.copytree(tree / name, tree / to)
    return outcar(tree, to)


def energies_moved(text: str) -> str:
    """Make a copy another calculation: add 1 eV to every energy."""

    def moved(match: re.Match[str]) -> str:
        return f"{match[1]}{float(match[2]) + 1:.8f}"

    return re.sub(r"(energy\(sigma->0\) =\s+)(-?[\d.]+)", moved, text)
