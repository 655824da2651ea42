"""What a VASP run left: its ionic steps, and the charge and settings that it really had.

``vasprun.xml`` is read through pymatgen, ``OUTCAR`` (where there is no other) through ASE; both
may be gzipped or cut off by a kill. Energies are those for vanishing smearing, eV per cell.
"""

from __future__ import annotations

import logging
import re
import warnings
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError, iterparse

import numpy as np
from ase.units import GPa
from monty.io import zopen
from pymatgen.core import Structure

from defect_mf_flows.core.charge import whole_charge
from defect_mf_flows.errors import EngineError
from defect_mf_flows.schemas.calculation import BandEdges

logger = logging.getLogger(__name__)

#: VASP prints the pressure's sign in kBar; frames hold ASE's sign in eV/A^3.
KBAR = -0.1 * GPa


@dataclass(frozen=True)
class Step:
    """One ionic step.

    Attributes
    ----------
    structure
        Geometry as VASP wrote it, without charge.
    energy
        eV per cell, extrapolated to vanishing smearing.
    forces
        Shape (n_atoms, 3), eV/A.
    stress
        Shape (3, 3), eV/A^3, positive under tension; None if VASP computed none.
    scf_converged
        False if the SCF ran out of steps: the labels are worth nothing.
    """

    structure: Structure
    energy: float
    forces: np.ndarray
    stress: np.ndarray | None
    scf_converged: bool


@dataclass(frozen=True)
class Run:
    """One execution of VASP.

    Attributes
    ----------
    source
        File that was read.
    version
        Of VASP.
    incar
        Tags as VASP read them.
    nelect
        Electrons that were computed.
    valence
        Electrons of the neutral cell, from the POTCARs as VASP read them.
    steps
        Complete ionic steps in order.
    edges
        Band edges, if the file tells them.
    magnetization
        Total, Bohr magnetons; None if not polarised or not told.
    """

    source: Path
    version: str
    incar: dict[str, Any]
    nelect: float
    valence: float
    steps: list[Step] = field(default_factory=list)
    edges: BandEdges | None = None
    magnetization: float | None = None

    @property
    def charge(self) -> int:
        """Charge of the cell that VASP computed.

        Raises
        ------
        ChargeError
            If it is fractional.
        """
        return whole_charge(round(self.valence - self.nelect, 4), where=str(self.source))


def read_run(folder: Path) -> Run | None:
    """Read what a run left in its folder.

    Parameters
    ----------
    folder
        With vasprun.xml or OUTCAR, perhaps gzipped.

    Returns
    -------
    Run or None
        None if VASP did not get as far as its first geometry.

    Raises
    ------
    EngineError
        If there is neither file.
    """
    xml, outcar = _existing(folder, "vasprun.xml"), _existing(folder, "OUTCAR")
    if xml is None and outcar is None:
        raise EngineError(f"{folder}: neither vasprun.xml nor OUTCAR; did VASP start?")
    run = read_vasprun(xml) if xml is not None else None
    if outcar is None:
        return run
    return read_outcar(outcar) if run is None else _with_outcar(run, outcar)


def _existing(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)


def _with_outcar(run: Run, path: Path) -> Run:
    """Add what vasprun.xml does not tell: how each SCF ended, and the moment."""
    header = _header(path)
    ends = [*header.converged, *(step.scf_converged for step in run.steps[len(header.converged) :])]
    steps = [replace(s, scf_converged=end) for s, end in zip(run.steps, ends, strict=False)]
    return replace(run, steps=steps, magnetization=header.magnetization)


def read_vasprun(path: Path) -> Run | None:
    """Read a vasprun.xml; a cut-off file yields its complete ionic steps."""
    from pymatgen.io.vasp.outputs import Vasprun

    valence = _xml_valence(path)
    if valence is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read = Vasprun(
                path, parse_dos=False, parse_potcar_file=False, exception_on_bad_xml=False
            )
    except Exception as error:  # pymatgen raises whatever the missing part made it raise
        logger.warning("%s: not readable: %s", path, error)
        return None
    parameters = read.parameters
    limit = int(parameters.get("NELM", 60))
    steps = [_xml_step(step, limit) for step in read.ionic_steps]
    return Run(
        source=path,
        version=str(read.vasp_version),
        incar={**dict(read.incar), "ENCUT": float(parameters["ENMAX"])},
        nelect=float(parameters["NELECT"]),
        valence=valence,
        steps=[step for step in steps if step is not None],
        edges=_edges(read),
    )


def _xml_valence(path: Path) -> float | None:
    """Electrons of the neutral cell from the table of atom types (count, ..., valence)."""
    try:
        with zopen(path, "rb") as stream:
            for _, element in iterparse(stream, events=("end",)):
                if element.tag == "array" and element.get("name") == "atomtypes":
                    rows = [[c.text or "" for c in rc] for rc in element.iter("rc")]
                    return sum(int(row[0]) * float(row[3]) for row in rows)
    except (ParseError, EOFError):
        pass
    return None


def _xml_step(step: dict[str, Any], limit: int) -> Step | None:
    scf = step["electronic_steps"]
    if "forces" not in step or step["structure"] is None or not scf:
        return None
    return Step(
        structure=step["structure"],
        energy=_xml_energy(step),
        forces=np.array(step["forces"], dtype=float),
        stress=np.array(step["stress"], dtype=float) * KBAR if "stress" in step else None,
        scf_converged=len(scf) < limit,
    )


def _xml_energy(step: dict[str, Any]) -> float:
    """Energy for vanishing smearing.

    The ionic step's own ``e_0_energy`` is 0 or stale in some VASP 5.4.4 hybrid runs, and the
    electronic steps lack the dispersion energy; so: the ionic step's free energy plus the last
    electronic step's entropy term, and the last electronic step alone where there is neither.
    """
    last = step["electronic_steps"][-1]
    if not step.get("e_fr_energy"):
        return float(last["e_0_energy"])
    return float(step["e_fr_energy"] + (last["e_0_energy"] - last["e_fr_energy"]))


def _edges(read: Any) -> BandEdges | None:
    if not read.eigenvalues:
        return None
    gap, cbm, vbm, _ = read.eigenvalue_band_properties
    return BandEdges(vbm=float(vbm), cbm=float(cbm)) if gap > 0 else None


@dataclass
class _Header:
    """Lines of an OUTCAR that ASE does not read."""

    version: str = "unknown"
    incar: dict[str, Any] = field(default_factory=dict)
    nelect: float | None = None
    zval: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    converged: list[bool] = field(default_factory=list)
    magnetization: float | None = None


_NUMBERS = {
    "nelect": re.compile(r"^\s+NELECT =\s+([\d.]+)\s+total number"),
    "zval": re.compile(r"ZVAL\s+=\s+([\d.]+)\s+mass and valenz"),
    "encut": re.compile(r"^\s+ENCUT\s+=\s+([\d.]+) eV"),
    "magnetization": re.compile(r"number of electron\s+\S+ magnetization\s+(-?[\d.]+)\s*$"),
}


def read_outcar(path: Path) -> Run | None:
    """Read an OUTCAR; a cut-off file yields its complete ionic steps."""
    import ase.io
    from pymatgen.io.ase import AseAtomsAdaptor

    header = _header(path)
    if header.nelect is None or len(header.zval) != len(header.counts) or not header.counts:
        return None
    try:
        images = ase.io.read(path, index=":", format="vasp-out")
    except Exception as error:  # ASE raises whatever the missing part made it raise
        logger.warning("%s: no complete ionic step: %s", path, error)
        images = []
    steps = [
        Step(
            structure=AseAtomsAdaptor.get_structure(atoms),
            energy=float(atoms.get_potential_energy()),
            forces=np.array(atoms.get_forces()),
            stress=np.array(atoms.get_stress(voigt=False))
            if "stress" in atoms.calc.results
            else None,
            scf_converged=converged,
        )
        for atoms, converged in zip(images, header.converged, strict=False)
    ]
    return Run(
        source=path,
        version=header.version,
        incar=header.incar,
        nelect=header.nelect,
        valence=sum(n * z for n, z in zip(header.counts, header.zval, strict=True)),
        steps=steps,
        magnetization=header.magnetization,
    )


def _header(path: Path) -> _Header:
    with zopen(path, "rt", encoding="utf-8", errors="replace") as stream:
        header = _Header()
        try:
            _scan(stream, header)
        except (EOFError, zlib.error) as error:
            logger.warning("%s: cut off: %s", path, error)
    return header


def _scan(lines: Iterable[str], header: _Header) -> None:
    from pymatgen.io.vasp.inputs import Incar

    echo: list[str] = []
    inside = False
    for line in lines:
        if header.version == "unknown" and line.startswith(" vasp."):
            header.version = line.split()[0].removeprefix("vasp.")
        elif line.startswith(" INCAR:"):
            inside = True
        elif inside and "=" in line:
            echo.append(line.strip())
        elif inside:
            inside = False
            header.incar = dict(Incar.from_str("\n".join(echo)))
        elif "ions per type =" in line:
            header.counts = [int(n) for n in line.split("=")[1].split()]
        elif "aborting loop because EDIFF is reached" in line:
            header.converged.append(True)
        elif "aborting loop" in line:  # EDIFF not reached, or stopped by STOPCAR
            header.converged.append(False)
        else:
            _number(line, header)


def _number(line: str, header: _Header) -> None:
    if "=" not in line and "magnetization" not in line:
        return
    for name, pattern in _NUMBERS.items():
        match = pattern.search(line)
        if match is None:
            continue
        value = float(match[1])
        if name == "zval":
            header.zval.append(value)
        elif name == "encut":
            header.incar["ENCUT"] = value
        else:
            setattr(header, name, value)
