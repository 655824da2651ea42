"""Datasets: which frames train, validate and test a model, and what was left out."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field, StrictInt

from defect_mf_flows.schemas.base import Document, PeriodicStructure, StoredDocument
from defect_mf_flows.schemas.calculation import Failure


class Split(StrEnum):
    """Side of the split on which a whole relaxation lies."""

    TRAIN = "train"
    VALID = "valid"
    TEST = "test"


class FrameReference(Document):
    """Points to one frame of one calculation.

    Attributes
    ----------
    calculation
        uuid of the calculation that holds the frame.
    step
        Index of the frame in that calculation.
    content_hash
        SHA-256 of the frame; checked when it is read.
    """

    calculation: str
    step: int
    content_hash: str


class DatasetEntry(Document):
    """One labelled frame of a dataset.

    Attributes
    ----------
    frame
        Where the frame is.
    fidelity, charge, defect
        Copied from the frame for counting; checked against it when read.
    relaxation
        Key of the relaxation the geometry comes from. A single point belongs to the
        relaxation that made its geometry, so that no relaxation is on both sides.
    split
        Training, validation or test.
    """

    frame: FrameReference
    fidelity: str
    charge: StrictInt
    defect: str | None
    relaxation: str
    split: Split


class ReferenceEnergy(Document):
    """Energy taken out of the labels of one (head, defect composition, charge) before training.

    Attributes
    ----------
    head
        Fidelity, and model head, to which it belongs.
    charge
        Charge state.
    composition
        Reduced key of the cell's composition, for example ``"S16 Zn15"``.
    energy
        eV per CELL: the least-squares constant over the training labels of this group.
    n_labels
        Number of training labels it was fitted to.
    """

    head: str
    charge: StrictInt
    composition: str
    energy: float
    n_labels: int


class HostLabels(Document):
    """The pristine host and its energy per fidelity.

    Attributes
    ----------
    structure
        A small cell of the host.
    energies
        eV per reduced formula unit, per fidelity.
    """

    structure: PeriodicStructure
    energies: dict[str, float]

    @property
    def formula(self) -> dict[str, int]:
        """Atoms per reduced formula unit, by element."""
        counts = self.structure.composition.reduced_composition.get_el_amt_dict()
        return {symbol: int(count) for symbol, count in counts.items()}


class LeakCheck(Document):
    """What was looked for on both sides of a split, and what was found.

    Attributes
    ----------
    by
        What the split keeps together.
    copies
        Pairs of relaxations that are copies of each other; they were put on one side.
    crossing
        Relaxations with frames on several sides: none but in a frame-random split.
    near
        Held-out geometries that have a copy, to within a few thousandths of an Angstrom, among
        the training geometries of the same charge.
    """

    by: str
    copies: list[tuple[str, str]] = Field(default_factory=list)
    crossing: int = 0
    near: int = 0


class DatasetCard(Document):
    """What a dataset holds, for people.

    Attributes
    ----------
    dataset_hash
        Of the dataset.
    frames
        Number of labels.
    counts
        Labels per ``"defect|charge|fidelity|side"``.
    sources
        Labels per source: file, or calculation.
    excluded
        What was left out: reason -> count.
    examples
        Of each reason the first message.
    leaks
        The leak check.
    warnings
        What a reader must know before using errors on the held-out sides.
    versions
        Of this package and of the document layout.
    """

    dataset_hash: str
    frames: int
    counts: dict[str, int]
    sources: dict[str, int]
    excluded: dict[str, int] = Field(default_factory=dict)
    examples: dict[str, str] = Field(default_factory=dict)
    leaks: LeakCheck
    warnings: list[str] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)


class Dataset(StoredDocument):
    """A set of labelled frames with its split.

    Attributes
    ----------
    dataset_hash
        SHA-256 over frames, splits and heads; the model's training folder is named after it.
    heads
        Fidelities in the order of the model's heads, the highest last.
    entries
        The labelled frames (kept in the additional store ``data``).
    counts
        Labels per ``"fidelity|charge|split"``.
    imported
        Of these, imported ones per fidelity.
    excluded
        What was left out, and why (kept in the additional store ``data``).
    host
        The pristine host, or None where nobody computed it.
    split_by
        What the split keeps together.
    """

    dataset_hash: str
    heads: list[str] = Field(min_length=1)
    entries: list[DatasetEntry] = Field(default_factory=list)
    counts: dict[str, int]
    imported: dict[str, int] = Field(default_factory=dict)
    excluded: list[Failure] = Field(default_factory=list)
    host: HostLabels | None = None
    split_by: str = "relaxation"


class Picks(Document):
    """Frames chosen for a higher fidelity.

    Attributes
    ----------
    frames
        The chosen frames.
    n_candidates
        Low-fidelity frames from which they were chosen.
    strata
        Number of picks per stratum ``"charge|basin|energy bin|step bin"``.
    """

    frames: list[FrameReference]
    n_candidates: int
    strata: dict[str, int]
