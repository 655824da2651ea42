"""Where on the way of a relaxation a real committee disagrees."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from defect_mf_flows.core.charge import charge_of
from defect_mf_flows.core.uncertainty import force_spread
from defect_mf_flows.learning.doubts import LOOKS, find_doubts
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.relaxation import relax
from defect_mf_flows.learning.relaxed import Relaxed
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.model import Model

if TYPE_CHECKING:
    pass


@pytest.fixture(scope="module")
def ends(committee: Model, make_start: Callable[..., StartStructure]) -> list[Relaxed]:
    structures = [make_start(charge, 5).structure for charge in (0, -1)]
    return relax(structures, [0, -1], committee, "high", 1e-6, 12, device="cpu", trajectories=True)


def test_every_look_that_passes_the_limit_is_found(committee: Model, ends: list[Relaxed]) -> None:
    found = find_doubts(committee, ["a", "b"], ends, limit=1e-9, device="cpu")
    assert [d.start for d in found] == ["a"] * LOOKS + ["b"] * LOOKS
    assert [charge_of(d.structure) for d in found] == [0] * LOOKS + [-1] * LOOKS
    for doubt, end in zip(found[::LOOKS], ends, strict=True):
        assert doubt.step == 0
        assert end.trajectory is not None
        assert np.allclose(doubt.structure.cart_coords, end.trajectory.positions[0])
        last = max(d.step for d in found if d.start == doubt.start)
        assert last < len(end.trajectory.energies) - 1, "the end is a minimum, not a doubt"


def test_a_doubt_is_the_disagreement_of_the_members(committee: Model, ends: list[Relaxed]) -> None:
    first = find_doubts(committee, ["a", "b"], ends, limit=1e-9, device="cpu")[0]
    forces = np.array(
        [
            Potential(member, head="high").predict([first.structure])[0][1]
            for member in (committee, *committee.members)
        ]
    )
    assert first.force_spread == pytest.approx(force_spread(forces), rel=1e-6)
    assert first.force_spread > 0


def test_only_what_passes_the_limit_is_asked_for(committee: Model, ends: list[Relaxed]) -> None:
    every = find_doubts(committee, ["a", "b"], ends, limit=1e-9, device="cpu")
    limit = float(np.median([d.force_spread for d in every]))
    some = find_doubts(committee, ["a", "b"], ends, limit=limit, device="cpu")
    assert some == [d for d in every if d.force_spread > limit]
    assert 0 < len(some) < len(every)


def test_without_a_limit_or_a_committee_there_is_no_doubt(
    committee: Model, ends: list[Relaxed]
) -> None:
    assert find_doubts(committee, ["a", "b"], ends, limit=None, device="cpu") == []
    alone = committee.model_copy(update={"members": []})
    assert find_doubts(alone, ["a", "b"], ends, limit=1e-9, device="cpu") == []
