"""Commands for people who have labelled data and no workflow: dataset, train, evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from defect_mf_flows.cli.app import main, refusing
from defect_mf_flows.remarks import ignore_remarks

if TYPE_CHECKING:
    from defect_mf_flows.campaign import LearningSettings
    from defect_mf_flows.schemas.dataset import DatasetCard

_SETTINGS = click.option(
    "--settings",
    "settings_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="YAML file: heads, seed, frames, per_relaxation, split, training. See docs/learning.md.",
)


def _settings(path: Path | None, **changes: Any) -> LearningSettings:
    from defect_mf_flows.campaign import LearningSettings, load_learning

    found = LearningSettings() if path is None else load_learning(path)
    return found.model_copy(update={k: v for k, v in changes.items() if v})


@main.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@_SETTINGS
@click.option("--head", "heads", multiple=True, help="Fidelity, the highest last; repeatable.")
@click.option("--host", type=click.Path(path_type=Path, exists=True), help="Neutral host, extxyz.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("datasets"),
    show_default=True,
    help="Folder of all versions; each is a folder named after its content.",
)
@refusing
def dataset(
    files: tuple[Path, ...],
    settings_file: Path | None,
    heads: tuple[str, ...],
    host: Path | None,
    out: Path,
) -> None:
    """Make a dataset of extended XYZ FILES with charge and fidelity: filters, split, leak check.

    Relaxations that are copies of each other end on one side, whatever they are called.
    """
    ignore_remarks()
    from defect_mf_flows.core.assembly import assemble
    from defect_mf_flows.learning.files import read_host, read_labelled, write_dataset

    settings = _settings(settings_file, heads=list(heads))
    lineage = settings.split.by not in ("frame", "composition")
    items = [item for path in files for item in read_labelled(path, lineage=lineage)]
    host_labels = None if host is None else read_host(host)
    frames, made, card = assemble(items, settings=settings, host=host_labels)
    folder, number = write_dataset(out, frames, made, card)
    for line in _card_lines(card):
        click.echo(line)
    click.echo(f"version {number}  {folder}")


def _card_lines(card: DatasetCard) -> list[str]:
    lines = [f"dataset     {card.dataset_hash[:16]}: {card.frames} labels"]
    lines.append("defect       charge  fidelity      train  valid   test")
    groups: dict[tuple[str, str, str], dict[str, int]] = {}
    for key, count in card.counts.items():
        defect, charge, fidelity, side = key.split("|")
        groups.setdefault((defect, charge, fidelity), {})[side] = count
    for (defect, charge, fidelity), sides in groups.items():
        counts = "".join(f"{sides.get(side, 0):>7}" for side in ("train", "valid", "test"))
        lines.append(f"{defect:<12} {charge:>6}  {fidelity:<12}{counts}")
    lines += [f"source      {name}: {count}" for name, count in card.sources.items()]
    for reason, count in card.excluded.items():
        lines.append(f"left out    {count}: {reason}, for example {card.examples[reason]}")
    leaks = card.leaks
    lines.append(
        f"leak check  split by {leaks.by}: {leaks.crossing} relaxations on several sides; "
        f"{len(leaks.copies)} pairs of copies found, put on one side; {leaks.near} held-out "
        "geometries with a near copy in training"
    )
    return lines + [f"warning     {text}" for text in card.warnings]


@main.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True))
@_SETTINGS
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("models"),
    show_default=True,
    help="Folder of models and of unfinished trainings.",
)
@click.option(
    "--export",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also write what users of plain MACECalculator need.",
)
@click.option("--threads", type=click.IntRange(min=1), help="[default: of this machine]")
@refusing
def train(
    source: Path, settings_file: Path | None, out: Path, export: Path | None, threads: int | None
) -> None:
    """Train on the dataset in folder SOURCE; the same command continues after a kill.

    A `split` in the settings file that differs from the dataset's splits the labels anew.
    """
    ignore_remarks()
    from defect_mf_flows.learning.committee import train_committee
    from defect_mf_flows.learning.export import export_model
    from defect_mf_flows.learning.files import read_dataset
    from defect_mf_flows.learning.models import metric_rows, write_model
    from defect_mf_flows.settings import get_settings

    settings = _settings(settings_file)
    frames, found, _ = read_dataset(source)
    if "split" in settings.model_fields_set:
        frames, found = _split_anew(frames, found, settings)
    model = train_committee(
        frames,
        found,
        settings=settings.training,
        seed=settings.seed,
        scratch=out / "unfinished",
        threads=threads or get_settings().threads,
    )
    folder = write_model(out, model, frames, found)
    for line in metric_rows(model.metrics):
        click.echo(line)
    for line in _calibration_lines(model):
        click.echo(line)
    if found.split_by == "frame":
        click.echo("warning     frame-random split: errors on valid and test are too small.")
    click.echo(f"model       {folder} (epoch {model.best_epoch} kept)")
    if export is not None:
        click.echo(f"export      {export_model(model, export)}")


def _split_anew(frames: list[Any], found: Any, settings: LearningSettings) -> tuple[Any, Any]:
    from defect_mf_flows.core.assembly import Labelled, assemble

    items = [
        Labelled(frame, entry.relaxation, "dataset")
        for frame, entry in zip(frames, found.entries, strict=True)
    ]
    update = {"heads": found.heads, "per_relaxation": None}
    frames, made, _ = assemble(items, settings=settings.model_copy(update=update), host=found.host)
    return frames, made


def _calibration_lines(model: Any) -> list[str]:
    c = model.calibration
    if c is None:
        return []
    lines = [f"committee   {1 + len(model.members)} members; {c.head}: spread times {c.scale:.2f}"]
    for side, shares in c.coverage.items():
        found = ", ".join(f"{float(k):.0%} -> {v:.0%}" for k, v in shares.items())
        lines.append(
            f"coverage    {side:<6} {c.n[side]:>4} relative energies, RMSE {c.rmse[side]:.1f} "
            f"meV/cell; nominal -> found: {found}"
        )
    return lines


@main.command()
@click.argument("model_folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("target", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--side",
    type=click.Choice(["train", "valid", "test", "all"]),
    default="test",
    show_default=True,
    help="Side of a dataset; a file has none.",
)
@click.option("--json", "as_json", is_flag=True, help="Numbers as JSON.")
@refusing
def evaluate(model_folder: Path, target: Path, side: str, as_json: bool) -> None:
    """Print errors per head and charge of a model on TARGET: a dataset, or an extended XYZ file."""
    ignore_remarks()
    from defect_mf_flows.core.groups import geometry_key
    from defect_mf_flows.errors import DatasetError
    from defect_mf_flows.learning.evaluation import evaluate_frames
    from defect_mf_flows.learning.files import read_dataset, read_labelled
    from defect_mf_flows.learning.models import metric_rows, read_model

    model, seen = read_model(model_folder)
    if target.is_dir():
        frames, found, _ = read_dataset(target)
        rows = [
            (frame, entry.split.value)
            for frame, entry in zip(frames, found.entries, strict=True)
            if side in ("all", entry.split.value)
        ]
    else:
        rows = [(item.frame, "file") for item in read_labelled(target, lineage=False)]
    metrics, _ = evaluate_frames(model, [f for f, _ in rows], [s for _, s in rows])
    used = sum(m.n_frames for m in metrics)
    if not used:
        raise DatasetError(
            f"{target}: none of {len(rows)} labels is of a head ({model.heads}) and charge "
            f"({model.charges}) that the model learned; give another file or side."
        )
    known = sum(geometry_key(f) in seen for f, s in rows if s in ("file", "test"))
    if as_json:
        content = {
            "model_hash": model.model_hash,
            "metrics": [m.model_dump(mode="json", exclude={"schema_version"}) for m in metrics],
            "not_evaluated": len(rows) - used,
            "seen_in_training": known,
        }
        click.echo(json.dumps(content, indent=2))
        return
    for line in metric_rows(metrics):
        click.echo(line)
    if used < len(rows):
        click.echo(f"left out    {len(rows) - used} labels of heads or charges that did not train")
    if known:
        click.echo(f"warning     {known} geometries trained or validated this model: no test")
