"""What VASP's settings mean for labels: the same words whoever wrote them down.

An INCAR, the parameters of a vasprun.xml and the list of an OUTCAR spell the same setting in
different ways; here each has one value, so that two of them can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: LEXCH as a number, which VASP prints where GGA was not set.
_LEXCH = {"8": "PE", "9": "RP", "14": "PS", "7": "91", "40": "RE", "41": "B3", "2": "CA", "1": "CA"}
#: How VASP versions say that there is no meta-GGA.
_NO_META = frozenset({"", "--", "F", ".FALSE.", "NONE"})
#: Written for a dispersion correction of a VASP that names no IVDW.
SOME_DISPERSION = "on"


def as_text(incar: Mapping[str, Any]) -> dict[str, str]:
    """Tags as VASP would print them.

    Parameters
    ----------
    incar
        Values as pymatgen holds them.

    Returns
    -------
    dict of str
        Logical values are T or F, lists are joined with blanks.
    """
    return {tag: _text(value) for tag, value in incar.items()}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, list | tuple):
        return " ".join(_text(item) for item in value)
    return str(value)


def method_of(tags: Mapping[str, str], elements: Sequence[str] = ()) -> dict[str, Any]:
    """Settings that make a label what it is.

    Parameters
    ----------
    tags
        In force, as text.
    elements
        Symbol of every POTCAR, in order.

    Returns
    -------
    dict
        Functional, meta-GGA, share and screening of exact exchange, cutoff (eV), precision,
        dispersion, spin-orbit coupling, and LDAUL, LDAUU and LDAUJ per element.
    """
    given = tags.get("GGA", "--").upper()
    functional = given if given != "--" else _LEXCH.get(tags.get("LEXCH", ""), tags.get("LEXCH"))
    meta = tags.get("METAGGA", "--").strip().upper()
    hybrid = is_true(tags.get("LHFCALC", "F"))
    found: dict[str, Any] = {
        "GGA": functional,
        "METAGGA": "--" if meta in _NO_META else meta,
        "LHFCALC": hybrid,
        "ENCUT": float(tags["ENCUT"]) if tags.get("ENCUT") else None,
        "PREC": tags.get("PREC", "normal").lower()[:3],
        "LASPH": is_true(tags.get("LASPH", "F")),
        "IVDW": tags.get("IVDW", "0"),
        "LSORBIT": is_true(tags.get("LSORBIT", "F")),
        "LDAU": is_true(tags.get("LDAU", "F")),
    }
    if hybrid:
        found["AEXX"] = float(tags.get("AEXX", "0.25"))
        found["HFSCREEN"] = float(tags.get("HFSCREEN", "0"))
    if found["LDAU"]:
        found |= _hubbard(tags, elements)
    return found


def _hubbard(tags: Mapping[str, str], elements: Sequence[str]) -> dict[str, Any]:
    return {
        f"{tag} {element}": float(value)
        for tag in ("LDAUL", "LDAUU", "LDAUJ")
        for element, value in zip(elements, tags.get(tag, "").split(), strict=False)
    }


def accuracy_of(tags: Mapping[str, str]) -> dict[str, Any]:
    """Settings of the numerics, which may differ a little on purpose.

    Parameters
    ----------
    tags
        In force, as text.

    Returns
    -------
    dict
        NKRED, PRECFOCK, LREAL, ADDGRID, ISMEAR, SIGMA (eV) and ISPIN.
    """
    grids = [tags.get(f"NKRED{axis}", tags.get("NKRED", "1")) for axis in "XYZ"]
    return {
        "NKRED": "x".join(grids),
        "PRECFOCK": tags.get("PRECFOCK", "normal").lower()[:4],
        "LREAL": tags.get("LREAL", "F").upper()[:1],
        "ADDGRID": is_true(tags.get("ADDGRID", "F")),
        "ISMEAR": int(float(tags.get("ISMEAR", "1"))),
        "SIGMA": float(tags.get("SIGMA", "0.2")),
        "ISPIN": int(float(tags.get("ISPIN", "1"))),
    }


def imposed_moment(tags: Mapping[str, str]) -> int | None:
    """Unpaired electrons that NUPDOWN imposes, or None if VASP found the moment."""
    imposed = float(tags.get("NUPDOWN", "-1"))
    return int(imposed) if imposed >= 0 and tags.get("ISPIN") == "2" else None


def is_true(text: str) -> bool:
    """Tell whether VASP takes a word for true."""
    return text.strip(". ").upper().startswith("T")
