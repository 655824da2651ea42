"""Labels of lower fidelities that also teach the highest head, with a small weight."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest

import mace  # noqa: F401, isort: skip  (before e3nn)
import torch

from defect_mf_flows.campaign import TrainingSettings
from defect_mf_flows.core.charge import charge_of
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.trainer import LENT, Trainer
from defect_mf_flows.learning.training import train
from defect_mf_flows.schemas.dataset import Split
from defect_mf_flows.schemas.frame import content_hash

if TYPE_CHECKING:
    from pathlib import Path

    from defect_mf_flows.schemas.model import Model
    from tests.conftest import Labelled

#: Of the high fidelity, so few that they leave its head free elsewhere.
FEW = 2


def trained(labelled: Labelled, settings: TrainingSettings, scratch: Path) -> Model:
    """A model of all low labels and a few high ones, of both charges."""
    pairs = list(zip(labelled.frames, labelled.dataset.entries, strict=True))
    of_high = [p for p in pairs if p[1].fidelity == "high" and p[1].split is Split.TRAIN]
    kept = [p for p in pairs if p[1].fidelity == "low"] + of_high[: FEW // 2] + of_high[-FEW // 2 :]
    dataset = labelled.dataset.model_copy(
        update={
            "entries": [entry for _, entry in kept],
            "dataset_hash": content_hash([entry.frame.content_hash for _, entry in kept]),
        }
    )
    frames = [frame for frame, _ in kept]
    return train(frames, dataset, settings=settings, seed=7, scratch=scratch, threads=1)


@pytest.fixture
def trainer(labelled: Labelled, tiny: TrainingSettings, tmp_path: Path) -> Iterator[Trainer]:
    """A trainer whose lower labels weigh a tenth on the highest head."""
    trained(labelled, tiny.model_copy(update={"max_epochs": 1, "high_prior": 0.1}), tmp_path)
    (folder,) = (tmp_path / "training").iterdir()
    before = torch.get_default_dtype()
    yield Trainer(folder)
    torch.set_default_dtype(before)


def test_lent_labels_keep_charge_and_geometry_and_change_the_head_alone(trainer: Trainer) -> None:
    low = [k for k, item in enumerate(trainer.train) if trainer.heads[int(item.head)] == "low"]
    assert sorted(trainer.priors) == low
    assert {int(item.total_charge) for item in trainer.priors.values()} == {-1, 0}
    for place, prior in trainer.priors.items():
        own = trainer.train[place]
        assert trainer.heads[int(prior.head)] == "high"
        assert float(prior.total_charge) == float(own.total_charge)
        assert float(prior.weight) == pytest.approx(0.1 * float(own.weight))
        for name in ("positions", "forces"):
            assert torch.equal(getattr(prior, name), getattr(own, name))


def test_lent_energies_are_what_the_high_fidelity_would_say_if_it_differed_by_a_constant(
    trainer: Trainer,
) -> None:
    """With two labels, one per charge, that difference is known on one geometry of each."""
    high = [item for item in trainer.train if trainer.heads[int(item.head)] == "high"]
    assert len(high) == FEW
    for item in high:
        (place,) = (
            k for k in trainer.priors
            if torch.equal(trainer.priors[k].positions, item.positions)
            and float(trainer.priors[k].total_charge) == float(item.total_charge)
        )  # fmt: skip
        assert float(trainer.priors[place].energy) == pytest.approx(float(item.energy), abs=1e-4)
        for k, prior in trainer.priors.items():
            if float(prior.total_charge) == float(item.total_charge):
                own = trainer.train[k].energy - trainer.train[place].energy
                assert float(prior.energy - item.energy) == pytest.approx(float(own), abs=1e-4)


def test_a_quarter_of_the_lower_labels_is_lent_and_a_resumed_epoch_lends_the_same(
    trainer: Trainer,
) -> None:
    lent = 0
    for epoch in range(40):
        trainer.epoch = epoch
        items = trainer._epoch_items()
        again = trainer._epoch_items()
        assert all(one is other for one, other in zip(items, again, strict=True))
        assert len(items) == len(trainer.train)
        lent += sum(any(item is prior for prior in trainer.priors.values()) for item in items)
    assert lent / (40 * len(trainer.priors)) == pytest.approx(LENT, abs=0.05)


def test_where_it_has_no_labels_the_high_head_goes_where_the_low_labels_do(
    labelled: Labelled, tiny: TrainingSettings, tmp_path: Path
) -> None:
    low = [
        frame
        for frame, entry in zip(labelled.frames, labelled.dataset.entries, strict=True)
        if entry.fidelity == "low"
    ]
    assert {charge_of(frame.structure) for frame in low} == {-1, 0}
    errors = []
    for prior in (None, 0.9):
        settings = tiny.model_copy(update={"max_epochs": 60, "high_prior": prior})
        potential = Potential(trained(labelled, settings, tmp_path), head="high")
        found = potential.predict([frame.structure for frame in low])
        errors.append(
            np.mean([
                np.abs(forces - np.asarray(frame.forces)).mean()
                for (_, forces), frame in zip(found, low, strict=True)
            ])
        )  # fmt: skip
    alone, taught = errors
    assert taught < 0.85 * alone
