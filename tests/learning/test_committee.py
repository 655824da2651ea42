"""A committee on real labels: members differ, the first is the model of before."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from defect_mf_flows.core.references import composition_key
from defect_mf_flows.learning.committee import (
    committee_energies,
    member_energies,
    resample,
)
from defect_mf_flows.schemas.dataset import Split
from defect_mf_flows.schemas.model import Model

if TYPE_CHECKING:
    from tests.conftest import Labelled


def test_the_first_member_is_the_model_that_one_training_gives(
    committee: Model, model: Model
) -> None:
    assert committee.model_hash == model.model_hash
    assert committee.metrics == model.metrics
    hashes = {committee.model_hash, *(m.model_hash for m in committee.members)}
    assert len(hashes) == 3


def test_members_disagree_and_the_spread_is_calibrated(
    committee: Model, labelled: Labelled
) -> None:
    structures = [frame.structure for frame in labelled.frames[:5]]
    energies = committee_energies(committee, structures)
    assert energies.shape == (3, 5)
    assert (np.ptp(energies - energies[:, :1], axis=0)[1:] > 0).all()
    found = committee.calibration
    assert found is not None
    assert found.head == "high"
    assert set(found.coverage) == {"valid", "test"}
    n_test = sum(e.split is Split.TEST and e.fidelity == "high" for e in labelled.dataset.entries)
    assert found.n["test"] == n_test
    # The scale was fitted there: the first level can miss by no more than one label.
    assert found.coverage["valid"]["0.68"] == pytest.approx(0.68, abs=1 / found.n["valid"] + 0.02)


def test_a_committee_survives_the_database(committee: Model) -> None:
    assert Model.model_validate_json(committee.model_dump_json()) == committee


def test_worthless_ends_are_not_asked_about(committee: Model, labelled: Labelled) -> None:
    structures = [frame.structure for frame in labelled.frames[:2]]
    rows = member_energies(committee, structures, [None, "exploded"], device="cpu")
    assert [len(row) for row in rows] == [3, 0]
    alone = committee.model_copy(update={"members": []})
    assert member_energies(alone, structures, [None, None], device="cpu") == []


@pytest.mark.parametrize("seed", range(6))
def test_a_draw_keeps_every_kind_of_label_and_all_that_is_held_out(
    labelled: Labelled, seed: int
) -> None:
    entries = labelled.dataset.entries
    frames, drawn = resample(labelled.frames, entries, seed=seed)
    assert [f.content_hash for f in frames] == [e.frame.content_hash for e in drawn]

    def kinds(some: list, which: list) -> set:
        return {
            (e.fidelity, e.charge, composition_key(f.structure))
            for f, e in zip(which, some, strict=True)
            if e.split is Split.TRAIN
        }

    assert kinds(drawn, frames) == kinds(entries, labelled.frames)
    held_out = [e for e in entries if e.split is not Split.TRAIN]
    assert [e for e in drawn if e.split is not Split.TRAIN] == held_out
    # A relaxation is in as a whole, any number of times.
    whole = Counter(e.relaxation for e in entries)
    for key, count in Counter(e.relaxation for e in drawn).items():
        assert count % whole[key] == 0
