"""Make Sb2Se3.cif: the stibnite prototype in the measured lattice, atoms relaxed with PBE.

Lattice constants: Voutsas, Papazoglou, Rentzeperis and Siapkas, Z. Kristallogr. 171, 261 (1985).
Prototype: A3B2_oP20_62_3c_2c of the AFLOW library, as shipped with pymatgen. Takes minutes:

    python examples/hosts/make_sb2se3.py
"""

from __future__ import annotations

from pathlib import Path

from ase.optimize import BFGS
from gpaw import GPAW, PW, Mixer
from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

PROTOTYPE = "A3B2_oP20_62_3c_2c"
LATTICE = Lattice.orthorhombic(3.985, 11.633, 11.780)
#: Cutoff of the campaign, eV, and largest remaining force, eV/A.
CUTOFF, FMAX = 200, 0.02


def unrelaxed() -> Structure:
    """Sb2Se3 with the atoms where stibnite has them."""
    (entry,) = [e for e in AFLOW_PROTOTYPE_LIBRARY if e["tags"]["aflow"] == PROTOTYPE]
    stibnite = entry["snl"].structure
    species = [{"Sb": "Sb", "S": "Se"}[site.specie.symbol] for site in stibnite]
    return Structure(LATTICE, species, stibnite.frac_coords)


def main() -> None:
    """Relax the atoms at Gamma, as the campaign computes them, and write the file."""
    atoms = AseAtomsAdaptor.get_atoms(unrelaxed(), msonable=False)
    atoms.calc = GPAW(
        mode=PW(CUTOFF),
        xc="PBE",
        kpts={"size": (1, 1, 1), "gamma": True},
        mixer=Mixer(0.25, 6, 1),
        occupations={"name": "fermi-dirac", "width": 0.1},
        txt=None,
    )
    if not BFGS(atoms).run(fmax=FMAX, steps=100):
        raise SystemExit(f"not relaxed to {FMAX} eV/A in 100 steps; nothing is written")
    relaxed = Structure(LATTICE, atoms.get_chemical_symbols(), atoms.get_scaled_positions())
    relaxed.to(filename=str(Path(__file__).with_name("Sb2Se3.cif")))


if __name__ == "__main__":
    main()
