"""Several models of one dataset, and what their disagreement says."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.campaign import TrainingSettings
from defect_mf_flows.core.charge import with_spin
from defect_mf_flows.core.references import composition_key
from defect_mf_flows.core.starts import derived_seed
from defect_mf_flows.core.uncertainty import coverage, fit_scale, relative_spread
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.training import train
from defect_mf_flows.schemas.dataset import Dataset, DatasetEntry, Split
from defect_mf_flows.schemas.frame import Frame, content_hash
from defect_mf_flows.schemas.model import Calibration, Member, Model


def train_committee(
    frames: list[Frame],
    dataset: Dataset,
    *,
    settings: TrainingSettings,
    seed: int,
    scratch: Path,
    threads: int,
    isolated: bool = True,
) -> Model:
    """Train ``settings.committee`` models one after the other.

    Parameters
    ----------
    frames, dataset, settings, seed, scratch, threads, isolated
        As for :func:`defect_mf_flows.learning.training.train`; each member has a folder of its
        own there, so that a killed committee continues with the member that was trained.

    Returns
    -------
    Model
        The first member, trained on everything, with the others as ``members``. Those differ
        by seed and by the relaxations that were drawn for them, with replacement.
    """
    first = train(
        frames,
        dataset,
        settings=settings,
        seed=seed,
        scratch=scratch,
        threads=threads,
        isolated=isolated,
    )
    members = []
    for number in range(1, settings.committee):
        own = derived_seed(seed, f"member {number}")
        drawn, entries = resample(frames, dataset.entries, seed=own)
        smaller = dataset.model_copy(
            update={
                "entries": entries,
                "dataset_hash": content_hash([dataset.dataset_hash, "member", own]),
            }
        )
        member = train(
            drawn,
            smaller,
            settings=settings,
            seed=own,
            scratch=scratch,
            threads=threads,
            isolated=isolated,
        )
        # Parity, errors and limits of the search are those of the first member.
        fields = {name: getattr(member, name) for name in Member.model_fields}
        members.append(Member(**{**fields, "parity": []}))
    if not members:
        return first
    committee = first.model_copy(update={"members": members})
    return committee.model_copy(update={"calibration": calibrate(committee, frames, dataset)})


def resample(
    frames: list[Frame], entries: list[DatasetEntry], *, seed: int
) -> tuple[list[Frame], list[DatasetEntry]]:
    """Draw training relaxations with replacement; validation and test stay.

    Parameters
    ----------
    frames, entries
        Of a dataset.
    seed
        Another seed, another draw.

    Returns
    -------
    frames, entries
        A relaxation that was drawn twice is in twice. Drawn per defect and charge; one of
        every kind (fidelity, charge, composition) that would be lost is put back, since a
        model without it would refuse that kind.
    """
    rng = np.random.default_rng(seed)
    members: dict[str, list[int]] = defaultdict(list)
    strata: dict[str, set[str]] = defaultdict(set)
    for i, entry in enumerate(entries):
        if entry.split is Split.TRAIN:
            members[entry.relaxation].append(i)
            strata[f"{entry.defect}|{entry.charge:+d}"].add(entry.relaxation)
    drawn: list[str] = []
    for _, keys in sorted(strata.items()):
        ordered = sorted(keys)
        drawn += [ordered[k] for k in rng.integers(0, len(ordered), size=len(ordered))]

    def kinds(keys: list[str]) -> set[tuple[str, int, str]]:
        return {
            (entries[i].fidelity, entries[i].charge, composition_key(frames[i].structure))
            for key in keys
            for i in members[key]
        }

    have = kinds(drawn)
    for key in (sorted(members)[k] for k in rng.permutation(len(members))):
        if kinds([key]) - have:
            drawn.append(key)
            have |= kinds([key])
    chosen = [i for key in sorted(drawn) for i in members[key]]
    chosen += [i for i, entry in enumerate(entries) if entry.split is not Split.TRAIN]
    return [frames[i] for i in chosen], [entries[i] for i in chosen]


def committee_energies(
    model: Model, structures: list[Structure], *, head: str | None = None, device: str = "cpu"
) -> np.ndarray:
    """Energies of structures by every member.

    Parameters
    ----------
    model
        With its members.
    structures
        Charged structures.
    head
        None for the highest.
    device
        torch device.

    Returns
    -------
    numpy.ndarray
        Shape (n_members, n_structures), eV per cell; the model's own come first.
    """
    rows = []
    for member in [model, *model.members]:
        potential = Potential(member, head=head or model.heads[-1], device=device)
        rows.append([energy for energy, _ in potential.predict(structures)])
    return np.array(rows)


def calibrate(model: Model, frames: list[Frame], dataset: Dataset) -> Calibration | None:
    """Compare the spread of a committee with its errors.

    Parameters
    ----------
    model
        With its members.
    frames, dataset
        That they were trained on.

    Returns
    -------
    Calibration or None
        Of the highest head; None if no validation label can be compared.
    """
    head = model.heads[-1]
    found: dict[str, list[tuple[float, float, float, float]]] = defaultdict(list)
    groups: dict[tuple[int, str], list[tuple[Frame, str]]] = defaultdict(list)
    for frame, entry in zip(frames, dataset.entries, strict=True):
        if frame.fidelity == head:
            cell = composition_key(frame.structure)
            groups[frame.charge, cell].append((frame, entry.split.value))
    for group in groups.values():
        trained = [frame for frame, side in group if side == Split.TRAIN.value]
        held_out = [(frame, side) for frame, side in group if side != Split.TRAIN.value]
        if not trained or not held_out:
            continue
        zero = min(trained, key=lambda frame: frame.energy)
        asked = [zero, *(frame for frame, _ in held_out)]
        energies = committee_energies(model, [with_spin(f.structure, f.spin) for f in asked])
        labels = np.array([f.energy for f in asked])
        absolute = energies[0] - labels
        rows = np.column_stack(
            [
                absolute - absolute[0],
                relative_spread(energies, 0),
                absolute,
                energies.std(axis=0, ddof=1),
            ]
        )[1:]
        for (_, side), row in zip(held_out, rows.tolist(), strict=True):
            found[side].append(tuple(row))
    if Split.VALID.value not in found:
        return None
    arrays = {side: np.array(rows) for side, rows in sorted(found.items())}
    scale = fit_scale(arrays["valid"][:, 0], arrays["valid"][:, 1])
    absolute_scale = fit_scale(arrays["valid"][:, 2], arrays["valid"][:, 3])
    return Calibration(
        head=head,
        scale=scale,
        n={side: len(rows) for side, rows in arrays.items()},
        rmse={s: float(1000 * np.sqrt(np.mean(rows[:, 0] ** 2))) for s, rows in arrays.items()},
        coverage={s: coverage(rows[:, 0], scale * rows[:, 1]) for s, rows in arrays.items()},
        absolute_scale=absolute_scale,
        absolute_coverage={
            s: coverage(rows[:, 2], absolute_scale * rows[:, 3]) for s, rows in arrays.items()
        },
    )


def member_energies(
    model: Model, structures: list[Structure], problems: list[str | None], *, device: str
) -> list[list[float]]:
    """Energies of the ends of relaxations by every member of a committee.

    Parameters
    ----------
    model
        With its members, if it has any.
    structures, problems
        Ends, and why an end is worthless.
    device
        torch device.

    Returns
    -------
    list of list of float
        One list per end, empty for worthless ends; empty without a committee.
    """
    if not model.members:
        return []
    good = [i for i, problem in enumerate(problems) if problem is None]
    rows: list[list[float]] = [[] for _ in structures]
    if good:
        found = committee_energies(model, [structures[i] for i in good], device=device)
        for column, i in enumerate(good):
            rows[i] = [float(energy) for energy in found[:, column]]
    return rows
