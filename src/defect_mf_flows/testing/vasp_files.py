"""Writers of vasprun.xml, OUTCAR and OSZICAR in VASP's layout, step by step as VASP writes them."""

from __future__ import annotations

from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io.vasp import write_vasp
from ase.units import GPa

VERSION = "6.4.2"


@dataclass(frozen=True)
class Header:
    """What stands at the beginning of the files.

    Attributes
    ----------
    incar
        Tags as read.
    symbols, titles, counts, valences
        Element, POTCAR title, number of atoms and valence electrons per species.
    atoms
        First geometry.
    bands
        What the header says of their number.
    """

    incar: dict[str, Any]
    symbols: list[str]
    titles: list[str]
    counts: list[int]
    valences: list[float]
    atoms: Atoms
    bands: int = 64


@dataclass(frozen=True)
class Labels:
    """One ionic step.

    Attributes
    ----------
    atoms
        Geometry.
    energies
        Of the electronic steps, eV; the last is the energy.
    forces, stress
        eV/A; eV/A^3 in ASE's sign.
    eigenvalues, occupations
        At Gamma, eV, shape (n_levels,), and 0..1, shape (n_spins, n_levels).
    potentials
        Electrostatic potential at the atoms as felt by a positive charge, V.
    scf_converged
        What the OUTCAR says at the end of the electronic steps.
    """

    atoms: Atoms
    energies: list[float]
    forces: np.ndarray
    stress: np.ndarray
    eigenvalues: np.ndarray
    occupations: np.ndarray
    potentials: np.ndarray
    scf_converged: bool = True


def _rows(name: str, array: np.ndarray, pad: str = "   ") -> str:
    lines = "".join(
        f"{pad} <v> " + " ".join(f"{x:15.8f}" for x in row) + " </v>\n" for row in array
    )
    return f'{pad}<varray name="{name}" >\n{lines}{pad}</varray>\n'


def _structure(atoms: Atoms, name: str = "") -> str:
    head = f' <structure name="{name}" >\n' if name else "  <structure>\n"
    basis = _rows("basis", atoms.cell.array)
    reciprocal = _rows("rec_basis", atoms.cell.reciprocal().array)
    volume = f'   <i name="volume"> {atoms.get_volume():15.8f} </i>\n'
    crystal = f"  <crystal>\n{basis}{volume}{reciprocal}  </crystal>\n"
    positions = atoms.get_scaled_positions(wrap=False)
    return head + crystal + _rows("positions", positions) + "  </structure>\n"


def _tag(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return f'  <i type="logical" name="{name}"> {"T" if value else "F"} </i>\n'
    if isinstance(value, int):
        return f'  <i type="int" name="{name}"> {value} </i>\n'
    if isinstance(value, float):
        return f'  <i name="{name}"> {value:.8f} </i>\n'
    if isinstance(value, list):
        return f'  <v name="{name}"> {" ".join(f"{x:.8f}" for x in value)} </v>\n'
    return f'  <i type="string" name="{name}">{value}</i>\n'


class Files:
    """Output files of one run.

    Parameters
    ----------
    folder
        Where VASP runs.
    header
        What stands at their beginning.
    """

    def __init__(self, folder: Path, header: Header) -> None:
        self.folder, self.header, self.steps = folder, header, 0
        self._write("vasprun.xml", self._xml_header(), mode="w")
        self._write("OUTCAR", self._outcar_header(), mode="w")
        self._write("OSZICAR", "", mode="w")

    def step(self, labels: Labels) -> None:
        """Append an ionic step to all files and replace CONTCAR."""
        self.steps += 1
        self._write("vasprun.xml", self._xml_step(labels))
        self._write("OUTCAR", self._outcar_step(labels))
        self._write("OSZICAR", self._oszicar_step(labels))

    def contcar(self, atoms: Atoms) -> None:
        """Write the geometry that comes next."""
        write_vasp(self.folder / "CONTCAR", atoms, direct=True)

    def close(self, atoms: Atoms, *, converged: bool) -> None:
        """End the files as a run that ended by itself does."""
        self._write("vasprun.xml", _structure(atoms, "finalpos") + "</modeling>\n")
        text = " reached required accuracy - stopping structural energy minimisation\n"
        self._write("OUTCAR", text if converged else "")
        self._write(
            "OUTCAR",
            "\n General timing and accounting informations for this job:\n"
            "                  Total CPU time used (sec):        1.000\n"
            "                         Elapsed time (sec):        1.000\n",
        )

    def _write(self, name: str, text: str, mode: str = "a") -> None:
        with (self.folder / name).open(mode) as file:
            file.write(text)

    # -- vasprun.xml ---------------------------------------------------------------------

    def _xml_header(self) -> str:
        h, out = self.header, StringIO()
        out.write('<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n <generator>\n')
        out.write('  <i name="program" type="string">vasp </i>\n')
        out.write(f'  <i name="version" type="string">{VERSION}  </i>\n </generator>\n')
        out.write(" <incar>\n" + "".join(_tag(k, v) for k, v in h.incar.items()) + " </incar>\n")
        out.write(' <kpoints>\n  <generation param="Gamma">\n')
        out.write('   <v type="int" name="divisions"> 1 1 1 </v>\n')
        out.write('   <v name="usershift"> 0.0 0.0 0.0 </v>\n  </generation>\n')
        out.write(_rows("kpointlist", np.zeros((1, 3))))
        out.write('  <varray name="weights" >\n   <v> 1.00000000 </v>\n  </varray>\n </kpoints>\n')
        parameters = {"NELM": 60, "ISPIN": 1, "NSW": 0, "LHFCALC": False, **h.incar}
        parameters = {**parameters, "ENMAX": float(h.incar["ENCUT"]), "LCHIMAG": False}
        tags = "".join(_tag(k, v) for k, v in parameters.items())
        out.write(f" <parameters>\n{tags} </parameters>\n")
        out.write(self._xml_atoms())
        out.write(_structure(h.atoms, "initialpos"))
        return out.getvalue()

    def _xml_atoms(self) -> str:
        h = self.header
        atoms = "".join(
            f"    <rc><c>{s:<2}</c><c> {i + 1}</c></rc>\n" * n
            for i, (s, n) in enumerate(zip(h.symbols, h.counts, strict=True))
        )
        types = "".join(
            f"    <rc><c>{n:4d}</c><c>{s:<2}</c><c> 1.0</c><c>{v:16.8f}</c><c>  {t} </c></rc>\n"
            for s, n, v, t in zip(h.symbols, h.counts, h.valences, h.titles, strict=True)
        )
        fields = '   <field type="string">element</field>\n   <field type="int">atomtype</field>\n'
        return (
            f" <atominfo>\n  <atoms> {sum(h.counts)} </atoms>\n  <types> {len(h.counts)} </types>\n"
            f'  <array name="atoms" >\n   <dimension dim="1">ion</dimension>\n{fields}'
            f'   <set>\n{atoms}   </set>\n  </array>\n  <array name="atomtypes" >\n'
            f'   <dimension dim="1">type</dimension>\n   <set>\n{types}   </set>\n  </array>\n'
            " </atominfo>\n"
        )

    def _xml_step(self, labels: Labels) -> str:
        out = StringIO()
        out.write(" <calculation>\n")
        for energy in labels.energies:
            out.write(f"  <scstep>\n{_xml_energy(energy)}  </scstep>\n")
        out.write(_structure(labels.atoms))
        out.write(_rows("forces", labels.forces) + _rows("stress", labels.stress / (-0.1 * GPa)))
        out.write(_xml_energy(labels.energies[-1]))
        spins = ""
        for i, channel in enumerate(labels.occupations):
            rows = "".join(
                f"       <r> {e:.4f} {o:.4f} </r>\n"
                for e, o in zip(labels.eigenvalues, channel, strict=True)
            )
            spins += f'     <set comment="spin {i + 1}">\n      <set comment="kpoint 1">\n'
            spins += f"{rows}      </set>\n     </set>\n"
        out.write("  <eigenvalues>\n   <array>\n    <set>\n" + spins)
        out.write("    </set>\n   </array>\n  </eigenvalues>\n </calculation>\n")
        return out.getvalue()

    # -- OUTCAR and OSZICAR --------------------------------------------------------------

    def _outcar_header(self) -> str:
        h, out = self.header, StringIO()
        out.write(f" vasp.{VERSION} stand-in\n executed on             no machine of its own\n")
        out.write(" running    1 mpi-ranks, on    1 nodes\n\n INCAR:\n")
        for name, value in h.incar.items():
            shown = " ".join(map(str, value)) if isinstance(value, list) else value
            out.write(f"   {name} = {shown}\n")
        out.write("\n")
        for _ in range(2):
            out.writelines(f" POTCAR:    {title}\n" for title in h.titles)
        for title, symbol, valence in zip(h.titles, h.symbols, h.valences, strict=True):
            out.write(f"   VRHFIN ={symbol}: none\n   LEXCH  = PE\n   TITEL  = {title}\n")
            out.write(f"   POMASS =   65.390; ZVAL   = {valence:8.3f}    mass and valenz\n")
        out.write(" generate k-points for:    1    1    1\n")
        counts = " ".join(f"{n:4d}" for n in h.counts)
        out.write("   k-points           NKPTS =      1   k-points in BZ     NKDIM =      1   ")
        out.write("number of bands    NBANDS=")
        out.write(f"{h.bands:7d}\n   ions per type =            {counts}\n")
        out.write("   dimension x,y,z NGXF=    60 NGYF=   60 NGZF=   60\n")
        out.write(" total plane-waves  NPLWV =   1000\n")
        out.write(" k-points in reciprocal lattice and weights: Gamma\n")
        out.write("   0.00000000  0.00000000  0.00000000       1.000\n")
        out.write(self._outcar_parameters())
        return out.getvalue()

    def _outcar_parameters(self) -> str:
        """The settings in force, as VASP lists them after its inputs."""
        tags = self.header.incar

        def logical(tag: str) -> str:
            return "T" if tags.get(tag, False) else "F"

        encut, prec = float(tags["ENCUT"]), str(tags.get("PREC", "normal")).lower()[:6]
        hybrid = bool(tags.get("LHFCALC", False))
        moment, width = float(tags.get("NUPDOWN", -1)), float(tags.get("SIGMA", 0.2))
        share, screening = float(tags.get("AEXX", 0.25)), float(tags.get("HFSCREEN", 0.2))
        lines = [
            f"PREC   = {prec:6s}    normal or accurate (medium, high low for compatibility)",
            f"ISPIN  = {tags.get('ISPIN', 1):6d}    spin polarized calculation?",
            f"LASPH  = {logical('LASPH'):>6s}    aspherical Exc in radial PAW",
            f"ENCUT  = {encut:6.1f} eV {encut / 13.605693:6.2f} Ry",
            f"NELM   = {tags.get('NELM', 60):6d};   NELMIN=  2; NELMDL= -5     # of ELM steps",
            f"EDIFFG = {float(tags.get('EDIFFG', 0)):8.1E}   stopping-criterion for IOM",
            f"NSW    = {tags.get('NSW', 0):6d}    number of steps for IOM",
            f"IBRION = {tags.get('IBRION', -1):6d}    ionic relax: 0-MD 1-quasi-New 2-CG",
            f"NELECT = {float(tags['NELECT']):12.4f}    total number of electrons",
            f"NUPDOWN= {moment:12.4f}    fix difference up-down",
            f"ISMEAR = {tags.get('ISMEAR', 1):5d};   SIGMA  = {width:6.2f}  broadening in eV",
            "GGA     =    --    GGA type",
            "LEXCH   =     8    internal setting for exchange type",
            f"LHFCALC = {logical('LHFCALC'):>5s}    Hartree Fock is set to",
            f"AEXX    = {share if hybrid else 0:9.4f} exact exchange contribution",
            f"HFSCREEN= {screening if hybrid else 0:9.4f} screening length",
        ]
        return "".join(f"   {line}\n" for line in lines)

    def _outcar_step(self, labels: Labels) -> str:
        out, n = StringIO(), self.steps
        for i, energy in enumerate(labels.energies, start=1):
            out.write(f"{'-' * 39} Iteration {n:6d}({i:4d})  {'-' * 39}\n")
            out.write("      LOOP:  cpu time      0.1000: real time      0.1000\n")
            moment = float(self.header.incar.get("NUPDOWN", 0))
            electrons = self.header.incar["NELECT"]
            out.write(f" number of electron {electrons:15.7f} magnetization {moment:15.7f}\n")
            out.write(f"  free energy    TOTEN  = {energy:18.8f} eV\n")
        how = "because EDIFF is" if labels.scf_converged else "EDIFF was not"
        out.write(f"{'-' * 24} aborting loop {how} reached {'-' * 40}\n")
        out.write(_potential_table(labels.potentials) + _level_table(labels))
        xx = (labels.stress / (-0.1 * GPa))[[0, 1, 2, 0, 1, 2], [0, 1, 2, 1, 2, 0]]
        out.write("  in kB  " + " ".join(f"{x:11.5f}" for x in xx) + "\n")
        out.write("      direct lattice vectors                 reciprocal lattice vectors\n")
        cell = labels.atoms.cell
        for a, b in zip(cell.array, cell.reciprocal().array, strict=True):
            out.write("  " + "".join(f"{x:13.9f}" for x in (*a, *b)) + "\n")
        out.write("\n POSITION                                       TOTAL-FORCE (eV/Angst)\n")
        out.write(f" {'-' * 83}\n")
        for r, f in zip(labels.atoms.positions, labels.forces, strict=True):
            out.write("".join(f"{x:13.5f}" for x in r) + "".join(f"{x:14.6f}" for x in f) + "\n")
        energy = labels.energies[-1]
        out.write(f" {'-' * 83}\n    total drift:             0.000000 0.000000 0.000000\n\n")
        out.write("  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n")
        out.write("  ---------------------------------------------------\n")
        out.write(f"  free  energy   TOTEN  = {energy:18.8f} eV\n\n")
        out.write(f"  energy  without entropy={energy:17.8f}  energy(sigma->0) ={energy:17.8f}\n")
        out.write("     LOOP+:  cpu time      1.0000: real time      1.0000\n")
        return out.getvalue()

    def _oszicar_step(self, labels: Labels) -> str:
        out = StringIO()
        out.write("       N       E                     dE             d eps       ncg     rms\n")
        before = 0.0
        for i, energy in enumerate(labels.energies, start=1):
            change = energy - before
            out.write(
                f"DAV: {i:3d}   {energy:19.12E}   {change:12.5E}  {change:12.5E}   100   0.1E+00\n"
            )
            before = energy
        last = labels.energies[-1]
        out.write(f"{self.steps:4d} F= {last:.8E} E0= {last:.8E}  d E ={0:.6E}  mag=     0.0000\n")
        return out.getvalue()


def _potential_table(potentials: np.ndarray) -> str:
    """Potentials at the cores, as felt by an electron."""
    out = " average (electrostatic) potential at core\n  the test charge radii are     0.9521\n"
    out += "  (the norm of the test charge is              1.0000)\n"
    for first in range(0, len(potentials), 5):
        row = enumerate(-potentials[first : first + 5], first + 1)
        out += "".join(f"{number:8d}{value:9.4f}" for number, value in row) + "\n"
    return out + "\n\n\n"


def _level_table(labels: Labels) -> str:
    """Eigenvalues with occupations: 1 each in a polarised run, 2 in an unpolarised one."""
    polarised = len(labels.occupations) == 2
    highest = labels.eigenvalues[labels.occupations.max(axis=0) > 0.5].max()
    out = f" E-fermi : {highest:8.4f}     XC(G=0):  -7.8949     alpha+bet : -7.8862\n\n"
    for spin, channel in enumerate(labels.occupations, start=1):
        out += f" spin component {spin}\n\n" if polarised else ""
        out += " k-point     1 :       0.0000    0.0000    0.0000\n"
        out += "  band No.  band energies     occupation \n"
        for number, (energy, share) in enumerate(
            zip(labels.eigenvalues, channel, strict=True), start=1
        ):
            full = share if polarised else 2 * share
            out += f"{number:7d}{energy:13.4f}{full:13.5f}\n"
        out += "\n"
    return out + f"{'-' * 100}\n"


def _xml_energy(energy: float) -> str:
    names = ("e_fr_energy", "e_wo_entrp", "e_0_energy")
    lines = "".join(f'    <i name="{name}"> {energy:15.8f} </i>\n' for name in names)
    return f"   <energy>\n{lines}   </energy>\n"
