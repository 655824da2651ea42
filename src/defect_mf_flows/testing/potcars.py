"""A POTCAR library for tests: headers with valences in the layout of the format, no potentials."""

from __future__ import annotations

from pathlib import Path

from pymatgen.core import Element

#: Valence electrons of the potentials that the tests use.
VALENCES = {"Zn": 12, "S": 6, "Al": 3, "Se": 6, "Ga_d": 13, "Fe_pv": 14, "O": 6}

_LAYOUT = """\
  STAND_IN {symbol} 01Jan2026
   {valence:.14f}
 parameters from PSCTR are:
   VRHFIN ={element}: none
   LEXCH  = PE
   EATOM  =     0.0000 eV,    0.0000 Ry

   TITEL  = STAND_IN {symbol} 01Jan2026
   LULTRA =        F    use ultrasoft PP ?
   POMASS = {mass:8.3f}; ZVAL   = {valence:8.3f}    mass and valenz
   ENMAX  =  200.000; ENMIN  =  150.000 eV
 END of PSCTR-controll parameters
 for tests of input files only: holds no potential and no data of any POTCAR
   1.0
End of Dataset
"""


def write_potcars(folder: Path, valences: dict[str, int] | None = None) -> Path:
    """Write a library in which pymatgen finds POTCARs that hold nothing but a header.

    Parameters
    ----------
    folder
        Where to put it; give it to ``PMG_VASP_PSP_DIR``.
    valences
        Valence electrons per potential, for example ``{"Zn": 12}``.

    Returns
    -------
    Path
        The folder.
    """
    library = folder / "POT_GGA_PAW_PBE_54"
    for symbol, valence in (valences or VALENCES).items():
        element = symbol.split("_")[0]
        text = _LAYOUT.format(
            symbol=symbol,
            element=element,
            valence=float(valence),
            mass=Element(element).atomic_mass,
        )
        (library / symbol).mkdir(parents=True, exist_ok=True)
        (library / symbol / "POTCAR").write_text(text)
    return folder
