"""Labelled frames and datasets as files, for people who have data and no workflow."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms

from defect_mf_flows.core.assembly import Labelled
from defect_mf_flows.core.charge import (
    CHARGE,
    ENERGY,
    FIDELITY,
    TOTAL_CHARGE,
    atoms_to_frame,
)
from defect_mf_flows.core.labels import forces_of
from defect_mf_flows.core.references import host_labels
from defect_mf_flows.errors import ChargeError, DatasetError, FidelityError
from defect_mf_flows.schemas.dataset import Dataset, DatasetCard, HostLabels
from defect_mf_flows.schemas.frame import Frame

DATASET, FRAMES, CARD, VERSIONS = "dataset.json", "frames.jsonl.gz", "card.json", "versions.json"
RELAXATION = "lineage_start"

#: How many of the hash's digits name a folder.
DIGITS = 12


def read_labelled(path: Path, *, lineage: bool = True) -> list[Labelled]:
    """Read labelled frames from extended XYZ.

    Parameters
    ----------
    path
        Whose frames have ``charge`` (or ``total_charge``; both must agree), ``fidelity``,
        ``REF_energy`` (eV per cell), ``REF_forces`` (eV/A) or ``no_forces``, and, to tell
        relaxations apart, ``lineage_start``; ``lineage_defect``, ``lineage_step``,
        ``lineage_calculation`` and ``spin`` are taken where they are.
    lineage
        Whether frames must say which relaxation they stem from.

    Returns
    -------
    list of Labelled
        In the order of the file. ``X@3`` as ``lineage_start`` is a single point on step 3 of
        the relaxation ``X`` and belongs to it.

    Raises
    ------
    ChargeError, FidelityError, DatasetError
        Naming file, frame, key and remedy.
    """
    try:
        images = ase.io.read(path, index=":", format="extxyz")
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise DatasetError(f"{path}: not readable as extended XYZ: {error}") from None
    if not images:
        raise DatasetError(f"{path}: holds no frame.")
    return [_labelled(path, number, atoms, lineage) for number, atoms in enumerate(images)]


def _labelled(path: Path, number: int, atoms: Atoms, lineage: bool) -> Labelled:
    where = f"{path}, frame {number}"
    _check_keys(where, atoms, lineage)
    if CHARGE not in atoms.info or TOTAL_CHARGE not in atoms.info:
        given = atoms.info.get(CHARGE, atoms.info.get(TOTAL_CHARGE))
        atoms.info[CHARGE] = atoms.info[TOTAL_CHARGE] = given
    atoms.info.setdefault("lineage_calculation", f"{path.name}#{number}")
    for key in ("lineage_start", "lineage_defect", "lineage_calculation"):
        if key in atoms.info:  # names that look like numbers are read as numbers
            atoms.info[key] = str(atoms.info[key])
    try:
        frame = atoms_to_frame(atoms)
    except (ChargeError, FidelityError, DatasetError) as error:
        raise type(error)(f"{where}: {error}") from None
    except (TypeError, ValueError) as error:
        raise DatasetError(f"{where}: {error}; correct the file.") from None
    origin = frame.lineage.start.split("@")[0] if RELAXATION in atoms.info else f"frame {number}"
    defect = frame.lineage.defect or atoms.get_chemical_formula()
    key = f"{defect}|{frame.charge:+d}|{origin}"
    if RELAXATION not in atoms.info:
        key = f"{key} of {path.name}"
    return Labelled(frame=frame, relaxation=key, source=path.name)


def _check_keys(where: str, atoms: Atoms, lineage: bool) -> None:
    if CHARGE not in atoms.info and TOTAL_CHARGE not in atoms.info:
        raise ChargeError(
            f"{where}: info['{CHARGE}'] is missing; set it to the whole charge of the cell, 0 "
            "included: a frame without a charge would be learned as neutral."
        )
    if not isinstance(atoms.info.get(FIDELITY), str):
        raise FidelityError(
            f"{where}: info['{FIDELITY}'] is missing; set it to the name of the method of the "
            "labels, for example pbe or hse06."
        )
    if ENERGY not in atoms.info:
        raise DatasetError(
            f"{where}: info['{ENERGY}'] is missing; set it to the total energy in eV per cell "
            "(ase keeps 'energy' for results of its calculators)."
        )
    forces_of(atoms, where=where)
    if not atoms.pbc.all():
        raise DatasetError(f'{where}: not periodic in all directions; write pbc="T T T".')
    if lineage and RELAXATION not in atoms.info:
        raise DatasetError(
            f"{where}: info['{RELAXATION}'] is missing: it says which relaxation a frame stems "
            "from, which decides on its side of the split. Set the same text on all frames of a "
            "relaxation (single points on its steps included), or choose split.by: composition, "
            "or frame if every frame stands alone."
        )


def read_host(path: Path) -> HostLabels:
    """Read the energies of the pristine host, one neutral frame per fidelity.

    Raises
    ------
    DatasetError
        If a frame is charged or of another composition.
    """
    frames = [item.frame for item in read_labelled(path, lineage=False)]
    found = host_labels(frames, frames[0].structure)
    if found is None:
        raise DatasetError(f"{path}: holds no frame of the host.")
    return found


def write_dataset(
    out: Path, frames: list[Frame], dataset: Dataset, card: DatasetCard
) -> tuple[Path, int]:
    """Write a dataset into a folder named after its hash, and note it as a version.

    Parameters
    ----------
    out
        Holds all versions; made if missing.
    frames, dataset, card
        From :func:`defect_mf_flows.core.assembly.assemble`.

    Returns
    -------
    folder, number
        Where it is, and which version it is, from 1; that of an equal earlier one.
    """
    folder = out / dataset.dataset_hash[:DIGITS]
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(frame.model_dump_json() + "\n" for frame in frames)
    write_bytes(folder / FRAMES, gzip.compress(lines.encode(), mtime=0))
    write_bytes(folder / CARD, card.model_dump_json(indent=1).encode())
    write_bytes(folder / DATASET, dataset.model_dump_json().encode())
    versions = _versions(out)
    known = [item["dataset"] for item in versions]
    if dataset.dataset_hash not in known:
        row = {
            "version": len(versions) + 1,
            "dataset": dataset.dataset_hash,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "frames": card.frames,
            "sources": card.sources,
            "split_by": dataset.split_by,
        }
        versions.append(row)
        write_bytes(out / VERSIONS, json.dumps(versions, indent=1).encode())
    number = [item["dataset"] for item in versions].index(dataset.dataset_hash) + 1
    return folder, number


def _versions(out: Path) -> list[dict[str, Any]]:
    path = out / VERSIONS
    if not path.is_file():
        return []
    try:
        found: list[dict[str, Any]] = json.loads(path.read_text())
    except ValueError as error:
        raise DatasetError(f"{path}: not readable: {error}; restore or remove it.") from None
    return found


def read_dataset(path: Path) -> tuple[list[Frame], Dataset, DatasetCard]:
    """Read a dataset, checking every frame against its hash.

    Parameters
    ----------
    path
        Folder of a dataset, or the folder of all versions, for the newest.

    Returns
    -------
    frames, dataset, card
        As they were written.

    Raises
    ------
    DatasetError
        If it is none, or was altered.
    """
    if (path / VERSIONS).is_file():
        path = path / _versions(path)[-1]["dataset"][:DIGITS]
    missing = [name for name in (DATASET, FRAMES, CARD) if not (path / name).is_file()]
    if missing:
        raise DatasetError(
            f"{path} is no dataset ({missing[0]} is missing); make one with `defect-mf dataset`."
        )
    try:
        dataset = Dataset.model_validate_json((path / DATASET).read_bytes())
        card = DatasetCard.model_validate_json((path / CARD).read_bytes())
        lines = gzip.decompress((path / FRAMES).read_bytes()).decode().splitlines()
        frames = [Frame.model_validate(json.loads(line)) for line in lines]
    except (OSError, EOFError, ValueError) as error:
        raise DatasetError(f"{path}: altered or cut short: {str(error)[:200]}") from None
    hashes = [frame.content_hash for frame in frames]
    if hashes != [entry.frame.content_hash for entry in dataset.entries]:
        raise DatasetError(f"{path / FRAMES} does not hold the frames of {DATASET}; make it anew.")
    return frames, dataset, card


def write_bytes(path: Path, content: bytes) -> None:
    """Write beside the target and rename: a kill leaves the old file or the new one."""
    partial = path.with_name(f".partial-{path.name}")
    partial.write_bytes(content)
    partial.replace(path)
