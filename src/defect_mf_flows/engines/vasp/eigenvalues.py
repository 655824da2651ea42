"""The last table of eigenvalues of an OUTCAR."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path

from monty.io import zopen

from defect_mf_flows.core.frontier import Frontier, KPoint, frontier_of


def frontier(path: Path) -> Frontier | None:
    """Read the last table of eigenvalues of an OUTCAR.

    Parameters
    ----------
    path
        OUTCAR, perhaps gzipped.

    Returns
    -------
    Frontier or None
        None where the file has no such table.
    """
    try:
        with zopen(path, "rb") as lines:
            return _read(lines)
    except (OSError, EOFError, zlib.error):
        return None


def _read(lines: Iterable[bytes]) -> Frontier | None:
    where: KPoint = ()
    found: list[tuple[KPoint, float, float]] = []
    table = False
    for line in lines:
        if b"E-fermi" in line:
            found = []
        elif line.startswith(b" k-point ") and b":" in line and b"plane" not in line:
            where = tuple(float(x) for x in line.split(b":")[1].split()[:3])
        elif b"band No." in line:
            table = True
        elif table:
            words = line.split()
            if len(words) != 3 or not words[0].isdigit():
                table = False
                continue
            found.append((where, float(words[1]), float(words[2])))
    return frontier_of(found)
