"""A stand-in for VASP: reads VASP's inputs, computes with tight binding, writes VASP's outputs.

``python -m defect_mf_flows.testing.vasp_standin`` in a folder with INCAR, KPOINTS, POSCAR and a
POTCAR of ``testing.potcars``. It refuses inputs that are wrong for a charged cell, takes the
charge from NELECT and the POTCARs alone, and computes PBE with GFN1-xTB and HSE06 with GFN2-xTB.
Its numbers have nothing to do with PBE or HSE06.

The environment variable ``DEFECT_MF_STANDIN`` makes it fail as VASP does: a comma-separated list
of ``scf`` (until ALGO = All), ``scf-always``, ``positive``, ``explode``, ``memory`` (until KPAR
is 1), ``zbrent`` (once), ``kill=N`` (die after N ionic steps, where there is no WAVECAR),
``slow=S`` (wait S seconds per ionic step) and ``charge`` (compute another NELECT than asked).
"""

from __future__ import annotations

import os
import re
import sys
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.vasp import read_vasp
from ase.units import Hartree

from defect_mf_flows.testing.vasp_files import Files, Header, Labels

METHODS = {False: "GFN1-xTB", True: "GFN2-xTB"}


class WrongInputError(Exception):
    """An input that a charged cell must not have."""


def require(condition: bool, message: str) -> None:
    """Refuse an input.

    Raises
    ------
    WrongInputError
        With the message, if the condition does not hold.
    """
    if not condition:
        raise WrongInputError(message)


def read_incar(path: Path) -> dict[str, Any]:
    """Read an INCAR: logicals, numbers, lists with VASP's ``7*0.0``, and text.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    dict
        Values by tag.
    """
    found: dict[str, Any] = {}
    for line in path.read_text().splitlines():
        tag, _, text = (part.strip() for part in line.partition("="))
        words = []
        for word in text.split():
            count, star, value = word.rpartition("*")
            words += [_value(value)] * (int(count) if star else 1)
        if words:
            listed = tag == "MAGMOM" or len(words) > 1
            found[tag] = words if listed else words[0]
    return found


def _value(word: str) -> Any:
    if word.strip(".").lower() in ("t", "true", "f", "false"):
        return word.strip(".").lower().startswith("t")
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


class StandIn:
    """One run.

    Parameters
    ----------
    folder
        With the inputs.
    faults
        What to get wrong; see the module's text.
    """

    def __init__(self, folder: Path, faults: dict[str, str]) -> None:
        self.folder, self.faults = folder, faults
        self.incar = read_incar(folder / "INCAR")
        self.atoms: Atoms = read_vasp(folder / "POSCAR")
        self.style = (folder / "KPOINTS").read_text().splitlines()[2].strip()
        potcar = (folder / "POTCAR").read_text()
        self.titles = re.findall(r"TITEL\s+=\s+(.*\S)", potcar)
        self.valences = [float(z) for z in re.findall(r"ZVAL\s+=\s+([\d.]+)", potcar)]
        groups = [(s, len(list(g))) for s, g in groupby(self.atoms.get_chemical_symbols())]
        self.symbols, self.counts = [s for s, _ in groups], [n for _, n in groups]
        kinds = [title.split()[1].split("_")[0] for title in self.titles]
        require(kinds == self.symbols, f"POTCAR {kinds} does not fit POSCAR {self.symbols}")
        self.neutral = sum(n * z for n, z in zip(self.counts, self.valences, strict=True))
        self.check()
        nelect = float(self.incar["NELECT"]) + ("charge" in faults)
        self.charge = round(self.neutral - nelect)
        self.hybrid = bool(self.incar.get("LHFCALC", False))
        header = Header(
            incar={**self.incar, "NELECT": nelect},
            symbols=self.symbols,
            titles=self.titles,
            counts=self.counts,
            valences=self.valences,
            atoms=self.atoms,
        )
        self.restarted = (folder / "WAVECAR").is_file()
        if self.restarted:
            print("found WAVECAR, reading the header", flush=True)  # noqa: T201
        self.files = Files(folder, header)

    def check(self) -> None:
        """Refuse inputs that would give wrong labels of a charged cell."""
        tags = self.incar
        require(str(tags.get("GGA", "")).upper() == "PE", f"GGA is {tags.get('GGA')}, not PE")
        require("NELECT" in tags, "no NELECT")
        extra = self.neutral - float(tags["NELECT"])
        require(abs(extra - round(extra)) < 1e-6, "fractional charge")
        require(abs(extra) <= 6, f"charge {extra:+g} of no defect; NELECT and POTCARs disagree")
        require(tags.get("ISIF") == 2, "ISIF must be 2: the cell is fixed")
        moving = tags.get("NSW", 0) > 0
        require((tags.get("IBRION") == 2) == moving, "IBRION does not fit NSW")
        require(not moving or tags.get("EDIFFG", 1) < 0, "EDIFFG must be a force")
        require(self.style == "Gamma", "the grid must hold Gamma")
        if tags.get("LHFCALC"):
            require(tags.get("AEXX") == 0.25, "HSE06 has AEXX 0.25")
            require(tags.get("HFSCREEN") == 0.2, "HSE06 has HFSCREEN 0.2")
            require(tags["ALGO"].lower() not in ("fast", "veryfast"), "hybrids need another ALGO")
        if tags.get("ISPIN", 1) == 2:
            require(len(tags["MAGMOM"]) == len(self.atoms), "MAGMOM must name every atom")
        if "NUPDOWN" in tags:
            parity = (round(tags["NELECT"]) - round(tags["NUPDOWN"])) % 2
            require(parity == 0, "NUPDOWN does not fit NELECT")

    def run(self) -> None:
        """Relax or compute, and write the files as VASP does."""
        steps = max(int(self.incar.get("NSW", 0)), 1)
        self._memory()
        atoms = self.atoms.copy()
        atoms.calc = self._calculator()
        from defect_mf_flows.engines.relaxer import Relaxer

        optimizer = Relaxer(atoms)
        fmax = -float(self.incar.get("EDIFFG", -1e9))
        converged, done = False, 0
        while done < steps:
            labels = self._labels(atoms)
            self.files.step(labels)
            done += 1
            converged = bool(np.linalg.norm(labels.forces, axis=1).max() <= fmax)
            computed = atoms.copy()
            if steps > 1 and not converged:
                optimizer.step()
                optimizer.nsteps += 1
            if "explode" in self.faults:
                atoms.positions[0] = self.atoms.positions[0] + 0.47 * atoms.cell.array[0]
            self.files.contcar(atoms)
            self._interrupt(done)
            if converged or self._stop():
                break
        self.files.close(computed, converged=converged)
        (self.folder / "WAVECAR").write_text(f"stand-in orbitals, {METHODS[self.hybrid]}\n")

    def _calculator(self) -> Any:
        from tblite.ase import TBLite

        options: dict[str, Any] = {"verbosity": 0, "charge": self.charge}
        unpaired = round(self.incar.get("NUPDOWN", -1))
        if unpaired > 0:
            options["multiplicity"] = unpaired + 1
        return TBLite(method=METHODS[self.hybrid], **options)

    def _labels(self, atoms: Atoms) -> Labels:
        time.sleep(float(self.faults.get("slow", 0)))
        energy = float(atoms.get_potential_energy())
        forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
        results = atoms.calc._res
        levels = np.atleast_2d(results.get("orbital-energies"))[0] * Hartree
        filled = np.atleast_2d(results.get("orbital-occupations"))[0]
        limit = int(self.incar.get("NELM", 60))
        bad = "scf-always" in self.faults or (
            "scf" in self.faults and self.incar["ALGO"].lower() != "all"
        )
        stopcar = self.folder / "STOPCAR"
        bad = bad or (stopcar.is_file() and "LABORT" in stopcar.read_text())
        if "positive" in self.faults:
            energy = 100.0
        count = limit if bad else 4
        energies = [energy + 10.0**-i for i in range(1, count)] + [energy]
        return Labels(
            atoms=atoms.copy(),
            energies=energies,
            forces=forces,
            stress=stress,
            eigenvalues=levels,
            occupations=self._channels(filled),
            potentials=self._potentials(atoms, np.asarray(results.get("charges"))),
            scf_converged=not bad,
        )

    def _channels(self, filled: np.ndarray) -> np.ndarray:
        """Occupations per spin, 0..1, from those of orbitals that two electrons may share."""
        if self.incar.get("ISPIN", 1) != 2:
            return np.clip(filled[None, :] / 2, 0, 1)
        if not round(self.incar.get("NUPDOWN", 0)):
            return np.clip(np.array([filled, filled]) / 2, 0, 1)
        up = np.minimum(filled, 1.0)
        return np.clip(np.array([up, filled - up]), 0, 1)

    @staticmethod
    def _potentials(atoms: Atoms, charges: np.ndarray) -> np.ndarray:
        """Potential of the other atoms' charges and their images at every atom, V."""
        from defect_mf_flows.core.ewald import AnisotropicEwald

        ewald = AnisotropicEwald(atoms.cell.array, np.eye(3))
        places = atoms.get_scaled_positions(wrap=False)
        # Of an atom's own charge only the images count: the pair energy is half of q^2 phi.
        own = 2 * ewald.energy() * charges
        pairs = [
            sum(q * ewald.potential(here - there) for q, there in others)
            for here, others in (
                (place, zip(np.delete(charges, i), np.delete(places, i, axis=0), strict=True))
                for i, place in enumerate(places)
            )
        ]
        # Cores sit deep in their own shells: a constant per element.
        deep = np.array([40.0 + number for number in atoms.numbers])
        return own + np.array(pairs) - deep

    def _memory(self) -> None:
        if "memory" in self.faults and self.incar.get("KPAR", 1) > 1:
            print("slurmstepd: error: Detected 1 oom_kill event", file=sys.stderr)  # noqa: T201
            raise SystemExit(137)

    def _interrupt(self, done: int) -> None:
        """Die as VASP does, if a fault says so."""
        if "zbrent" in self.faults and done == 2 and self.incar.get("NELMIN", 2) < 8:
            print("ZBRENT: fatal error in bracketing", flush=True)  # noqa: T201
            raise SystemExit(1)
        if done == int(self.faults.get("kill", -1)) and not self.restarted:
            (self.folder / "WAVECAR").write_text("stand-in orbitals\n")
            os._exit(9)

    def _stop(self) -> bool:
        """Obey a STOPCAR and remove it."""
        path = self.folder / "STOPCAR"
        if not path.is_file():
            return False
        path.unlink()
        return True


def main() -> int:
    """Run in the current folder.

    Returns
    -------
    int
        0, or 1 with a message on stderr if an input is wrong.
    """
    listed = [item for item in os.environ.get("DEFECT_MF_STANDIN", "").split(",") if item]
    faults = {name: value for name, _, value in (item.partition("=") for item in listed)}
    try:
        StandIn(Path.cwd(), faults).run()
    except WrongInputError as error:
        print(f"stand-in for VASP refuses: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
