"""Real HSE06 OUTCARs, files of our own that anybody has, and broken copies of both.

``make_own.py`` makes ``tests/data/vasp``: VASP's format, the stand-in's numbers.
"""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from jobflow import JobStore
from maggma.stores import MemoryStore

ROOT = Path(__file__).resolve().parents[2]
PLACES = (ROOT.parent / "shared", ROOT.parents[1] / "shared", ROOT / "shared")
REAL = next((p for p in PLACES if (p / "data" / "zns_hse06").is_dir()), PLACES[0])
REAL = REAL / "data" / "zns_hse06"
OWN = ROOT / "tests" / "data" / "vasp"
SEVERAL = ("bulk", "vac_1_Zn_-2", "vac_1_Zn_0", "sub_1_Al_on_Zn_1", "vac_2_S_2")


@pytest.fixture(scope="session")
def real() -> Path:
    if not REAL.is_dir():
        pytest.skip(f"NO REAL VASP OUTPUT: {REAL} is absent; what users have is not tested")
    return REAL


@dataclass(frozen=True)
class Facts:
    """What is known of a set of files."""

    steps: dict[str, int]
    grid: str
    other_grid: str
    potcar: str
    vacancy_energy: float
    host_energy: float
    vacancy_site: tuple[float, ...]
    vbm: float
    gap: float

    @property
    def frames(self) -> int:
        return sum(self.steps.values())


FACTS = {
    "real": Facts(
        steps=dict(zip(SEVERAL, (1, 4, 12, 4, 2), strict=True)),
        grid="2x2x2",
        other_grid="1x1x1",
        potcar="PAW_PBE S 06Sep2000",
        vacancy_energy=-258.28614634,
        host_energy=-268.83805485,
        vacancy_site=(0.1875, 0.9375, 0.75),
        vbm=1.2707,
        gap=3.3084,
    ),
    "own": Facts(
        steps=dict(zip(SEVERAL, (1, 5, 6, 4, 5), strict=True)),
        grid="1x1x1",
        other_grid="2x2x2",
        potcar="STAND_IN S 01Jan2026",
        vacancy_energy=-843.20177778,
        host_energy=-844.42765385,
        vacancy_site=(0.0, 0.0, 0.0),
        vbm=-9.5095,
        gap=0.5307,
    ),
}


@pytest.fixture(params=["own", "real"])
def which(request) -> str:
    """The set of files that a test runs on; both, where both are."""
    return request.param


@pytest.fixture
def facts(which) -> Facts:
    return FACTS[which]


@pytest.fixture
def source(which, request) -> Path:
    """The files themselves, not to be changed."""
    return OWN if which == "own" else request.getfixturevalue("real")


@pytest.fixture
def tree(source, tmp_path) -> Path:
    """A few folders, to break."""
    for name in SEVERAL:
        shutil.copytree(source / name, tmp_path / "tree" / name)
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
