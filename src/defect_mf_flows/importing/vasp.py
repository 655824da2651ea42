"""VASP: settings, charge and steps of one run, from its files alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from defect_mf_flows.core.charge import whole_charge
from defect_mf_flows.engines.vasp.outcar import Outcar, RunHead
from defect_mf_flows.engines.vasp.vasprun import VasprunXml
from defect_mf_flows.errors import ImportingError
from defect_mf_flows.importing.reading import Reading
from defect_mf_flows.importing.walk import Kind, Source
from defect_mf_flows.schemas.calculation import BandEdges

#: LEXCH as a number, which VASP prints where GGA was not set.
_LEXCH = {"8": "PE", "9": "RP", "14": "PS", "7": "91", "40": "RE", "41": "B3", "2": "CA", "1": "CA"}
_RELAXING = ("1", "2", "3")
_OTHER_MOTION = {"0": "molecular dynamics", "5": "finite differences", "6": "finite differences"}


def read_vasp(source: Source) -> Reading:
    """Read one run of VASP.

    Parameters
    ----------
    source
        Its vasprun.xml or OUTCAR.

    Returns
    -------
    Reading
        With the complete ionic steps, also of a file that was cut off.

    Raises
    ------
    ImportingError
        If the file, and its twin, hold no complete ionic step.
    """
    try:
        return _read(source)
    except ImportingError as error:
        if source.other is None:
            raise
        found = _read(source.other)
        found.notes.insert(0, f"read from {source.other.path.name}, because {error}")
        return found


def _read(source: Source) -> Reading:
    file: Any = (Outcar if source.kind is Kind.OUTCAR else VasprunXml)(source.path)
    steps = list(file.steps())
    head: RunHead = file.head
    name = source.path
    if not head.version and not steps:
        why = f" ({head.broken})" if head.broken else ""
        raise ImportingError(f"{name}: is no {source.kind} of VASP{why}; leave it out.")
    if not steps:
        raise ImportingError(
            f"{name}: no complete ionic step{_cut(head)}; let VASP continue, or leave it out."
        )
    if len(head.species) != len(steps[0].positions):
        raise ImportingError(
            f"{name}: the header tells {len(head.species)} atoms, the steps have "
            f"{len(steps[0].positions)}; the file was altered or put together."
        )
    tags = head.tags
    relaxation = tags.get("IBRION") in _RELAXING and tags.get("NSW", "0") != "0"
    found = Reading(
        source=source,
        label=source.label,
        program="vasp",
        version=head.version or "unknown",
        digest=head.digest,
        symbols=head.species,
        steps=steps,
        nelect=head.nelect,
        charge=_charge(head, name),
        zval=dict(zip(_elements(head), head.zval, strict=False)),
        spin=_spin(tags),
        method=_method(head),
        accuracy=_accuracy(tags),
        kpoints=_kpoints(head),
        relaxation=relaxation,
        relaxed=relaxation and (head.relaxed or _small_forces(tags, steps[-1])),
        ended=head.ended,
        magnetization=head.magnetization,
        seconds=head.seconds,
        settings={"tags": dict(sorted(tags.items())), "potcars": head.titles},
    )
    if not head.ended:
        found.notes.append(f"cut off after {len(steps)} complete ionic steps{_cut(head)}")
    if motion := _OTHER_MOTION.get(tags.get("IBRION", "")):
        found.notes.append(f"{motion} (IBRION = {tags['IBRION']}), no relaxation")
    return found


def _cut(head: RunHead) -> str:
    return f" ({head.broken})" if head.broken else ""


def _elements(head: RunHead) -> list[str]:
    return head.symbols or [title.split()[1].partition("_")[0] for title in head.titles]


def _charge(head: RunHead, name: Path) -> int | None:
    if head.valence is None or head.nelect is None:
        return None
    return whole_charge(round(head.valence - head.nelect, 4), where=str(name))


def _spin(tags: dict[str, str]) -> int | None:
    imposed = float(tags.get("NUPDOWN", "-1"))
    return int(imposed) if imposed >= 0 and tags.get("ISPIN") == "2" else None


def _true(text: str) -> bool:
    return text.strip(". ").upper().startswith("T")


def _method(head: RunHead) -> dict[str, Any]:
    """Settings that make a label what it is."""
    tags = head.tags
    given = tags.get("GGA", "--").upper()
    functional = given if given != "--" else _LEXCH.get(tags.get("LEXCH", ""), tags.get("LEXCH"))
    hybrid = _true(tags.get("LHFCALC", "F"))
    found: dict[str, Any] = {
        "GGA": functional,
        "METAGGA": tags.get("METAGGA", "--").upper(),
        "LHFCALC": hybrid,
        "ENCUT": float(tags["ENCUT"]) if tags.get("ENCUT") else None,
        "PREC": tags.get("PREC", "normal").lower()[:3],
        "LASPH": _true(tags.get("LASPH", "F")),
        "IVDW": tags.get("IVDW", "0"),
        "LSORBIT": _true(tags.get("LSORBIT", "F")),
        "LDAU": _true(tags.get("LDAU", "F")),
    }
    if hybrid:
        found["AEXX"] = float(tags.get("AEXX", "0.25"))
        found["HFSCREEN"] = float(tags.get("HFSCREEN", "0"))
    if found["LDAU"]:
        found |= _hubbard(head)
    for element, title in zip(_elements(head), head.titles, strict=False):
        found[f"POTCAR {element}"] = title
    return found


def _hubbard(head: RunHead) -> dict[str, Any]:
    found = {}
    for tag in ("LDAUL", "LDAUU", "LDAUJ"):
        values = head.tags.get(tag, "").split()
        for element, value in zip(_elements(head), values, strict=False):
            found[f"{tag} {element}"] = float(value)
    return found


def _accuracy(tags: dict[str, str]) -> dict[str, Any]:
    """Settings of the numerics, which may differ a little on purpose."""
    grids = [tags.get(f"NKRED{axis}", tags.get("NKRED", "1")) for axis in "XYZ"]
    return {
        "NKRED": "x".join(grids),
        "PRECFOCK": tags.get("PRECFOCK", "normal").lower()[:4],
        "LREAL": tags.get("LREAL", "F").upper()[:1],
        "ADDGRID": _true(tags.get("ADDGRID", "F")),
        "ISMEAR": int(tags.get("ISMEAR", "1")),
        "SIGMA": float(tags.get("SIGMA", "0.2")),
        "ISPIN": int(tags.get("ISPIN", "1")),
    }


def _kpoints(head: RunHead) -> str:
    if head.grid is not None:
        shift = head.kpoints and any(abs(x) > 1e-6 for x in head.kpoints[0][:3])
        return "x".join(map(str, head.grid)) + (" shifted" if shift else "")
    if len(head.kpoints) == 1 and not any(abs(x) > 1e-6 for x in head.kpoints[0][:3]):
        return "1x1x1"
    return f"{len(head.kpoints)} points" if head.kpoints else ""


def _small_forces(tags: dict[str, str], last: Any) -> bool:
    import numpy as np

    try:
        limit = -float(tags.get("EDIFFG", "0"))
    except ValueError:
        return False
    # VASP compares before it rounds its output.
    largest = np.linalg.norm(last.forces, axis=1).max()
    return limit > 0 and bool(largest <= limit * 1.001 + 1e-4)


def band_edges(source: Source) -> BandEdges | None:
    """Band edges of the last step of a run.

    Parameters
    ----------
    source
        Its vasprun.xml or OUTCAR.

    Returns
    -------
    BandEdges or None
        None where the file does not tell, or the occupations leave no gap.
    """
    if source.kind is Kind.OUTCAR:
        return _outcar_edges(source.path)
    from pymatgen.io.vasp.outputs import Vasprun

    try:
        read = Vasprun(source.path, parse_dos=False, parse_potcar_file=False)
    except Exception:  # pymatgen raises whatever the missing part made it raise
        return None
    properties: Any = read.eigenvalue_band_properties
    gap, cbm, vbm, _ = properties
    return BandEdges(vbm=float(vbm), cbm=float(cbm)) if gap > 0 else None


def _outcar_edges(path: Path) -> BandEdges | None:
    """Highest occupied and lowest empty level of the last table of eigenvalues."""
    from monty.io import zopen

    vbm, cbm = float("-inf"), float("inf")
    table = False
    with zopen(path, "rb") as lines:
        for line in lines:
            if b"E-fermi" in line:
                vbm, cbm = float("-inf"), float("inf")
            elif b"band No." in line:
                table, full = True, None
            elif table:
                words = line.split()
                if len(words) != 3 or not words[0].isdigit():
                    table = False
                    continue
                energy, occupation = float(words[1]), float(words[2])
                # One for each channel of a polarised run, two for an unpolarised one.
                full = occupation if full is None else full
                if occupation > 0.5 * full:
                    vbm = max(vbm, energy)
                else:
                    cbm = min(cbm, energy)
    return BandEdges(vbm=vbm, cbm=cbm) if float("-inf") < vbm < cbm < float("inf") else None
