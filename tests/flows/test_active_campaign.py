"""A campaign whose committee asks for labels between the rounds."""

from __future__ import annotations

import pytest

from defect_mf_flows.schemas.calculation import Calculation, CalculationKind
from defect_mf_flows.schemas.dataset import Dataset
from defect_mf_flows.schemas.results import StageCost

#: No relaxation stays within a millionth of an Angstrom, so no round converges.
CHANGES = {
    "training.committee": 2,
    "loop.max_rounds": 2,
    "loop.acquire": 6,
    "search.doubt": 1e-6,  # whatever the committee does not agree on to the last bit
    "verification.max_local_rmsd": 1e-6,
}


@pytest.fixture(scope="module")
def run(run_campaign_here, tmp_path_factory):
    return run_campaign_here(tmp_path_factory.mktemp("active"), CHANGES)


@pytest.mark.slow
def test_what_the_committee_asked_for_is_labelled_and_learned(run):
    acquired = run.results.acquired
    assert 1 <= len(acquired) <= 6
    assert {item.kind for item in acquired} >= {"relaxation"}
    documents = {c.job_uuid: c for c in run.api.documents(Calculation, load=True)}
    before, after = run.api.documents(Dataset, load=True)
    learned = {entry.frame.content_hash for entry in after.entries}
    known = {entry.frame.content_hash for entry in before.entries}
    for item in acquired:
        calculation = documents[item.calculation]
        assert calculation.kind is CalculationKind.STATIC
        assert (calculation.defect, calculation.charge) == (item.defect, item.charge)
        assert calculation.fidelity == "gfn2"
        assert item.spread > 0
        assert item.round == 1
        for frame in calculation.frames:
            assert frame.charge == item.charge
            assert frame.content_hash not in known
    hashes = {f.content_hash for item in acquired for f in documents[item.calculation].frames}
    assert hashes & learned, "no acquired label reached the second dataset"


@pytest.mark.slow
def test_acquired_labels_are_paid_for(run):
    asked = {item.calculation for item in run.results.acquired}
    calls = [c.n_calls for c in run.api.documents(Calculation) if c.fidelity == "gfn2"]
    costs: list[StageCost] = [c for c in run.results.cost if c.fidelity == "gfn2"]
    assert sum(cost.calls for cost in costs) == sum(calls)
    assert asked <= {c.job_uuid for c in run.api.documents(Calculation)}
