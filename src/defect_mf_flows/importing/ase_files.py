"""Files that ASE reads: extended XYZ, ASE databases, GPAW; and CP2K through pymatgen.

Consecutive images of one charge, composition, cell and origin are one calculation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from defect_mf_flows.core.charge import (
    CHARGE,
    ENERGY,
    FORCES,
    NO_FORCES,
    SPIN,
    STRESS,
    TOTAL_CHARGE,
)
from defect_mf_flows.engines.vasp.outcar import RawStep
from defect_mf_flows.errors import ImportingError
from defect_mf_flows.importing.reading import Reading
from defect_mf_flows.importing.walk import Kind, Source

#: Images of one calculation that are in memory together; a longer one becomes several.
MOST_STEPS = 1000
_CHARGE_KEYS = (TOTAL_CHARGE, CHARGE)
#: What files of other programs call the settings that must agree.
_METHOD_KEYS = ("functional", "xc", "method", "encut", "ecut", "mode", "kpts", "calculator")


def read_ase(source: Source) -> Iterator[Reading]:
    """Read the calculations of a file, one in memory at a time.

    Parameters
    ----------
    source
        The file.

    Yields
    ------
    Reading
        Its charge is None where no image says it.

    Raises
    ------
    ImportingError
        If the file cannot be read to its end, or an image has no energy or forces.
    """
    digest = _digest(source.path)
    part, group, key = 0, list[tuple[Atoms, dict[str, Any]]](), None
    for atoms, told in _images(source):
        mine = _key(atoms, told)
        if group and (mine != key or len(group) >= MOST_STEPS):
            yield _reading(source, part, group, digest)
            part, group = part + 1, []
        key = mine
        group.append((atoms, told))
    if group:
        yield _reading(source, part, group, digest)


def _images(source: Source) -> Iterator[tuple[Atoms, dict[str, Any]]]:
    """Every image with what the file tells about it."""
    count = 0
    try:
        for atoms, told in _opened(source):
            count += 1
            yield atoms, _repaired(told)
    except ImportingError:
        raise
    except Exception as error:  # ASE raises whatever the broken part made it raise
        raise ImportingError(
            f"{source.path}: not readable as {source.kind} after {count} images "
            f"({type(error).__name__}: {str(error)[:150]}); repair it, or leave it out."
        ) from None


def _opened(source: Source) -> Iterator[tuple[Atoms, dict[str, Any]]]:
    import ase.io

    if source.kind is Kind.EXTXYZ:
        for atoms in ase.io.iread(source.path, index=":", format="extxyz"):
            yield atoms, dict(atoms.info)
    elif source.kind is Kind.ASE_DB:
        yield from _database(source.path)
    elif source.kind is Kind.GPAW:
        from defect_mf_flows.importing.gpaw import gpaw_images

        yield from gpaw_images(source.path)
    else:
        from defect_mf_flows.importing.cp2k import cp2k_images

        yield from cp2k_images(source.path)


def _repaired(told: dict[str, Any]) -> dict[str, Any]:
    """Undo what an empty ``lineage_defect`` (the host) did to the key after it."""
    lost = str(told.get("lineage_defect", ""))
    if not lost.startswith("lineage_"):
        return told
    name, _, value = lost.partition("=")
    return {**told, "lineage_defect": "", name: value}


def _database(path: Path) -> Iterator[tuple[Atoms, dict[str, Any]]]:
    import ase.db

    with ase.db.connect(path) as database:
        for row in database.select():
            told = {**row.key_value_pairs, **(row.data or {})}
            if CHARGE not in (row.data or {}):
                # ASE puts its own column, the sum of initial charges, under this key.
                told.pop(CHARGE, None)
            told.setdefault("calculator", row.get("calculator"))
            yield row.toatoms(), {k: v for k, v in told.items() if v is not None}


def _key(atoms: Atoms, told: dict[str, Any]) -> tuple[Any, ...]:
    origin = tuple(str(told.get(k)) for k in ("lineage_calculation", "lineage_start", "defect"))
    method = tuple(str(told.get(k)) for k in (*_METHOD_KEYS, "fidelity", *_CHARGE_KEYS, SPIN))
    cell = np.round(atoms.cell.array, 3).tolist()
    return (atoms.get_chemical_formula(mode="reduce"), str(cell), *origin, *method)


def _reading(
    source: Source, part: int, group: list[tuple[Atoms, dict[str, Any]]], digest: str
) -> Reading:
    atoms, told = group[0]
    where = f"{source.path}, calculation {part + 1}"
    if not all(item.cell.rank == 3 for item, _ in group):
        raise ImportingError(f"{where}: the cell is not periodic in three directions.")
    steps = [_step(item, info, where) for item, info in group]
    own = told.get("lineage_start")
    method = {k: _plain(told[k]) for k in _METHOD_KEYS if told.get(k) is not None}
    program = str(told.get("program") or told.get("calculator") or "unknown")
    defect = told.get("lineage_defect") or told.get("defect")
    return Reading(
        source=source,
        part=part,
        label=str(own) if own else f"{source.label}#{part + 1}",
        program=program,
        version=str(told.get("version", "unknown")),
        digest=digest,
        symbols=atoms.get_chemical_symbols(),
        steps=steps,
        first=int(told.get("lineage_step", 0)),
        charge=_charge(told, where),
        spin=None if told.get(SPIN) is None else int(told[SPIN]),
        method=method,
        kpoints=str(told.get("kpoints", "")),
        relaxation=len(steps) > 1,
        relaxed=bool(told.get("relaxed", False)),
        ended=bool(told.get("ended", True)),
        fidelity=str(told["fidelity"]) if told.get("fidelity") else None,
        defect=str(defect) if defect else None,
        settings={"told": {k: _plain(v) for k, v in told.items() if _is_plain(v)}},
        notes=[*told.get("notes", []), *_without_forces(steps)],
    )


def _without_forces(steps: list[RawStep]) -> list[str]:
    count = sum(step.forces is None for step in steps)
    return [f"{count} steps of a method without forces: energies alone"] if count else []


def _charge(told: dict[str, Any], where: str) -> int | None:
    """Charge that the file tells; two keys that differ are refused."""
    from defect_mf_flows.core.charge import whole_charge

    found = {k: whole_charge(_number(told[k]), where=where) for k in _CHARGE_KEYS if k in told}
    if len(set(found.values())) > 1:
        raise ImportingError(f"{where}: {found} contradict each other; correct the file.")
    return next(iter(found.values()), None)


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _step(atoms: Atoms, told: dict[str, Any], where: str) -> RawStep:
    results = atoms.calc.results if atoms.calc is not None else {}
    energy = told.get(ENERGY, results.get("energy"))
    forces = atoms.arrays.get(FORCES, results.get("forces"))
    said = bool(told.get(NO_FORCES, False))
    if energy is None or (forces is None and not said):
        missing = "energy" if energy is None else "forces"
        raise ImportingError(
            f"{where}: no {missing}; they are read from {ENERGY} and {FORCES}, or from energy and "
            f"forces as ASE writes them. A method without forces says so: {NO_FORCES} = True."
        )
    if forces is not None and said:
        raise ImportingError(f"{where}: has forces, and {NO_FORCES} says that it has none.")
    stress = told.get(STRESS)
    if stress is None and results.get("stress") is not None:
        stress = atoms.get_stress(voigt=False)
    return RawStep(
        cell=np.array(atoms.cell.array),
        positions=np.array(atoms.positions),
        energy=float(energy),
        forces=None if forces is None else np.array(forces, dtype=float),
        stress=None if stress is None else np.array(stress, dtype=float).reshape(3, 3),
        scf_converged=bool(told.get("scf_converged", True)),
    )


def _plain(value: Any) -> Any:
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    return value if isinstance(value, bool | int | float | str) else str(value)


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str | np.generic)


def _digest(path: Path) -> str:
    """SHA-256 of the uncompressed content."""
    from monty.io import zopen

    found = hashlib.sha256()
    try:
        with zopen(path, "rb") as stream:
            while block := stream.read(1 << 20):
                found.update(block)
    except (EOFError, OSError) as error:
        raise ImportingError(f"{path}: not readable: {error}; leave it out.") from None
    return found.hexdigest()
