"""A vasprun.xml of any VASP version, read once, one ionic step in memory.

Densities of states and projections, most of the file, are thrown away as they come; of the
eigenvalues those of the last step stay.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, iterparse

import numpy as np
from monty.io import zopen

from defect_mf_flows.core.frontier import frontier_of
from defect_mf_flows.engines.vasp.outcar import KBAR, Hashing, RawStep, RunHead

_EMPTIED = frozenset({"eigenvalues", "dos", "projected", "time"})
_OUTSIDE = frozenset({"generator", "incar", "kpoints", "parameters", "atominfo", "modeling"})
_READ = _EMPTIED | _OUTSIDE | {"scstep", "calculation", "set"}


class VasprunXml:
    """Reads a vasprun.xml once; the same interface as :class:`~.outcar.Outcar`.

    Parameters
    ----------
    path
        File, perhaps compressed, perhaps cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.head = path, RunHead()
        self._electronic: list[dict[str, float]] = []
        self._incar: dict[str, str] = {}
        self._parameters: dict[str, str] = {}
        self._has_levels = False
        self._levels: list[list[str]] = []

    def steps(self) -> Iterator[RawStep]:
        """Yield the complete ionic steps; afterwards ``head`` is complete.

        Yields
        ------
        RawStep
            In order. A file that is cut off ends with its last complete one.
        """
        with zopen(self.path, "rb") as inner:
            stream = Hashing(inner)
            buffered = io.BufferedReader(stream, 1 << 20)
            try:
                yield from self._events(buffered)
            except (ParseError, EOFError, OSError, zlib.error, ValueError, IndexError) as error:
                self.head.broken = f"{type(error).__name__}: {error}"
            finally:
                found = _levels_of(self._levels, self.head.kpoints)
                self.head.frontier = frontier_of(found, filled=0.0)
                self.head.carriers = frontier_of(found)
                self.head.digest = stream.sha.hexdigest()

    def _events(self, stream: Any) -> Iterator[RawStep]:
        for _, element in iterparse(stream, events=("end",)):
            tag = element.tag
            if tag not in _READ:
                continue
            if tag == "scstep":
                self._electronic.append(_energies(element.find("energy")))
                element.clear()
            elif tag == "calculation":
                self._has_levels = False
                step = self._step(element)
                element.clear()
                if step is not None:
                    yield step
            elif tag == "eigenvalues" and not self._has_levels:
                # Those of the projections follow, and are the same.
                self._has_levels = True
                self._levels = _level_rows(element)
                element.clear()
            elif tag == "set":
                # In a step the first sets are those of the eigenvalues, which are not yet read.
                if self._has_levels:
                    element.clear()
            elif tag in _EMPTIED:
                element.clear()
            else:
                self._outside(element)

    def _outside(self, element: Element) -> None:
        tag = element.tag
        if tag == "generator":
            found = {i.get("name"): i.text or "" for i in element.iter("i")}
            self.head.version = found.get("version", "").strip()
        elif tag == "incar":
            self._incar = _tags(element)
        elif tag == "kpoints":
            self._kpoints(element)
        elif tag == "parameters":
            self._take_parameters(_tags(element))
            element.clear()
        elif tag == "atominfo":
            self._atoms(element)
        elif tag == "modeling":
            self.head.ended = True

    def _kpoints(self, element: Element) -> None:
        divisions = element.find(".//v[@name='divisions']")
        if divisions is not None and divisions.text:
            self.head.grid = tuple(int(float(x)) for x in divisions.text.split())
        points = _rows(element.find("varray[@name='kpointlist']"))
        weights = _rows(element.find("varray[@name='weights']"))
        if points is not None and weights is not None:
            joined = np.hstack([points, weights])
            self.head.kpoints = [tuple(float(x) for x in row) for row in joined]

    def _take_parameters(self, found: dict[str, str]) -> None:
        self._parameters = found
        tags = {**self._incar, **found}
        tags["ENCUT"] = found.get("ENMAX", tags.get("ENCUT", ""))
        self.head.tags = {name: value for name, value in tags.items() if value}
        if "NELECT" in tags:
            self.head.nelect = float(tags["NELECT"])

    def _atoms(self, element: Element) -> None:
        head = self.head
        rows = element.findall("array[@name='atomtypes']/set/rc")
        for cells in ([(c.text or "").strip() for c in row] for row in rows):
            head.counts.append(int(cells[0]))
            head.symbols.append(cells[1])
            head.zval.append(float(cells[3]))
            head.titles.append(cells[4])

    def _step(self, element: Element) -> RawStep | None:
        scf, self._electronic = self._electronic, []
        basis = _rows(element.find("structure/crystal/varray[@name='basis']"))
        positions = _rows(element.find("structure/varray[@name='positions']"))
        forces = _rows(element.find("varray[@name='forces']"))
        stress = _rows(element.find("varray[@name='stress']"))
        if basis is None or positions is None or forces is None or not scf:
            return None
        limit = int(self._parameters.get("NELM", 60))
        return RawStep(
            cell=basis,
            positions=positions @ basis,
            energy=_energy(_energies(element.find("energy")), scf[-1]),
            forces=forces,
            stress=None if stress is None else stress * KBAR,
            scf_converged=len(scf) < limit,
        )


def _energy(ionic: dict[str, float], last: dict[str, float]) -> float:
    """Energy for vanishing smearing.

    The ionic step's own ``e_0_energy`` is 0 or stale in some VASP 5.4.4 hybrid runs, and the
    electronic steps lack the dispersion energy; so: the ionic step's free energy plus the last
    electronic step's entropy term, and the last electronic step alone where there is neither.
    """
    last_zero, last_free = last.get("e_0_energy", np.nan), last.get("e_fr_energy", np.nan)
    free = ionic.get("e_fr_energy")
    if not free:
        return last_zero
    return free + (last_zero - last_free)


def _energies(element: Element | None) -> dict[str, float]:
    if element is None:
        return {}
    return {i.get("name", ""): _number(i.text) for i in element.findall("i")}


def _tags(element: Element) -> dict[str, str]:
    """Settings as text; logical ones are T or F."""
    found = {}
    for item in element.iter():
        if item.tag in ("i", "v") and item.get("name") and item.text:
            found[str(item.get("name"))] = " ".join(item.text.split())
    return found


def _rows(element: Element | None) -> np.ndarray | None:
    if element is None:
        return None
    words = [(v.text or "").split() for v in element.findall("v")]
    try:
        return np.array(words, dtype=float)
    except ValueError:  # stars
        return np.array([[_number(word) for word in row] for row in words])


def _level_rows(element: Element) -> list[list[str]]:
    """Energies and occupations as text, per spin and k-point."""
    points = element.findall("array/set/set/set")
    return [[r.text or "" for r in point] for point in points]


def _levels_of(
    levels: list[list[str]], kpoints: list[tuple[float, ...]]
) -> list[tuple[tuple[float, ...], float, float]]:
    """K-point, energy and occupation of every level; k-points repeat for the second spin."""
    if not kpoints:
        return []
    found = []
    for number, point in enumerate(levels):
        where = kpoints[number % len(kpoints)][:3]
        for row in point:
            energy, occupation = (_number(word) for word in row.split()[:2])
            found.append((where, energy, occupation))
    return found


def _number(text: str | None) -> float:
    """A number, or NaN where VASP printed stars or NaN."""
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")
