"""What the loop carries from round to round, also through an update of this package."""

from __future__ import annotations

import json

from monty.json import MontyDecoder, MontyEncoder

from defect_mf_flows.schemas.dataset import Picks
from defect_mf_flows.schemas.loop import FirstRelaxations, LoopState


def test_the_state_of_a_campaign_that_an_earlier_version_began_is_read() -> None:
    first = FirstRelaxations(calculations=["a", "b"], candidates="c")
    picks = Picks(frames=[], n_candidates=0, strata={})
    state = LoopState(low=[], labels=[], origins={}, picks=picks, first_relaxations=first)
    stored = json.dumps(state, cls=MontyEncoder)
    assert "first_relaxations" in stored
    earlier = stored.replace("first_relaxations", "rattled")
    for text in (stored, earlier):
        assert json.loads(text, cls=MontyDecoder).first_relaxations == first
