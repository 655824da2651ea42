"""How fidelities are combined: which network learns which labels, in which order.

All strategies take the same number of optimiser steps, ``max_epochs`` passes over all labels
of the dataset; what has fewer labels passes over them more often.

=====================  ===================================================================
strategy               stages
=====================  ===================================================================
``joint``              all fidelities at once, a head each
``high_only``          the highest fidelity alone
``transfer``           half the steps on the lowest fidelity, half on the highest
``transfer_frozen``    the same, but the second half trains the readouts alone
``delta``              half the steps on the lowest fidelity, half on a second network for
                       the differences on geometries that both have labelled
``low_plus_constant``  the lowest fidelity; others differ by their reference energies alone
=====================  ===================================================================
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ase import Atoms

from defect_mf_flows.campaign.learning import WITHOUT_LOW_HEAD
from defect_mf_flows.core.charge import (
    ENERGY,
    FORCES,
    NO_FORCES,
    SPIN,
    atoms_charge,
    atoms_fidelity,
    atoms_spin,
    write_extxyz,
)
from defect_mf_flows.errors import DatasetError
from defect_mf_flows.learning.replay import REPLAY
from defect_mf_flows.schemas.frame import Frame, content_hash, structure_key

#: Settings that do not change what is trained: whether it is one of a committee, and how fast.
UNDECISIVE = ("committee", "compile")


@dataclass(frozen=True)
class TrainingLabel:
    """A label on its way into a network.

    Attributes
    ----------
    frame
        As it was computed.
    atoms
        With its energy minus the reference energy, its weight and its side of the split.
    """

    frame: Frame
    atoms: Atoms

    @property
    def geometry(self) -> str:
        """Hash of charge and geometry, the same for every fidelity."""
        return content_hash([self.frame.charge, structure_key(self.frame.structure)])


@dataclass(frozen=True)
class Stage:
    """One training run of a strategy.

    Attributes
    ----------
    name
        Of its folder.
    heads
        Of its network; each is the fidelity of its images.
    images
        What it learns.
    share
        Of the steps.
    initial
        Folder of the stage whose network it continues, or None.
    freeze
        Train the readouts alone.
    """

    name: str
    heads: list[str]
    images: list[Atoms]
    share: float = 1.0
    initial: str | None = None
    freeze: bool = False


def model_heads(strategy: str, heads: list[str]) -> list[str]:
    """Heads of the model that a strategy ends with.

    Parameters
    ----------
    strategy
        As in the campaign file.
    heads
        Of the dataset, the highest fidelity last.

    Returns
    -------
    list of str
        Transfer forgets the lower fidelities, and ``high_only`` never saw them.
    """
    return heads[-1:] if strategy in WITHOUT_LOW_HEAD else heads


def plan(
    folder: Path,
    task: dict[str, Any],
    labels: list[TrainingLabel],
    heads: list[str],
    *,
    passes: int,
    replay: list[Atoms] | None = None,
) -> None:
    """Write everything that the training subprocess needs.

    Parameters
    ----------
    folder
        Of the run; made if missing, and the same on every call.
    task
        Settings, heads, seed, weights and host.
    labels
        All labels of the dataset.
    heads
        Of the dataset, the highest fidelity last.
    passes
        Labels on the training side of the dataset: an epoch passes over as many, whichever of
        them the strategy learns.
    replay
        Frames of the foundation's own method, learned on a last head.

    Raises
    ------
    DatasetError
        If the strategy has nothing to learn from.
    """
    strategy = task["settings"]["strategy"]
    stages = _stages(strategy, labels, heads)
    replay = replay or []
    if replay:
        stages = [_with_replay(stage, replay) for stage in stages]
    every = [*(label.atoms for label in labels), *replay]
    steps = _steps(task["settings"], passes + _on_training_side(replay))
    common = {
        **task,
        "charges": sorted({atoms_charge(atoms) for atoms in every}),
        "atomic_numbers": sorted({int(z) for atoms in every for z in atoms.numbers}),
        "spins": _spins(task, labels),
    }
    alone = len(stages) == 1 and strategy != "low_plus_constant"
    folder.mkdir(parents=True, exist_ok=True)
    for stage in stages:
        own = {
            **common,
            "settings": _settings(task["settings"], stage, steps),
            "heads": stage.heads,
            "initial": None if stage.initial is None else f"../{stage.initial}",
            "freeze": stage.freeze,
        }
        partial = folder / f"frames.{os.getpid()}.part"
        try:
            write_extxyz(partial, stage.images)
            where = folder if alone else stage_folder(folder, stage, own, partial)
            where.mkdir(exist_ok=True)
            partial.replace(where / "frames.xyz")  # a training left behind may be reading it
        finally:
            partial.unlink(missing_ok=True)
        (where / "training.json").write_text(json.dumps(own))
    if not alone:
        compose = {"delta": "delta", "low_plus_constant": "low_only"}.get(strategy)
        content = {"stages": [s.name for s in stages], "heads": heads, "compose": compose}
        (folder / "stages.json").write_text(json.dumps(content))


def stage_folder(folder: Path, stage: Stage, task: dict[str, Any], frames: Path) -> Path:
    """Folder of a stage; a first stage is shared by all trainings that begin with it.

    Parameters
    ----------
    folder
        Of the training.
    stage
        One of its stages.
    task
        What the stage is told.
    frames
        What it learns.

    Returns
    -------
    Path
        In ``folder``; that of a first stage is a link to a folder beside the trainings, named
        after what is learned there.
    """
    where = folder / stage.name
    if stage.initial is not None or (where.is_dir() and not where.is_symlink()):
        return where
    # What does not change what the first stage learns, of one fidelity alone.
    without = (*UNDECISIVE, "strategy", "high_share", "high_prior")
    settings = {k: v for k, v in task["settings"].items() if k not in without}
    content = [{**task, "settings": settings}, hashlib.sha256(frames.read_bytes()).hexdigest()]
    shared = folder.parent / f"stage-{content_hash(content)[:20]}"
    shared.mkdir(exist_ok=True)
    target = Path("..") / shared.name
    if where.is_symlink() and where.readlink() != target:  # of an earlier version
        where.unlink(missing_ok=True)
    with suppress(FileExistsError):  # made before, or by another process just now
        where.symlink_to(target)
    return where


def _stages(strategy: str, labels: list[TrainingLabel], heads: list[str]) -> list[Stage]:
    low, high = heads[0], heads[-1]
    images = {h: [x.atoms for x in labels if x.frame.fidelity == h] for h in heads}
    if strategy == "joint":
        return [Stage("joint", heads, [label.atoms for label in labels])]
    if strategy == "high_only":
        return [Stage("high", [high], images[high])]
    if strategy == "low_plus_constant":
        return [Stage("low", [low], images[low])]
    first = Stage("1-low", [low], images[low], share=0.5)
    if strategy == "delta":
        differences = _differences(labels, low)
        present = {atoms_fidelity(a) for a in differences if a.info["split"] == "train"}
        missing = [head for head in heads[1:] if head not in present]
        if missing:
            raise DatasetError(
                f"training.strategy 'delta': no training geometry has labels of both {low!r} "
                f"and {missing}; label frames of the low-fidelity relaxations."
            )
        return [first, Stage("2-difference", heads[1:], differences, share=0.5)]
    frozen = strategy == "transfer_frozen"
    return [
        first,
        Stage("2-high", [high], images[high], share=0.5, initial=first.name, freeze=frozen),
    ]


def _with_replay(stage: Stage, replay: list[Atoms]) -> Stage:
    return replace(stage, heads=[*stage.heads, REPLAY], images=[*stage.images, *replay])


def _differences(labels: list[TrainingLabel], low: str) -> list[Atoms]:
    """Higher labels minus the low ones of the same geometry."""
    base = {label.geometry: label.atoms for label in labels if label.frame.fidelity == low}
    differences = []
    for label in labels:
        below = base.get(label.geometry)
        if label.frame.fidelity == low or below is None:
            continue
        atoms = label.atoms.copy()
        atoms.info[ENERGY] = label.atoms.info[ENERGY] - below.info[ENERGY]
        if label.frame.forces is None or FORCES not in below.arrays:
            atoms.arrays.pop(FORCES, None)
            atoms.info[NO_FORCES] = True
        else:
            atoms.arrays[FORCES] = label.atoms.arrays[FORCES] - below.arrays[FORCES]
        differences.append(atoms)
    return differences


def _spins(task: dict[str, Any], labels: list[TrainingLabel]) -> list[int]:
    if not task["settings"]["spin_embedding"]:
        return []
    return sorted({atoms_spin(label.atoms) for label in labels if SPIN in label.atoms.info})


def _steps(settings: dict[str, Any], count: int) -> int:
    """Optimiser steps of one pass over so many labels."""
    return max(1, math.ceil(count / settings["batch_size"]))


def _on_training_side(images: list[Atoms]) -> int:
    return Counter(atoms.info["split"] for atoms in images)["train"]


def _settings(settings: dict[str, Any], stage: Stage, steps: int) -> dict[str, Any]:
    """Epochs that give the stage its share of the steps, and what is counted in epochs."""
    ratio = stage.share * steps / _steps(settings, _on_training_side(stage.images))
    scaled = {
        name: max(1, round(settings[name] * ratio))
        for name in ("max_epochs", "validate_every", "checkpoint_every")
    }
    scaled["patience"] = math.ceil(settings["patience"] * ratio)
    scaled["polish"] = math.ceil(settings["polish"] * stage.share)  # each sees all its labels
    return {**settings, **scaled}
