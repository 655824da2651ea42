"""An imported calculation of VASP against the inputs that this package would write for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from defect_mf_flows.campaign.vasp import VaspSettings
from defect_mf_flows.engines.vasp.method import SOME_DISPERSION, accuracy_of, as_text, method_of
from defect_mf_flows.engines.vasp.sets import ChargedCellSet
from defect_mf_flows.errors import EngineError
from defect_mf_flows.schemas.calculation import Calculation, ImportRecord
from defect_mf_flows.schemas.defect import StartStructure

#: Energies are those for vanishing smearing, which widths up to this one (eV) do not move in cells
#: with a gap; wider ones do, where levels of a defect are partly filled.
NARROW = 0.05
#: Moments found by VASP are whole up to this, Bohr magnetons.
WHOLE = 0.1

#: What is compared: name, what the file tells of it, what the campaign asks for.
Comparison = tuple[str, Any, Any]


def comparisons(
    found: Calculation, record: ImportRecord, settings: VaspSettings, start: StartStructure
) -> list[Comparison]:
    """Everything that decides energies, as told and as asked for.

    Parameters
    ----------
    found, record
        The imported calculation and its own settings.
    settings
        Of the campaign's fidelity.
    start
        What is asked for: the cell decides +U, potentials, moment and grid.

    Returns
    -------
    list of tuple
        Name, told, asked. What the file does not tell is left out.
    """
    inputs = ChargedCellSet(settings=settings, unpaired=start.spin, with_potcars=False)
    inputs.structure = start.structure
    incar = inputs.incar
    elements = list(inputs.poscar.site_symbols)
    asked, told = method_of(as_text(incar), elements), record.method
    accuracy = accuracy_of(as_text(incar))
    return [
        *_functional(told, asked),
        *_dispersion(found, told, incar),
        *_hubbard(told, asked, elements),
        *_smearing(record.accuracy, accuracy),
        *_exchange_grid(record.accuracy, accuracy, hybrid=asked["LHFCALC"]),
        *_moment(found, record, incar, guesses=settings.spin_guesses),
        *_potentials(told, inputs, elements),
        *_grid(record, inputs),
    ]


def _functional(told: Mapping[str, Any], asked: Mapping[str, Any]) -> list[Comparison]:
    names = ["GGA", "METAGGA", "LHFCALC", "ENCUT", "PREC", "LASPH", "LSORBIT"]
    if told.get("LHFCALC") and asked["LHFCALC"]:
        names += ["AEXX", "HFSCREEN"]
    return [(name, told.get(name), asked[name]) for name in names]


def _dispersion(
    found: Calculation, told: Mapping[str, Any], incar: Mapping[str, Any]
) -> list[Comparison]:
    """Correction and damping; some versions do not tell which correction it is."""
    have, want = told.get("IVDW", "0"), str(incar.get("IVDW", "0"))
    if have != want:
        return [] if have == SOME_DISPERSION and want != "0" else [("IVDW", have, want)]
    tags = found.engine.settings.get("tags")
    if not tags:
        return []
    return [
        (tag, f"{float(tags[tag].split()[0]):g}" if tags.get(tag) else "not set", f"{value:g}")
        for tag, value in incar.items()
        if tag.startswith("VDW_")
    ]


def _hubbard(
    told: Mapping[str, Any], asked: Mapping[str, Any], elements: list[str]
) -> list[Comparison]:
    """Shell, U and J of every element; an element with neither U nor J is not corrected."""

    def shown(method: Mapping[str, Any], element: str) -> str:
        shell, u, j = (method.get(f"LDAU{x} {element}", 0.0) for x in "LUJ")
        return f"U = {u:g} eV, J = {j:g} eV, l = {shell:g}" if u or j else "none"

    pairs = [(f"+U on {e}", shown(told, e), shown(asked, e)) for e in dict.fromkeys(elements)]
    if told.get("LDAU") and not any(name.startswith("LDAUU ") for name in told):
        return [("LDAU", "on, with values that the file does not tell", "known values")]
    return pairs


def _smearing(told: Mapping[str, Any], asked: Mapping[str, Any]) -> list[Comparison]:
    if "ISMEAR" not in told:
        return []
    found: list[Comparison] = [("ISMEAR", told["ISMEAR"], asked["ISMEAR"])]
    width, wanted = float(told.get("SIGMA", asked["SIGMA"])), float(asked["SIGMA"])
    if max(width, wanted) > NARROW:
        found.append(("SIGMA", width, wanted))
    return found


def _exchange_grid(
    told: Mapping[str, Any], asked: Mapping[str, Any], *, hybrid: bool
) -> list[Comparison]:
    return [("NKRED", told["NKRED"], asked["NKRED"])] if hybrid and "NKRED" in told else []


def _moment(
    found: Calculation, record: ImportRecord, incar: Mapping[str, Any], *, guesses: int
) -> list[Comparison]:
    """Unpaired electrons, imposed or found, where they are fixed here."""
    polarised = record.accuracy.get("ISPIN")
    if incar.get("LSORBIT") or polarised is None:
        return []
    if incar["ISPIN"] == 2 and "NUPDOWN" not in incar:
        return [("ISPIN", polarised, 2), ("NUPDOWN", found.spin, None)]
    moment = found.spin if found.spin is not None else record.magnetization
    if polarised == 1:
        moment = 0
    wanted = int(incar.get("NUPDOWN", 0))
    accepted = (wanted, wanted + 2) if guesses == 2 else (wanted,)
    if moment is None or any(abs(abs(moment) - n) <= WHOLE for n in accepted):
        return []
    return [("total moment", f"{moment:g}", " or ".join(map(str, accepted)))]


def _potentials(
    told: Mapping[str, Any], inputs: ChargedCellSet, elements: list[str]
) -> list[Comparison]:
    """Titles with their date, or the potential's name where there are no POTCARs here."""
    names = dict(zip(elements, inputs.potcar_symbols, strict=True))
    try:
        titles = {p.element: " ".join(p.header.split()) for p in inputs.potcar}
    except EngineError:
        titles = {}
    found: list[Comparison] = []
    for element, name in names.items():
        title = told.get(f"POTCAR {element}")
        if title is None:
            continue
        have = " ".join(str(title).split())
        wanted = titles.get(element, name)
        if element not in titles and name in have.split():
            continue
        found.append((f"POTCAR of {element}", have, wanted))
    return found


def _grid(record: ImportRecord, inputs: ChargedCellSet) -> list[Comparison]:
    if not record.kpoints:
        return []
    divisions = [int(n) for n in inputs.kpoints.kpts[0]]
    return [("k-point grid", record.kpoints, "x".join(map(str, divisions)))]
