"""One run of VASP from its files, for finished jobs and for imports alike.

``vasprun.xml`` has more decimals and is read first; ``OUTCAR`` alone tells how each SCF ended, the
total moment and the time. Either may be compressed or cut off by a kill.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from defect_mf_flows.core.charge import whole_charge
from defect_mf_flows.core.corrections import site_potentials
from defect_mf_flows.core.frontier import Frontier
from defect_mf_flows.engines.vasp.eigenvalues import frontier
from defect_mf_flows.engines.vasp.outcar import Outcar, RawStep, RunHead
from defect_mf_flows.engines.vasp.vasprun import VasprunXml
from defect_mf_flows.errors import EngineError, ResultsError
from defect_mf_flows.schemas.calculation import BandEdges

logger = logging.getLogger(__name__)

#: The two files of one run print the same energies; vasprun.xml of some versions rounds, eV.
SAME_ENERGY = 1e-3
#: The same for the number of electrons.
SAME_NELECT = 1e-3


@dataclass(frozen=True)
class Run:
    """One execution of VASP.

    Attributes
    ----------
    source
        File that was read.
    head
        Settings in force, atoms, electrons and end of the run.
    steps
        Complete ionic steps in order; their labels may be no numbers.
    notes
        What the reader saw and the user should know.
    """

    source: Path
    head: RunHead
    steps: list[RawStep]
    notes: list[str] = field(default_factory=list)

    @property
    def began(self) -> bool:
        """Whether VASP got as far as its atoms and electrons."""
        return self.head.valence is not None and self.head.nelect is not None

    @property
    def charge(self) -> int | None:
        """Charge of the cell that VASP computed, or None if the file does not tell it.

        Raises
        ------
        ChargeError
            If it is fractional.
        """
        valence, nelect = self.head.valence, self.head.nelect
        if valence is None or nelect is None:
            return None
        return whole_charge(round(valence - nelect, 4), where=str(self.source))

    @cached_property
    def frontier(self) -> Frontier | None:
        """Levels next to the gap of the last step; those that are not half full are empty."""
        if self.source.name.startswith("OUTCAR"):
            return frontier(self.source)
        return self.head.carriers

    @property
    def edges(self) -> BandEdges | None:
        """Band edges of the last step; None where the file tells none, or there is no gap."""
        outcar = self.source.name.startswith("OUTCAR")
        found = self.frontier if outcar else self.head.frontier
        return None if found is None else found.edges

    def site_potentials(self) -> np.ndarray | None:
        """Core potentials of the last step, V, shape (n_atoms,); None where there are none."""
        outcar = self.source
        if not outcar.name.startswith("OUTCAR"):
            beside = _existing(outcar.parent, "OUTCAR")
            if beside is None:
                return None
            outcar = beside
        try:
            found = site_potentials(outcar)
        except ResultsError as error:
            logger.warning("%s: corrections will have no potentials: %s", outcar.parent, error)
            return None
        if len(found) != len(self.head.species):
            logger.warning(
                "%s: %d core potentials for %d atoms; corrections will have none",
                outcar, len(found), len(self.head.species),
            )  # fmt: skip
            return None
        return found


def read_outcar(path: Path) -> Run:
    """Read an OUTCAR.

    Parameters
    ----------
    path
        File, perhaps compressed or cut off.

    Returns
    -------
    Run
        With the complete ionic steps.
    """
    file = Outcar(path)
    return Run(path, steps=list(file.steps()), head=file.head)


def read_vasprun(path: Path) -> Run:
    """Read a vasprun.xml; see :func:`read_outcar`."""
    file = VasprunXml(path)
    return Run(path, steps=list(file.steps()), head=file.head)


def completed(run: Run, outcar: Path) -> Run:
    """Add what vasprun.xml does not tell: the end of each SCF, moment, time and end of the run.

    Parameters
    ----------
    run
        What vasprun.xml told.
    outcar
        The OUTCAR beside it.

    Returns
    -------
    Run
        With a note, and nothing added, if the OUTCAR is one of another run.
    """
    other = read_outcar(outcar)
    if why := _another_run(run, other):
        run.notes.append(f"{outcar.name} beside it is of another run ({why}); not used")
        logger.warning("%s: %s", run.source, run.notes[-1])
        return run
    steps = [
        RawStep(s.cell, s.positions, s.energy, s.forces, s.stress, twin.scf_converged)
        for s, twin in zip(run.steps, other.steps, strict=False)
    ]
    head, more = run.head, other.head
    head.magnetization, head.seconds, head.relaxed = more.magnetization, more.seconds, more.relaxed
    return Run(run.source, head, [*steps, *run.steps[len(steps) :]], run.notes)


def _another_run(run: Run, other: Run) -> str:
    """Why two files are not those of one run; empty if they may be."""
    one, two = run.head.nelect, other.head.nelect
    if one is not None and two is not None and abs(one - two) > SAME_NELECT:
        return f"NELECT {two:g} and not {one:g}"
    for number, (mine, its) in enumerate(zip(run.steps, other.steps, strict=False)):
        # Not "greater": what is no number differs from nothing.
        if abs(mine.energy - its.energy) > SAME_ENERGY:
            return f"energy {its.energy:.4f} eV and not {mine.energy:.4f} eV in step {number}"
    return ""


def read_run(folder: Path) -> Run | None:
    """Read what a run left in its folder.

    Parameters
    ----------
    folder
        With vasprun.xml or OUTCAR, perhaps gzipped.

    Returns
    -------
    Run or None
        None if VASP did not get as far as its atoms.

    Raises
    ------
    EngineError
        If there is neither file.
    """
    xml, outcar = _existing(folder, "vasprun.xml"), _existing(folder, "OUTCAR")
    if xml is None and outcar is None:
        raise EngineError(f"{folder}: neither vasprun.xml nor OUTCAR; did VASP start?")
    run = read_vasprun(xml) if xml is not None else None
    if run is not None and run.steps:
        return run if outcar is None else completed(run, outcar)
    text = read_outcar(outcar) if outcar is not None else None
    found = [each for each in (text, run) if each is not None and each.began]
    return max(found, key=lambda each: len(each.steps), default=None)


def _existing(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
