"""Train a model on a dataset, in a subprocess that continues where a killed one stopped."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from defect_mf_flows.campaign import TrainingSettings
from defect_mf_flows.campaign.identity import ADDED
from defect_mf_flows.core.charge import ENERGY, WEIGHT, frame_to_atoms, whole_spin
from defect_mf_flows.core.filters import shortest_distances
from defect_mf_flows.core.left_out import told_left_out
from defect_mf_flows.core.references import Label, composition_key, fit_references
from defect_mf_flows.errors import DatasetError, TrainingError
from defect_mf_flows.learning.acceleration import check_device
from defect_mf_flows.learning.foundation import file_hash, find_foundation
from defect_mf_flows.learning.replay import REPLAY, read_replay
from defect_mf_flows.learning.strategies import UNDECISIVE, TrainingLabel, model_heads, plan
from defect_mf_flows.schemas.dataset import Dataset, ReferenceEnergy, Split
from defect_mf_flows.schemas.frame import Frame, content_hash
from defect_mf_flows.schemas.model import EpochRecord, Model

logger = logging.getLogger(__name__)

DISK_FULL = 74  # of train_worker, which imports torch

#: Settings that came later. At their defaults they do not enter, so that what an earlier
#: version trained is found. Those left out here have entered since there were models.
LATER = set(ADDED["training"]) - {"charge_term", "spin_embedding", "strategy", "committee"}

_REMEDY = (
    "free space there, or name another folder in `scratch` of the machine's settings, and run the "
    "job again (`defect-mf retry` on a site): it continues from its last checkpoint."
)


def train(
    frames: list[Frame],
    dataset: Dataset,
    *,
    settings: TrainingSettings,
    seed: int,
    scratch: Path,
    threads: int,
    isolated: bool = True,
) -> Model:
    """Train on a dataset, or take the finished model of the same training.

    Parameters
    ----------
    frames
        One per entry of the dataset, in its order.
    dataset
        Splits and heads.
    settings
        Hyperparameters.
    seed
        Of weights and batches.
    scratch
        The run's folder is made here, named after dataset, settings and seed.
    threads
        Threads of the subprocess.
    isolated
        False trains in this process, which must be there for that alone: mace and torch set
        global state.

    Returns
    -------
    Model
        With errors per head, charge and split.

    Raises
    ------
    ChargeError
        If the model is to learn the spin and a label has none.
    DatasetError
        If a head lacks training labels, or the charge term lacks the host.
    TrainingError
        If this machine lacks device, kernels or foundation, before anything starts; or if the
        subprocess fails: the message ends with its last lines.
    """
    check_device(settings.device, cueq=settings.enable_cueq)
    heads = model_heads(settings.strategy, dataset.heads)
    references = _references(frames, dataset, settings.strategy)
    chosen = settings.model_dump(mode="json")
    foundation = None
    if settings.foundation is not None:
        foundation, chosen = find_foundation(chosen)
        _check_cells(frames, chosen["r_max"])
    task: dict[str, Any] = {
        "settings": chosen,
        "foundation": None if foundation is None else foundation.model_dump(mode="json"),
        "heads": dataset.heads,
        "seed": seed,
        "head_weights": {
            head: settings.high_weight if head == dataset.heads[-1] else 1.0
            for head in dataset.heads
        },
        "host": _host(dataset, settings),
    }
    replay = read_replay(chosen, dataset.heads)
    if replay:
        task["head_weights"][REPLAY] = settings.replay_weight
        chosen["replay_hash"] = file_hash(Path(chosen["replay"]).expanduser())
    key = content_hash([dataset.dataset_hash, _decisive(task)])
    folder = scratch / "training" / key[:20]
    if not (folder / "done.json").is_file():
        try:
            labels = _labels(frames, dataset, references, settings)
            passes = sum(entry.split is Split.TRAIN for entry in dataset.entries)
            plan(folder, task, labels, dataset.heads, passes=passes, replay=replay)
            if isolated:
                _run(folder, threads=threads)
            else:
                from defect_mf_flows.learning.train_worker import run_locked

                run_locked(folder)
        except OSError as error:
            raise TrainingError(f"training cannot write: {error}; {_REMEDY}") from error
    done = json.loads((folder / "done.json").read_text())
    blob = (folder / "model.pt").read_bytes()
    if hashlib.sha256(blob).hexdigest() != done.get("model_hash"):
        raise TrainingError(
            f"{folder / 'model.pt'} is not the file that the training wrote; remove {folder} to "
            "train again."
        )
    return _document(frames, dataset, heads, references, task, done, blob)


def check_machine(settings: TrainingSettings, heads: list[str]) -> None:
    """Refuse what this machine cannot train, before labels are computed for it.

    Parameters
    ----------
    settings
        Hyperparameters.
    heads
        Fidelities.

    Raises
    ------
    ChargeError, DatasetError, FidelityError, TrainingError
        If device, kernels, foundation or replay are missing or unusable.
    """
    check_device(settings.device, cueq=settings.enable_cueq)
    content = settings.model_dump(mode="json")
    if settings.foundation is not None:
        find_foundation(content)
    read_replay(content, heads)


def _decisive(task: dict[str, Any]) -> dict[str, Any]:
    """What of a task decides on the weights, in the words of earlier versions."""
    content = {k: v for k, v in task.items() if k != "foundation"}
    settings = {k: v for k, v in task["settings"].items() if k not in UNDECISIVE}
    for name in LATER:
        if settings[name] == TrainingSettings.model_fields[name].default:
            settings.pop(name)
    if settings["strategy"] == "high_only":  # earlier versions passed over its own labels alone
        content["passes"] = "all labels"
    # Files enter by their content.
    for name in ("foundation", "replay"):
        if name in settings:
            settings[name] = task["settings"][f"{name}_hash"]
    return {**content, "settings": settings}


def _check_cells(frames: list[Frame], cutoff: float) -> None:
    """No atom may see its own image; known only once the foundation's cutoff is."""
    cells = {frame.structure.lattice for frame in frames}
    shortest = min(min(cell.get_lll_reduced_lattice().abc) for cell in cells)
    if shortest <= cutoff:
        raise TrainingError(
            f"images of an atom are {shortest:.2f} A apart, within the cutoff {cutoff:.2f} A of "
            "training.foundation; take larger cells, or a foundation with a shorter cutoff."
        )


def _references(
    frames: list[Frame], dataset: Dataset, strategy: str = "joint"
) -> list[ReferenceEnergy]:
    # A model of the high fidelity alone must not learn its constants from the low one.
    heads = dataset.heads[-1:] if strategy == "high_only" else dataset.heads
    pairs = list(zip(frames, dataset.entries, strict=True))
    labels = [
        Label(head=f.fidelity, charge=f.charge, structure=f.structure, energy=f.energy)
        for f, entry in pairs
        if entry.split is Split.TRAIN and f.fidelity in heads
    ]
    counts = Counter(label.head for label in labels)
    poor = [head for head in heads if counts[head] < 2]
    if poor:
        raise DatasetError(
            f"heads {poor} have fewer than two training labels: "
            + " ".join(told_left_out(dataset.excluded, head) for head in poor)
            + " Where calculations failed, see to their method first; else label more frames "
            "(picks.fraction) or relax more starts."
        )
    return fit_references(labels, heads=heads)


def _host(dataset: Dataset, settings: TrainingSettings) -> dict[str, Any] | None:
    """The pristine host as JSON, for those who count energies from it."""
    if settings.charge_term != "intensive" and settings.foundation is None:
        return None
    if dataset.host is None:
        if settings.charge_term != "intensive":
            return None
        raise DatasetError(
            "training.charge_term 'intensive' counts energies from the pristine host, and the "
            "dataset has none; add a neutral frame of the host, or choose another charge_term."
        )
    content: dict[str, Any] = dataset.host.model_dump(mode="json")["structure"]
    return content


def _labels(
    frames: list[Frame],
    dataset: Dataset,
    references: list[ReferenceEnergy],
    settings: TrainingSettings,
) -> list[TrainingLabel]:
    """What the network learns: labels minus reference energies, with their weights."""
    energies = {(r.head, r.charge, r.composition): r.energy for r in references}
    floors = _lowest_energies(frames, dataset)
    labels = []
    unseen: Counter[tuple[str, int, str]] = Counter()
    for frame, entry in zip(frames, dataset.entries, strict=True):
        group = (frame.fidelity, frame.charge, composition_key(frame.structure))
        if group not in energies:
            unseen[group] += 1
            continue
        if settings.spin_embedding:
            whole_spin(frame.spin, where=f"frame {frame.lineage.start} step {frame.lineage.step}")
        atoms = frame_to_atoms(frame)
        atoms.info[ENERGY] = frame.energy - energies[group]
        atoms.info["split"] = entry.split.value
        scale = settings.energy_scale
        excess = max(0.0, frame.energy - floors[group])
        atoms.info[WEIGHT] = 1.0 if scale is None else 1.0 / (1.0 + excess / scale)
        labels.append(TrainingLabel(frame=frame, atoms=atoms))
    for group, count in unseen.items():
        logger.warning("no training label for %s: its %d frames count as unseen", group, count)
    return labels


def _shortest(frames: list[Frame], dataset: Dataset) -> dict[str, float]:
    """Shortest training distance per pair of elements, Angstrom."""
    shortest: dict[str, float] = {}
    for frame, entry in zip(frames, dataset.entries, strict=True):
        if entry.split is Split.TRAIN:
            for pair, distance in shortest_distances(frame.structure).items():
                shortest[pair] = min(shortest.get(pair, distance), distance)
    return shortest


def _lowest_energies(frames: list[Frame], dataset: Dataset) -> dict[tuple[str, int, str], float]:
    """Lowest TRAINING label per head, charge and composition, eV per cell."""
    floors: dict[tuple[str, int, str], float] = {}
    for frame, entry in zip(frames, dataset.entries, strict=True):
        if entry.split is not Split.TRAIN:
            continue
        group = (frame.fidelity, frame.charge, composition_key(frame.structure))
        floors[group] = min(floors.get(group, frame.energy), frame.energy)
    return floors


def _floors(
    frames: list[Frame], references: list[ReferenceEnergy]
) -> dict[tuple[str, int, str], float]:
    """Energies that a minimum is not expected far below, per head, charge and composition.

    The lowest label of the head, held out or not, or that of another head plus what their
    reference energies differ by: a few labels of the highest fidelity may all lie high above the
    ground state, and the lowest of them on the side that does not train.
    """
    known: dict[tuple[str, int, str], float] = {}
    for frame in frames:
        group = (frame.fidelity, frame.charge, composition_key(frame.structure))
        known[group] = min(known.get(group, frame.energy), frame.energy)
    zeros = {(r.head, r.charge, r.composition): r.energy for r in references}
    return {
        (head, charge, cell): min(
            energy - zeros[other] + zero
            for other, energy in known.items()
            if other[1:] == (charge, cell) and other in zeros
        )
        for (head, charge, cell), zero in zeros.items()
    }


def _run(folder: Path, *, threads: int) -> None:
    """Run the subprocess: mace and torch set global state that no worker should inherit."""
    environment = {**os.environ}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        environment[name] = str(threads)
    # Threads that wait by spinning for long stall each other as soon as the machine does
    # other work; not spinning at all halves the speed. This is in between (libgomp only).
    environment.setdefault("GOMP_SPINCOUNT", "30000")
    command = [sys.executable, "-m", "defect_mf_flows.learning.train_worker", str(folder)]
    with (folder / "log.txt").open("a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            code = process.wait()
        finally:
            # A worker that is stopped takes its training with it; the checkpoint stays.
            if process.poll() is None:
                process.kill()
                process.wait()
    if code == DISK_FULL:
        raise TrainingError(f"the disk of {folder} is full; {_REMEDY}")
    if code != 0 or not (folder / "done.json").is_file():
        tail = "\n".join((folder / "log.txt").read_text().splitlines()[-15:])
        raise TrainingError(
            f"training in {folder} ended with exit code {code}; the same command continues "
            f"from its last checkpoint. Last lines of log.txt:\n{tail}"
        )


def _document(
    frames: list[Frame],
    dataset: Dataset,
    heads: list[str],
    references: list[ReferenceEnergy],
    task: dict[str, Any],
    done: dict[str, Any],
    blob: bytes,
) -> Model:
    from defect_mf_flows.learning.evaluation import evaluate

    charges: dict[str, set[int]] = defaultdict(set)
    spins: dict[str, set[int]] = defaultdict(set)
    for frame, entry in zip(frames, dataset.entries, strict=True):
        if entry.split is Split.TRAIN:
            charges[entry.fidelity].add(entry.charge)
            if task["settings"]["spin_embedding"] and frame.spin is not None:
                spins[f"{frame.fidelity}|{frame.charge:+d}"].add(frame.spin)
    model = Model(
        model_hash=hashlib.sha256(blob).hexdigest(),
        dataset_hash=dataset.dataset_hash,
        heads=heads,
        charges={head: sorted(charges[head]) for head in heads},
        references=references,
        host=dataset.host,
        spins={key: sorted(values) for key, values in sorted(spins.items())},
        shortest=_shortest(frames, dataset),
        lowest={
            f"{head}|{charge:+d}|{cell}": energy
            for (head, charge, cell), energy in _floors(frames, references).items()
        },
        settings=task["settings"],
        foundation=task["foundation"],
        seed=task["seed"],
        best_epoch=done["best_epoch"],
        seconds=done["seconds"],
        versions=done["versions"],
        history=[EpochRecord(**record) for record in done["history"]],
        blob=base64.b64encode(blob).decode(),
    )
    metrics, parity = evaluate(model, frames, dataset)
    return model.model_copy(update={"metrics": metrics, "parity": parity})
