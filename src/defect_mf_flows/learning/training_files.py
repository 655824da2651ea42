"""Files of a training: written whole or not at all, read only if they are what was written."""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path
from typing import Any

import mace
import torch

from defect_mf_flows.errors import TrainingError


def save(content: Any, path: Path) -> None:
    """Write a network or a state."""
    # By way of memory: torch reports a full disk as a RuntimeError without its number.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    _replace(path, buffer.getbuffer())


def _replace(path: Path, content: bytes | memoryview) -> None:
    """Write beside the target and rename: a kill leaves the old file or the new one."""
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    temporary.replace(path)


def write_done(folder: Path, **content: Any) -> None:
    """Record the end of a training beside its network's hash."""
    done = {
        "model_hash": hashlib.sha256((folder / "model.pt").read_bytes()).hexdigest(),
        **content,
        "versions": {"torch": torch.__version__, "mace-torch": mace.__version__},
    }
    _replace(folder / "done.json", json.dumps(done).encode())


def finished_network(folder: Path) -> Any:
    """Network of a stage that has ended, after checking that it is the one that was written."""
    content = (folder / "model.pt").read_bytes()
    done = json.loads((folder / "done.json").read_text())
    if hashlib.sha256(content).hexdigest() != done["model_hash"]:
        raise TrainingError(
            f"{folder / 'model.pt'} is not the file that the training wrote; remove {folder} to "
            "train again."
        )
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=False)
