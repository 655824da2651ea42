"""What of an imported calculation contradicts the fidelity that a campaign asks for."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.campaign.cp2k import Cp2kSettings
from defect_mf_flows.campaign.gpaw import GpawSettings
from defect_mf_flows.campaign.vasp import VaspSettings
from defect_mf_flows.schemas.calculation import Calculation, ImportRecord
from defect_mf_flows.schemas.defect import StartStructure

#: Programs that are an engine of their own here; others come under names that nobody checks.
_PROGRAMS = ("vasp", "gpaw", "cp2k")
#: An ASE calculator may run these; VASP's results are taken for the engine ``vasp`` alone.
_THROUGH_ASE = ("gpaw", "cp2k")
_UNKNOWN = "unknown"

#: What is compared: name, what the file tells of it, what the campaign asks for.
Comparison = tuple[str, Any, Any]


def contradictions(
    found: Calculation, record: ImportRecord, settings: FidelitySettings, start: StartStructure
) -> list[str]:
    """What of an imported calculation contradicts a campaign's fidelity.

    Parameters
    ----------
    found
        The imported calculation.
    record
        Its own settings.
    settings
        The campaign's.
    start
        What the campaign asks for with them.

    Returns
    -------
    list of str
        Empty if nothing does. A file that tells no settings contradicts nothing: it is taken on
        the word of whoever imported it under this name.
    """
    if not _may_come_from(found.engine.name, settings.engine):
        return [f"computed by {found.engine.name}, not by {settings.engine}"]
    if settings.engine not in _COMPARED or not record.method:
        return []
    return [
        f"{name} is {told}, the campaign asks for {asked}"
        for name, told, asked in _COMPARED[settings.engine](found, record, settings.settings, start)
        if not _same(told, asked)
    ]


def _may_come_from(program: str, engine: str) -> bool:
    if program in (_UNKNOWN, engine):
        return True
    if engine == "ase":
        return program not in _PROGRAMS or program in _THROUGH_ASE
    return engine not in _PROGRAMS and program not in _PROGRAMS


def _vasp(
    found: Calculation, record: ImportRecord, content: dict[str, Any], start: StartStructure
) -> list[Comparison]:
    """Against the INCAR, grid and potentials that VASP would get here."""
    from defect_mf_flows.engines.vasp.comparing import comparisons

    return comparisons(found, record, VaspSettings.model_validate(content), start)


def _gpaw(
    _: Calculation, record: ImportRecord, content: dict[str, Any], __: StartStructure
) -> list[Comparison]:
    """As GPAW's text has them: ``XC(name='PBE')`` and ``PW(ecut=400.0)``."""
    settings = GpawSettings.model_validate(content)
    functional = str(record.method.get("xc", ""))
    known = next((name for name in ("HSE06", "PBE") if f"{name}'" in functional), functional)
    cutoff = re.search(r"ecut=([\d.]+)", str(record.method.get("mode", "")))
    return [
        ("functional", known, settings.functional),
        ("encut", float(cutoff[1]) if cutoff else None, settings.encut),
        *_grid(record, settings.kpoints, gamma_only=settings.gamma_only),
    ]


def _cp2k(
    _: Calculation, record: ImportRecord, content: dict[str, Any], __: StartStructure
) -> list[Comparison]:
    """CP2K writes the cutoff of its grid in Hartree, half of what it reads in Rydberg."""
    settings = Cp2kSettings.model_validate(content)
    cutoff = record.method.get("encut")
    return [
        ("functional", record.method.get("functional"), settings.functional),
        ("cutoff", None if cutoff is None else 2 * float(cutoff), settings.cutoff),
        *_grid(record, None, gamma_only=True),
    ]


_COMPARED: dict[
    str,
    Callable[[Calculation, ImportRecord, dict[str, Any], StartStructure], list[Comparison]],
] = {
    "vasp": _vasp,
    "gpaw": _gpaw,
    "cp2k": _cp2k,
}


def _grid(record: ImportRecord, divisions: Any, *, gamma_only: bool) -> list[Comparison]:
    divisions = [1, 1, 1] if gamma_only else divisions
    if divisions is None or not record.kpoints:
        return []
    return [("k-point grid", record.kpoints, "x".join(map(str, divisions)))]


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) or isinstance(other, float):
        return one is not None and abs(float(one) - float(other)) <= 1e-3 * abs(float(other))
    return bool(one == other)
