"""Files that a training starts from: found and hashed when the campaign file is read."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from defect_mf_flows.errors import CampaignError

Settings = TypeVar("Settings", bound=BaseModel)

#: What a foundation model decides. Given beside one, it would have no effect.
ARCHITECTURE = (
    "r_max",
    "hidden_irreps",
    "max_ell",
    "correlation",
    "num_interactions",
    "num_radial_basis",
    "pair_repulsion",
)


def is_path(name: str) -> bool:
    """Whether a foundation is given as a file, and not by a name that mace knows."""
    return "/" in name or name.endswith((".model", ".pt", ".pth"))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def pinned(path: Path, training: Settings) -> Settings:
    """Make the files of a training absolute and note their hashes.

    Parameters
    ----------
    path
        The file in which the settings stand; theirs are relative to it.
    training
        ``TrainingSettings``, as they were given.

    Returns
    -------
    TrainingSettings
        With ``foundation_hash`` and ``replay_hash``. A worker compares them.

    Raises
    ------
    CampaignError
        If a file is missing or not the one whose hash is given, or if the architecture is
        given beside a foundation.
    """
    changes: dict[str, str] = {}
    foundation = getattr(training, "foundation")  # noqa: B009
    if foundation is not None:
        given = sorted(training.model_fields_set & set(ARCHITECTURE))
        if given:
            raise CampaignError(
                f"{path}: training.{given[0]}: the foundation model decides on "
                f"{', '.join(given)}; remove them, or training.foundation."
            )
    for name in ("foundation", "replay"):
        value = getattr(training, name)
        if value is None or (name == "foundation" and not is_path(value)):
            continue
        where = f"{path}: training.{name}"
        source = path.parent / value
        with suppress(OSError, RuntimeError):  # names that no file and no user can have
            source = (path.parent / Path(value).expanduser()).resolve()
        if not _is_file(source):
            raise CampaignError(
                f"{where}: {source} does not exist; paths are relative to the file."
            )
        with source.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        wanted = getattr(training, f"{name}_hash")
        if wanted not in (None, digest):
            raise CampaignError(
                f"{where}_hash: {source} has SHA-256 {digest}; give that, or the right file."
            )
        changes |= {name: str(source), f"{name}_hash": digest}
    return training.model_copy(update=changes)
