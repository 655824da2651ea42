"""Two campaigns in one database: what was computed is not computed again."""

from __future__ import annotations

import pytest
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore

from defect_mf_flows.campaign import campaign_hash, load_campaign
from defect_mf_flows.flows.campaign import CampaignMaker
from defect_mf_flows.jobs.common import Stage
from defect_mf_flows.results import CampaignResults, Records
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.testing import write_campaign


def explore(folder, changes, store):
    """Compute a campaign up to its low-fidelity search."""
    folder.mkdir()
    # Thresholds that every start reaches: a failed relaxation would be tried again.
    easy = {"fidelities.gfn1.fmax": 3.0, "fidelities.gfn1.steps": 40}
    campaign, structure = load_campaign(write_campaign(folder, easy | changes))
    flow = CampaignMaker.from_campaign(campaign).make(structure)
    first = [job for job in flow.jobs if job.name in ("host and defects", "spawn relaxations")]
    assert len(first) == 2
    flow.output = None
    flow.remove_jobs([i for i, job in enumerate(flow.jobs) if job not in first])
    run_locally(flow, store=store, ensure_success=True, raise_immediately=True, log=False)
    return CampaignResults(store, campaign_hash=campaign_hash(campaign, structure))


@pytest.fixture(scope="module")
def store():
    made = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    made.connect()
    return made


@pytest.fixture(scope="module")
def first(store, tmp_path_factory):
    found = explore(tmp_path_factory.mktemp("a") / "c", {"name": "first"}, store)
    table = found.calculations()
    assert set(table.state) == {"converged"}, "the other tests need calculations without failure"
    assert table.n_calls.min() >= 1
    return found


def test_the_second_campaign_spends_no_low_fidelity_call(first, store, tmp_path):
    changes = {"name": "second", "reuse": True, "training.max_epochs": 5}
    second = explore(tmp_path / "c", changes, store)
    assert second.select().campaign != first.select().campaign
    mine, theirs = second.calculations(), first.calculations()
    assert len(mine) == len(theirs)
    assert mine.n_calls.sum() == 0
    assert set(mine.reused_from) == set(theirs.uuid)
    assert sorted(mine.calls_saved) == sorted(theirs.n_calls)
    assert theirs.calls_saved.sum() == 0
    assert sorted(mine.final_energy) == pytest.approx(sorted(theirs.final_energy), abs=1e-12)
    frames = list(second.frames())
    assert {f.lineage.calculation for f in frames} == set(mine.uuid)
    assert len(frames) == theirs.n_frames.sum()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"defects.charges": {"v_Zn": [-2]}}, {"charge": -2}),
        ({"fidelities.gfn1.settings": {"method": "GFN1-xTB", "accuracy": 0.5}},
         {"fidelity": "gfn1"}),
    ],
    ids=["charge", "settings"],
)  # fmt: skip
def test_another_charge_or_method_is_computed(first, store, tmp_path, changes, what):
    other = explore(tmp_path / "c", {"name": "third", "reuse": True, **changes}, store)
    table = other.calculations(**what)
    assert len(table)
    assert table.reused_from.isna().all()
    assert table.n_calls.min() >= 1


def test_without_the_field_everything_is_computed(first, store, tmp_path):
    changes = {"name": "fourth", "training.max_epochs": 4}
    table = explore(tmp_path / "c", changes, store).calculations()
    assert table.reused_from.isna().all()
    assert table.n_calls.min() >= 1


def test_jobs_carry_what_queries_ask_for(first, store):
    rows = store.query({"output.@class": "Calculation"}, properties=["metadata"])
    for row in rows:
        keys = {"campaign", "campaign_hash", "stage", "defect", "charge", "fidelity"}
        assert keys | {"host", "host_hash"} <= set(row["metadata"])
    assert Records(store).count(Calculation, campaign="first", stage=Stage.LOW) == len(
        first.calculations()
    )


@pytest.mark.slow
def test_costs_say_what_was_reused(finished, run_campaign_here, tmp_path):
    again = run_campaign_here(
        tmp_path, {"name": "again", "reuse": True, "training.max_epochs": 5}, finished.store
    )
    low = [c for c in again.results.cost if c.stage.startswith(Stage.LOW)]
    failed = again.results.counts["failures"].get("steps_exhausted", 0)
    jobs = sum(c.jobs for c in low)
    assert sum(c.reused for c in low) >= jobs - failed > 0
    assert again.results.counts["reused"] >= sum(c.reused for c in low)
    before = [c for c in finished.results.cost if c.stage.startswith(Stage.LOW)]
    assert sum(c.calls for c in low) < sum(c.calls for c in before)
    assert sum(c.calls + c.calls_saved for c in low) == sum(c.calls for c in before)
    assert [g.charge for g in again.results.ground_states] == [0, -1]


def imported_store(first, folder, **filters):
    """A new store that holds the first campaign's frames as if they came from elsewhere."""
    from defect_mf_flows.importing.plan import make_plan
    from defect_mf_flows.importing.storing import StoredImports, carry_out
    from defect_mf_flows.importing.walk import walk
    from defect_mf_flows.results.export import export_extxyz

    export_extxyz(first, folder / "frames.extxyz", fidelity="gfn1", **filters)
    made = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    made.connect()
    plan = make_plan(walk([folder / "frames.extxyz"]), "gfn1", known=StoredImports(made, "gfn1"))
    done = carry_out(plan, made)
    assert done.frames > 0
    assert done.messages == []
    return made


def test_a_campaign_starts_from_imported_frames_and_computes_what_is_missing(first, tmp_path):
    store = imported_store(first, tmp_path, charge=0)
    second = explore(tmp_path / "c", {"name": "second", "reuse": True}, store)
    low = second.calculations(fidelity="gfn1")
    neutral, charged = low[low.charge == 0], low[low.charge == -1]
    assert neutral.n_calls.sum() == 0
    assert neutral.reused_from.notna().all()
    assert charged.reused_from.isna().all(), "these were not imported"
    assert charged.n_calls.min() >= 1
    theirs = first.calculations(fidelity="gfn1", charge=0)
    assert sorted(neutral.final_energy) == pytest.approx(sorted(theirs.final_energy), abs=1e-6)
    frames = list(second.frames(charge=0, fidelity="gfn1"))
    assert {f.lineage.calculation for f in frames} == set(neutral.uuid)


def test_without_the_field_imported_frames_stay_where_they_are(first, tmp_path):
    store = imported_store(first, tmp_path, charge=0)
    second = explore(tmp_path / "c", {"name": "second"}, store)
    assert second.calculations().reused_from.isna().all()
