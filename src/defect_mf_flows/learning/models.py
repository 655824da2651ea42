"""A trained model as a folder: document, weights, learning curve, errors."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from defect_mf_flows.core.groups import geometry_key
from defect_mf_flows.errors import TrainingError
from defect_mf_flows.learning.files import DIGITS, write_bytes
from defect_mf_flows.schemas.dataset import Dataset, Split
from defect_mf_flows.schemas.frame import Frame
from defect_mf_flows.schemas.model import EpochRecord, HeadMetrics, Model

MODEL, WEIGHTS, SEEN, CURVE = "model.json", "model.pt", "trained_on.json", "learning_curve"


def write_model(out: Path, model: Model, frames: list[Frame], dataset: Dataset) -> Path:
    """Write a model into a folder named after its hash.

    Parameters
    ----------
    out
        Made if missing.
    model
        With its weights.
    frames, dataset
        That it was trained on; the geometries that trained are noted, so that an evaluation on
        another file can tell them apart.

    Returns
    -------
    Path
        The folder.
    """
    folder = out / f"model-{model.model_hash[:DIGITS]}"
    folder.mkdir(parents=True, exist_ok=True)
    for number, member in enumerate([model, *model.members]):
        write_bytes(folder / _weights(number), base64.b64decode(member.blob))
    seen = sorted(
        {
            geometry_key(frame)
            for frame, entry in zip(frames, dataset.entries, strict=True)
            if entry.split is not Split.TEST
        }
    )
    write_bytes(folder / SEEN, json.dumps(seen).encode())
    write_curve(folder, model)
    bare = model.model_dump(mode="json")
    for item in (bare, *bare["members"]):
        item["blob"] = ""
    write_bytes(folder / MODEL, json.dumps(bare, indent=1).encode())
    return folder


def _weights(number: int) -> str:
    return WEIGHTS if number == 0 else f"member-{number}.pt"


def read_model(folder: Path) -> tuple[Model, set[str]]:
    """Read a model and its weights.

    Parameters
    ----------
    folder
        From :func:`write_model`.

    Returns
    -------
    model
        Its weights are checked against their hash when they are used.
    seen
        Geometries that trained or validated it.

    Raises
    ------
    TrainingError
        If the folder holds no model, or part of one.
    """
    try:
        content = json.loads((folder / MODEL).read_text())
        seen = set(json.loads((folder / SEEN).read_text()))
        for number, item in enumerate([content, *content["members"]]):
            blob = (folder / _weights(number)).read_bytes()
            item["blob"] = base64.b64encode(blob).decode()
        return Model.model_validate(content), seen
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"{folder} holds no model: {str(error)[:200]}; give a folder that `defect-mf train` "
            "made (model-...)."
        ) from None


def write_curve(folder: Path, model: Model) -> None:
    """Write the learning curve as a figure and as numbers."""
    rows = [
        {"epoch": r.epoch, "train_loss": r.train_loss, "learning_rate": r.learning_rate}
        | {f"{head} {k}": v for head, values in r.valid.items() for k, v in values.items()}
        for r in model.history
    ]
    stream = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(stream, names)
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(folder / f"{CURVE}.csv", stream.getvalue().encode())
    figure = curve_figure(model.history, model.best_epoch)
    figure.savefig(folder / f"{CURVE}.svg", metadata={"Date": None})


def curve_figure(history: list[EpochRecord], best_epoch: int) -> Any:
    """Draw validation errors and training loss against epochs.

    Parameters
    ----------
    history
        Of a model.
    best_epoch
        Whose weights were kept.

    Returns
    -------
    matplotlib.figure.Figure
        Energies (meV/atom), forces (meV/A), training loss.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "defect-mf"
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    panels = figure.subplots(1, 3)
    heads = list(dict.fromkeys(head for record in history for head in record.valid))
    for axes, key, label in (
        (panels[0], "energy_rmse", "validation energy, meV/atom"),
        (panels[1], "force_rmse", "validation force, meV/A"),
    ):
        for head in heads:
            points = [
                (r.epoch, r.valid[head][key]) for r in history if key in r.valid.get(head, {})
            ]
            if not points:  # a method without forces
                continue
            axes.plot(*zip(*points, strict=True), marker=".", label=head)
        axes.set_ylabel(label)
    for polished, label in ((False, "batches"), (True, "polishing")):
        losses = [r.train_loss if r.polished is polished else math.nan for r in history]
        if not all(map(math.isnan, losses)):  # two losses are no one curve
            panels[2].plot([r.epoch for r in history], losses, marker=".", label=label)
    panels[2].set_ylabel("training loss")
    for axes in panels:
        axes.set_yscale("log")
        axes.set_xlabel("epoch")
        axes.axvline(best_epoch, color="black", linestyle=":", label="kept")
        axes.legend(fontsize="small")
    return figure


def metric_rows(metrics: Iterable[HeadMetrics]) -> list[str]:
    """Errors as lines of a table.

    Parameters
    ----------
    metrics
        Per head, charge and side.

    Returns
    -------
    list of str
        With a heading; energies in meV per cell and per atom, forces in meV/A.
    """
    lines = [
        "head         charge  side      n   E meV/cell  relative  meV/atom   F meV/A",
    ]
    constant = False
    for m in metrics:
        mark = "*" if m.fitted_constant else " "
        constant = constant or m.fitted_constant
        lines.append(
            f"{m.head:<12} {m.charge:>+6d}  {m.split:<6} {m.n_frames:>4}  "
            f"{_known(m.energy_rmse_cell):>10}{mark} {_known(m.relative_energy_rmse_cell):>9} "
            f"{_known(m.energy_rmse_atom, 2):>9} {_known(m.force_rmse):>9}"
        )
    lines.append("RMSE; relative: once the mean error of the line is taken out.")
    if constant:
        lines.append("* no reference energy for these cells: the mean error was taken out first.")
    if missing := sum(m.n_without_forces for m in metrics):
        lines.append(f"{missing} frames have labels of a method without forces: energies alone.")
    return lines


def _known(error: float | None, digits: int = 1) -> str:
    return "-" if error is None else f"{error:.{digits}f}"
