"""Finding files that hold calculations below the folders that a user names."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from monty.io import zopen

from defect_mf_flows.errors import ImportingError


class Kind(StrEnum):
    """Kinds of files that can be read."""

    OUTCAR = "OUTCAR"
    VASPRUN = "vasprun.xml"
    EXTXYZ = "extxyz"
    ASE_DB = "ASE db"
    GPAW = "GPAW"
    CP2K = "CP2K"


_ZIP = r"(\.gz|\.bz2|\.xz)?$"
#: Numbered and dated copies (OUTCAR.1, OUTCAR_10:22on03_Aug) are runs of their own.
_NAMES: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"^(OUTCAR)((?:[._-].*?)?)" + _ZIP), Kind.OUTCAR),
    (re.compile(r"^(vasprun)((?:[._-].*?)?)(?:\.xml)?((?:[._-].*?)?)" + _ZIP), Kind.VASPRUN),
    # CP2K's own trajectories have neither cell nor forces; its output has.
    (re.compile(r"^.+(?<!-pos-\d)\.(?:extxyz|xyz)" + _ZIP), Kind.EXTXYZ),
    (re.compile(r"^.+\.db$"), Kind.ASE_DB),
)
_TEXTS = re.compile(r"^.+\.(?:txt|log|out)" + _ZIP)
#: What the first lines of a program's text output hold.
_MARKS: tuple[tuple[bytes, Kind], ...] = (
    (b"CP2K|", Kind.CP2K),
    (b" |__||  | ||/\\|", Kind.GPAW),
)
_HEAD = 4096


@dataclass(frozen=True)
class Source:
    """A file that probably holds calculations.

    Attributes
    ----------
    path
        The file, absolute.
    kind
        What it looks like.
    label
        Its place below the folder that the user named; names the start structure. With that
        folder in front where the user named several.
    other
        Another file of the same run, read if the first cannot be, or None.
    """

    path: Path
    kind: Kind
    label: str
    other: Source | None = None


def walk(paths: list[Path], *, unreadable: Callable[[str], None] | None = None) -> Iterator[Source]:
    """Find files, folder by folder, in the order of their names.

    Parameters
    ----------
    paths
        Folders or files.
    unreadable
        Called with a message for every folder that cannot be opened.

    Yields
    ------
    Source
        vasprun.xml where a run left both it and an OUTCAR: it has more decimals.

    Raises
    ------
    ImportingError
        If a path does not exist.
    """
    roots = [path.expanduser().absolute() for path in paths]
    for path, root in zip(paths, roots, strict=True):
        if not root.exists():
            raise ImportingError(f"{path}: no such file or folder; check the path.")
    prefixes = _prefixes([_folder_of(root) for root in roots])
    for path, root in zip(paths, roots, strict=True):
        prefix = prefixes[_folder_of(root)]
        if root.is_file():
            found = recognise(root)
            if found is None:
                raise ImportingError(
                    f"{path}: not recognised; files that can be read are named OUTCAR or "
                    "vasprun.xml (also gzipped), *.extxyz, *.xyz, *.db (ASE), or are "
                    "outputs of GPAW or CP2K named *.txt, *.log or *.out."
                )
            yield Source(root, found, prefix + root.name)
            continue

        def report(error: OSError) -> None:
            if unreadable is not None:
                unreadable(f"{error.filename}: {error.strerror}; left out. Check permissions.")

        for folder, below, files in os.walk(root, onerror=report, followlinks=False):
            below.sort()
            yield from _folder(Path(folder), sorted(files), root, prefix)


def _folder_of(root: Path) -> Path:
    return Path(os.path.normpath(root.parent if root.is_file() else root))


def _prefixes(folders: list[Path]) -> dict[Path, str]:
    """What tells the same places below several folders apart: names, or paths if these repeat."""
    different = list(dict.fromkeys(folders))
    if len(different) == 1:
        return {different[0]: ""}
    if len({folder.name for folder in different}) == len(different):
        return {folder: f"{folder.name}/" for folder in different}
    above = Path(os.path.commonpath(different))
    above = above.parent if above in different else above
    return {folder: f"{folder.relative_to(above).as_posix()}/" for folder in different}


def recognise(path: Path) -> Kind | None:
    """Tell what a file is by its name, and text outputs by their first lines."""
    for pattern, kind in _NAMES:
        if pattern.match(path.name):
            return kind
    if not _TEXTS.match(path.name):
        return None
    try:
        with zopen(path, "rb") as stream:
            head = stream.read(_HEAD)
    except (OSError, EOFError):
        return None
    return next((kind for mark, kind in _MARKS if mark in head), None)


def _folder(folder: Path, files: list[str], root: Path, prefix: str) -> Iterator[Source]:
    """Sources of one folder, the two files of one run of VASP taken together."""
    runs: dict[str, dict[Kind, Source]] = {}
    for name in files:
        path = folder / name
        kind = recognise(path)
        if kind is None or not path.is_file():
            continue
        plain = kind in (Kind.OUTCAR, Kind.VASPRUN)
        suffix = _suffix(name) if plain else ""
        below = folder.relative_to(root).as_posix()
        place = "" if below == "." else below
        if plain:
            label = f"{prefix}{place}".rstrip("/") or root.name
            label += suffix
        else:
            label = prefix + f"{place}/{name}".lstrip("/")
        source = Source(path, kind, label)
        if plain:
            runs.setdefault(suffix, {}).setdefault(kind, source)
        else:
            yield source
    for found in runs.values():
        xml, outcar = found.get(Kind.VASPRUN), found.get(Kind.OUTCAR)
        if xml is not None and outcar is not None:
            yield Source(xml.path, xml.kind, xml.label, other=outcar)
        else:
            yield next(source for source in (xml, outcar) if source is not None)


def _suffix(name: str) -> str:
    """What tells OUTCAR.1.gz from OUTCAR.gz."""
    bare = re.sub(r"\.(gz|bz2|xz)$", "", name)
    return re.sub(r"^(OUTCAR|vasprun)", "", bare).replace(".xml", "")
