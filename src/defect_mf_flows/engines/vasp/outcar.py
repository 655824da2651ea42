"""An OUTCAR of any VASP version, read once, line by line, one ionic step in memory.

The settings come from VASP's own list of parameters, which has every default filled in and which
versions without an echo of the INCAR have, too. The echo only adds what the list leaves out, and
the digits that the list rounds away.
"""

from __future__ import annotations

import hashlib
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from ase.units import GPa
from monty.io import zopen

from defect_mf_flows.core.frontier import Frontier
from defect_mf_flows.engines.vasp.method import SOME_DISPERSION

#: VASP prints the pressure's sign in kBar; frames hold ASE's sign in eV/A^3.
KBAR = -0.1 * GPa

_TAGS = frozenset(
    b"ENCUT PREC ISPIN NUPDOWN LASPH LREAL ADDGRID EDIFF ISMEAR SIGMA IVDW LSORBIT METAGGA GGA "
    b"LEXCH LHFCALC AEXX HFSCREEN PRECFOCK NKRED NKREDX NKREDY NKREDZ LDAU LDAUTYPE LDAUU LDAUJ "
    b"IBRION NSW EDIFFG ISIF NELECT NELM".split()
)
#: Lines of eigenvalues, nine tenths of a file, are shorter than any that is read here.
SHORT = 40
_SIGMA_ZERO = re.compile(rb"energy\(sigma->0\)\s*=\s*(\S+)")
_HUBBARD = re.compile(rb"(LDAU[LUJ])\s*=\s*(.+)")


@dataclass(frozen=True)
class RawStep:
    """One complete ionic step.

    Attributes
    ----------
    cell
        Shape (3, 3), Angstrom.
    positions
        Cartesian, shape (n_atoms, 3), Angstrom.
    energy
        eV per cell, extrapolated to vanishing smearing.
    forces
        Shape (n_atoms, 3), eV/A; NaN where no number was printed; None where the method has
        none, which VASP's always has.
    stress
        Shape (3, 3), eV/A^3, positive under tension, or None.
    scf_converged
        Whether VASP said that EDIFF was reached.
    """

    cell: np.ndarray
    positions: np.ndarray
    energy: float
    forces: np.ndarray | None
    stress: np.ndarray | None
    scf_converged: bool


@dataclass
class RunHead:
    """What a run of VASP tells beside its ionic steps.

    Attributes
    ----------
    version
        Of VASP, for example ``"6.3.2"``; empty if the file is no OUTCAR.
    tags
        Settings in force, as text.
    symbols, titles, zval, counts
        Element, title and valence electrons of every POTCAR, and atoms per POTCAR.
    grid
        Divisions of an automatic k-point grid, or None.
    kpoints
        Irreducible k-points in reciprocal coordinates with their weights.
    nelect
        Electrons computed.
    magnetization
        Last printed total moment, Bohr magnetons.
    ended
        Whether the file has the timing with which VASP ends.
    digest
        SHA-256 of the uncompressed content, once all of it was read.
    seconds
        Wall time that VASP took; 0 if it was cut off.
    relaxed
        Whether VASP said that the relaxation reached the required accuracy.
    broken
        Why reading stopped before the end of the file; empty if it did not.
    frontier
        Levels next to the gap of the last step, where the reader passes them (vasprun.xml);
        whatever holds charge is occupied, as for pymatgen.
    carriers
        The same with levels that are less than half full as empty ones.
    """

    version: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    symbols: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    zval: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    grid: tuple[int, ...] | None = None
    kpoints: list[tuple[float, ...]] = field(default_factory=list)
    nelect: float | None = None
    magnetization: float | None = None
    ended: bool = False
    digest: str = ""
    seconds: float = 0.0
    relaxed: bool = False
    broken: str = ""
    frontier: Frontier | None = None
    carriers: Frontier | None = None

    @property
    def valence(self) -> float | None:
        """Electrons of the neutral cell, or None if a POTCAR's are not told."""
        if not self.counts or len(self.zval) != len(self.counts):
            return None
        return sum(n * z for n, z in zip(self.counts, self.zval, strict=True))

    @property
    def elements(self) -> list[str]:
        """Symbol of every POTCAR."""
        return self.symbols or [title.split()[1].partition("_")[0] for title in self.titles]

    @property
    def species(self) -> list[str]:
        """Symbol of every atom; empty if the file has not one count per POTCAR."""
        if len(self.elements) != len(self.counts):
            return []
        return [s for s, n in zip(self.elements, self.counts, strict=True) for _ in range(n)]


class Hashing(io.RawIOBase):
    """Passes bytes on and hashes them."""

    def __init__(self, inner: IO[bytes]) -> None:
        # read() of a gzip that is cut off raises and keeps what it had decompressed.
        self.read_some = getattr(inner, "read1", inner.read)
        self.sha = hashlib.sha256()

    def readable(self) -> bool:
        """Tell io that reading is possible."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        data = self.read_some(len(buffer))
        buffer[: len(data)] = data
        self.sha.update(data)
        return len(data)


class Outcar:
    """Reads an OUTCAR once.

    Parameters
    ----------
    path
        File, perhaps compressed, perhaps cut off.

    Examples
    --------
    >>> outcar = Outcar(Path("OUTCAR.gz"))  # doctest: +SKIP
    >>> energies = [step.energy for step in outcar.steps()]  # doctest: +SKIP
    >>> outcar.head.nelect  # doctest: +SKIP
    566.0
    """

    def __init__(self, path: Path) -> None:
        self.path, self.head = path, RunHead()
        self._echo: dict[str, str] = {}
        self._cell: np.ndarray | None = None
        self._stress: np.ndarray | None = None
        self._converged = False

    def steps(self) -> Iterator[RawStep]:
        """Yield the complete ionic steps; afterwards ``head`` is complete.

        Yields
        ------
        RawStep
            In order. A file that is cut off ends with its last complete one.
        """
        with zopen(self.path, "rb") as inner:
            stream = Hashing(inner)
            lines = io.BufferedReader(stream, 1 << 20)
            try:
                if self._read_head(lines):
                    yield from self._read_steps(lines)
                for _ in lines:
                    pass
            except (EOFError, OSError, zlib.error) as error:
                self.head.broken = f"{type(error).__name__}: {error}"
            finally:
                self.head.tags = {**self._echo, **_finer(self.head.tags, self._echo)}
                self.head.digest = stream.sha.hexdigest()

    # -- before the first step -----------------------------------------------------------

    def _read_head(self, lines: Any) -> bool:
        """Read up to the first electronic step; False if there is none."""
        inside = False
        for line in lines:
            if b"=" in line:
                name, _, value = line.partition(b"=")
                name = name.strip()
                if inside:
                    if b" " not in name:
                        self._echo[name.decode()] = value.strip().decode(errors="replace")
                    continue
                self._parameter(name, value, line)
            elif line.startswith(b" INCAR:"):
                inside = True
                continue
            elif b"Iteration" in line and line.startswith(b"-"):
                return True
            elif line.startswith(b" vasp."):
                self.head.version = line.split()[0][5:].decode()
            elif line.startswith(b" generate k-points for:"):
                self.head.grid = tuple(int(x) for x in line.split(b":")[1].split())
            elif b"k-points in reciprocal lattice and weights" in line:
                self._kpoints(lines)
            elif (b"DFT-D" in line or b"DFTD3" in line) and "IVDW" not in self._echo:
                self.head.tags.setdefault("IVDW", SOME_DISPERSION)
            elif b"direct lattice vectors" in line:
                self._cell = _cell(lines)
            inside = False
        return False

    def _parameter(self, name: bytes, value: bytes, line: bytes) -> None:
        head = self.head
        if name in _TAGS:
            self._tag(name.decode(), value.decode(errors="replace"))
            for part in line.split(b";")[1:]:  # ISMEAR = 0;  SIGMA = 0.05
                key, _, rest = part.partition(b"=")
                if key.strip() in _TAGS:
                    self._tag(key.strip().decode(), rest.decode(errors="replace"))
        elif name == b"TITEL":
            head.titles.append(value.decode().strip())
        elif name == b"VRHFIN":
            head.symbols.append(value.decode().strip().partition(":")[0].strip())
        elif name == b"POMASS" and b"mass and valenz" in line:
            head.zval.append(float(line.split(b"ZVAL   =")[-1].split()[0]))
        elif name == b"ions per type":
            head.counts = [int(n) for n in value.split()]
        elif b"LDAU" in name and (match := _HUBBARD.search(line)):
            head.tags[match[1].decode()] = " ".join(match[2].decode().split())
            head.tags["LDAU"] = "T"

    def _tag(self, name: str, value: str) -> None:
        words = value.replace(";", " ").split()
        if words and not (name == "LEXCH" and words[0].isalpha()):
            self.head.tags[name] = words[0]
        if name == "NELECT" and "total number" in value:
            self.head.nelect = float(words[0])

    def _kpoints(self, lines: Any) -> None:
        self.head.kpoints = []
        for line in lines:
            words = line.split()
            if len(words) != 4 or b"=" in line:
                name, equals, value = line.partition(b"=")
                if equals:
                    self._parameter(name.strip(), value, line)
                return
            self.head.kpoints.append(tuple(_number(x) for x in words))

    # -- the steps -----------------------------------------------------------------------

    def _read_steps(self, lines: Any) -> Iterator[RawStep]:
        n_atoms = sum(self.head.counts)
        table: np.ndarray | None = None
        for line in lines:
            if len(line) < SHORT:
                continue
            if b"TOTAL-FORCE" in line:
                next(lines, b"")
                table = _table(lines, n_atoms)
            elif b"energy(sigma->0)" in line:
                # The blocks of electronic steps have one, too, but no table before them.
                match = _SIGMA_ZERO.search(line)
                if table is not None and match is not None:
                    yield self._step(table, _number(match[1]))
                    table = None
            else:
                self._other(line, lines)

    def _other(self, line: bytes, lines: Any) -> None:
        if b"aborting loop" in line:
            self._converged = b"EDIFF is reached" in line
        elif line.startswith(b"  in kB"):
            values = [_number(x) for x in line.split()[2:]]
            if len(values) == 6:
                kbar = np.array(values)
                self._stress = KBAR * kbar[[[0, 3, 5], [3, 1, 4], [5, 4, 2]]]
        elif b"direct lattice vectors" in line:
            self._cell = _cell(lines)
        elif line.startswith(b" number of electron"):
            self._magnetization(line)
        elif b"Elapsed time (sec)" in line:
            self.head.ended = True
            self.head.seconds = _number(line.split()[-1])
        elif b"General timing and accounting" in line:
            self.head.ended = True
        elif b"reached required accuracy" in line:
            self.head.relaxed = True

    def _magnetization(self, line: bytes) -> None:
        words = line.partition(b"magnetization")[2].split()
        if len(words) == 1:
            self.head.magnetization = _number(words[0])

    def _step(self, table: np.ndarray, energy: float) -> RawStep:
        cell = np.full((3, 3), np.nan) if self._cell is None else self._cell
        step = RawStep(cell, table[:, :3], energy, table[:, 3:6], self._stress, self._converged)
        self._stress, self._converged = None, False
        return step


def _finer(listed: dict[str, str], echo: dict[str, str]) -> dict[str, str]:
    """Take the digits that VASP's list rounds away from the echo of the INCAR."""
    found = dict(listed)
    for tag, text in listed.items():
        if "." not in text:
            continue
        try:
            rounded, given = float(text), float(echo.get(tag, ""))
        except ValueError:
            continue
        decimals = len(text.partition(".")[2])
        if abs(rounded - given) <= 0.5000001 * 10.0**-decimals:
            found[tag] = echo[tag]
    return found


def _number(text: bytes) -> float:
    """A number, or NaN where VASP printed stars or NaN."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _columns(line: bytes) -> list[bytes]:
    """Numbers of a line; those that ran into each other are taken apart."""
    return re.sub(rb"(?<=\d)-", b" -", line).split()


def _table(lines: Any, n_atoms: int) -> np.ndarray | None:
    """Positions and forces, shape (n_atoms, 6); None if the file ends within."""
    rows = []
    for _ in range(n_atoms):
        line = next(lines, b"")
        words = line.split()
        if len(words) != 6:
            words = _columns(line)
        if len(words) != 6:
            return None
        rows.append([_number(word) for word in words])
    return np.array(rows)


def _cell(lines: Any) -> np.ndarray | None:
    rows = [_columns(next(lines, b""))[:3] for _ in range(3)]
    if any(len(row) != 3 for row in rows):
        return None
    return np.array([[_number(word) for word in row] for row in rows])
