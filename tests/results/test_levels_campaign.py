"""Levels from a campaign's own relaxations, by the command that imported ones go through."""

from __future__ import annotations

import pytest
from jobflow import JobStore
from maggma.stores import MemoryStore

from defect_mf_flows.errors import ResultsError
from defect_mf_flows.results import Records
from defect_mf_flows.results.concentrations import ConcentrationOptions
from defect_mf_flows.results.levels import LevelOptions, stored_levels
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind


def records(finished, store=None):
    """Those of the finished campaign: other tests may add campaigns to its store."""
    return Records(store or finished.store, campaign=finished.results.campaign_hash)


def test_the_levels_of_a_campaign_are_those_that_it_verified(finished):
    high = finished.results.fidelities["high"]
    report = stored_levels(records(finished), LevelOptions(fidelity=high))
    found = {(x.defect, x.from_charge, x.to_charge): x.energy for x in report.levels}
    verified = {
        (x.defect, x.from_charge, x.to_charge): x.hf for x in finished.results.transition_levels
    }
    assert found
    assert {k: v for k, v in verified.items() if k in found} == pytest.approx(found, abs=1e-6)


def test_only_ends_of_relaxations_count(finished):
    high = finished.results.fidelities["high"]
    report = stored_levels(records(finished), LevelOptions(fidelity=high))
    ended = [
        c
        for c in records(finished).documents(Calculation, fidelity=high)
        if c.kind is CalculationKind.RELAX and c.converged
    ]
    assert sorted(s.energy for s in report.states) == sorted(c.final_energy for c in ended)
    assert len({s.label for s in report.states}) == len(ended), "labels tell minima apart"


def test_a_campaign_has_two_fidelities_and_one_must_be_chosen(finished):
    with pytest.raises(ResultsError, match="2 fidelities"):
        stored_levels(records(finished), LevelOptions())


def test_a_campaigns_defects_have_concentrations(finished):
    ground = next(g for g in finished.results.ground_states if g.charge == 0)
    high = finished.results.fidelities["high"]
    host = next(
        c for c in records(finished).documents(Calculation, fidelity=high) if c.defect is None
    )
    mu = host.final_energy - ground.energy_hf + 2.0  # the neutral vacancy costs 2 eV to form
    options = LevelOptions(
        fidelity=high,
        mu={"Zn": mu},
        concentrations=ConcentrationOptions((900.0,), masses=(0.2, 0.8)),
    )
    (found,) = stored_levels(records(finished), options).concentrations
    neutral = next(d for d in found.defects if d.charge == 0)
    assert neutral.formation == pytest.approx(2.0, abs=1e-4)
    assert {d.charge for d in found.defects} == {g.charge for g in finished.results.ground_states}


def copied(finished, changes):
    """The store with calculations as another campaign, or another outcome, would leave them."""
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    store.connect()
    for row in finished.store.docs_store.query():
        row.pop("_id")
        store.docs_store.update(row | changes(row), key=["uuid", "index"])
    return store


def test_two_campaigns_are_not_mixed_in_silence(finished):
    high = finished.results.fidelities["high"]
    store = copied(finished, lambda row: {})
    mine = {"output.@class": "Calculation"}
    mine["metadata.campaign_hash"] = finished.results.campaign_hash
    rows = list(store.docs_store.query(mine))
    for row in rows:
        row.pop("_id")
        other = {**row["metadata"], "campaign": "another", "campaign_hash": "f" * 64}
        changed = {"uuid": f"other-{row['uuid']}", "metadata": other}
        changed["output"] = {**row["output"], "job_uuid": f"other-{row['uuid']}"}
        store.docs_store.update(row | changed, key=["uuid", "index"])
    with pytest.raises(ResultsError, match="--campaign"):
        stored_levels(Records(store), LevelOptions(fidelity=high))
    alone = stored_levels(Records(store, campaign="another"), LevelOptions(fidelity=high))
    assert alone.levels == stored_levels(records(finished), LevelOptions(fidelity=high)).levels


def test_relaxations_that_did_not_end_are_counted(finished):
    high = finished.results.fidelities["high"]

    def cut(row):
        output = row.get("output")
        mine = isinstance(output, dict) and output.get("@class") == "Calculation"
        if not (mine and output["fidelity"] == high and output["kind"] == "relax"):
            return {}
        return {"output": output | {"converged": False}} if output["charge"] == -1 else {}

    store = copied(finished, cut)
    report = stored_levels(records(finished, store), LevelOptions(fidelity=high))
    assert {s.charge for s in report.states} == {0}
    assert any("v_Zn -1" in note and "left out" in note for note in report.notes)
