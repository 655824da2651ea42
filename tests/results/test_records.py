"""Queries across campaigns, the same on every kind of store."""

from __future__ import annotations

import doctest
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

import defect_mf_flows.results.campaign
import defect_mf_flows.results.records
from defect_mf_flows.core.charge import atoms_charge, atoms_fidelity, charge_of
from defect_mf_flows.errors import ResultsError, VersionError
from defect_mf_flows.launchpad.indexes import OUTPUTS
from defect_mf_flows.results import ANY, CampaignResults, Records, Selection
from defect_mf_flows.schemas.base import SCHEMA_VERSION
from defect_mf_flows.schemas.calculation import Calculation
from tests.results.conftest import HASHES


@pytest.fixture
def records(filled):
    return Records(filled)


def test_every_field_selects(records):
    count = lambda **filters: records.count(Calculation, **filters)  # noqa: E731
    assert count() == 12
    assert count(campaign="one") == count(campaign=HASHES["one"]) == 6
    assert count(campaign=["one", "two"]) == 12
    assert count(campaign="three") == count(campaign="3" * 64) == 0
    assert count(host="ZnS") == count(host="a" * 64) == 12
    assert count(host="GaN") == 0
    assert count(charge=-1) == count(charge=0) == 6
    assert count(charge=[0, -1]) == 12
    assert count(charge=1) == 0
    assert count(defect="v_Zn") == 12
    assert count(defect=None) == 0
    assert count(fidelity="low") == 8
    assert count(stage="high fidelity", kind="static") == 4
    assert count(state="failed") == 4
    assert count(state="converged") == 8
    assert count(state=["failed", "converged"]) == 12
    assert count(campaign="two", charge=-1, fidelity="low", state="failed") == 1


def test_dates_select(records):
    today = date.today()
    assert records.count(Calculation, since=today - timedelta(days=1), until=today) == 12
    assert records.count(Calculation, until=today - timedelta(days=1)) == 0
    assert records.count(Calculation, since=(today + timedelta(days=1)).isoformat()) == 0
    done = sorted(records.calculations().completed_at)
    assert records.count(Calculation, since=done[4]) == 8
    assert records.count(Calculation, until=done[4]) == 4
    zoned = datetime.fromisoformat(done[4]).astimezone(UTC)
    assert records.count(Calculation, since=zoned) == 8


@pytest.mark.parametrize(
    "filters",
    [
        {"charge": {"$gt": -5}},
        {"charge": True},
        {"charge": "0"},
        {"campaign": {"$ne": ""}},
        {"defect": {"$exists": True}},
        {"stage": "lows"},
        {"state": "lost"},
        {"kind": "phonons"},
        {"since": "yesterday"},
        {"until": 3},
        {"host": [HASHES["one"], "ZnS"]},
        {"fidelty": "low"},
    ],
    ids=str,
)
def test_what_cannot_be_asked_for_is_refused(records, filters):
    with pytest.raises(ResultsError, match=next(iter(filters))):
        records.count(Calculation, **filters)


@given(st.text(min_size=1))
def test_names_stay_values(text):
    criteria = Selection(campaign=text, defect=text, host=text, fidelity=text).criteria(Calculation)
    assert all(key.split(".")[0] in ("output", "metadata") for key in criteria)
    assert list(criteria.values())[1:] == [text] * 4


def test_frames_carry_charge_and_fidelity_in_every_form(records):
    for charge in (0, -1):
        for fidelity in ("low", "high"):
            asked = {"charge": charge, "fidelity": fidelity, "campaign": "one"}
            frames = list(records.frames(**asked))
            assert frames
            images = list(records.atoms(**asked))
            structures = list(records.structures(**asked))
            for frame, atoms, structure in zip(frames, images, structures, strict=True):
                assert (frame.charge, frame.fidelity) == (charge, fidelity)
                assert atoms_charge(atoms) == charge_of(structure) == charge
                assert structure.charge == charge
                assert atoms_fidelity(atoms) == structure.properties["fidelity"] == fidelity
                assert atoms.info["REF_energy"] == structure.properties["energy"] == frame.energy


def test_frames_are_loaded_one_calculation_at_a_time(records, monkeypatch):
    loads = []
    whole = records.store.query_one
    monkeypatch.setattr(
        records.store, "query_one", lambda *a, **k: loads.append(a) or whole(*a, **k)
    )
    stream = records.frames()
    assert loads == []
    next(stream)
    assert len(loads) == 1
    rest = sum(1 for _ in stream)
    assert len(loads) == 12
    assert rest + 1 == records.calculations().n_frames.sum()


def test_calculations_as_a_table(records):
    table = records.calculations()
    assert len(table) == 12
    assert table.groupby(["campaign", "charge"]).size().to_dict() == {
        ("one", 0): 3, ("one", -1): 3, ("two", 0): 3, ("two", -1): 3,
    }  # fmt: skip
    failed = table[table.state == "failed"]
    assert set(failed.reason) == {"steps_exhausted"}
    assert set(table.host) == {"ZnS"}
    assert set(table.engine) == {"tblite"}
    by_charge = table[(table.fidelity == "high") & (table.campaign == "one")]
    assert by_charge.set_index("charge").final_energy.nunique() == 2
    assert list(records.calculations(campaign="nobody").columns) == list(table.columns)


def test_one_campaign_sees_only_itself(filled):
    one = CampaignResults(filled, campaign_hash=HASHES["one"])
    assert one.count(Calculation) == 6
    with pytest.raises(ResultsError, match="only"):
        one.count(Calculation, campaign="two")


def test_newer_documents_are_refused_and_old_ones_read(filled):
    uuid = next(Records(filled).uuids(Calculation))
    stored = filled.docs_store.query_one({"uuid": uuid})
    stored.pop("_id", None)
    version = stored["output"]["schema_version"]
    try:
        stored["output"]["schema_version"] = SCHEMA_VERSION + 1
        stored["output"]["a_field_of_tomorrow"] = 1
        filled.docs_store.update(stored, key=["uuid", "index"])
        with pytest.raises(VersionError, match=uuid):
            list(Records(filled).documents(Calculation))
        with pytest.raises(VersionError, match="schema_version"):
            list(Records(filled).frames())
        with pytest.raises(VersionError, match="install"):
            Records(filled).calculations()
        del stored["output"]["schema_version"], stored["output"]["a_field_of_tomorrow"]
        filled.docs_store.update(stored, key=["uuid", "index"])
        assert len(list(Records(filled).documents(Calculation))) == 12
    finally:
        stored["output"]["schema_version"] = version
        stored["output"].pop("a_field_of_tomorrow", None)
        filled.docs_store.update(stored, key=["uuid", "index"])


@pytest.mark.parametrize("filled", ["mongod"], indirect=True)
@pytest.mark.parametrize(
    "filters",
    [
        {"campaign": HASHES["one"]},
        {"fidelity": "low", "defect": "v_Zn", "charge": -1},
        {"host": "a" * 64},
        {"host": "ZnS"},
        {"campaign": "one"},
        {"stage": "low fidelity"},
        {"since": "2020-01-01"},
    ],
    ids=str,
)
@pytest.mark.mongod
def test_queries_use_an_index(filled, filters):
    criteria = Selection(**filters).criteria(Calculation)
    plan = filled.docs_store._collection.find(criteria).explain()["queryPlanner"]
    assert "COLLSCAN" not in str(plan["winningPlan"])
    assert "IXSCAN" in str(plan["winningPlan"])


def test_indexes_name_each_combination_once():
    assert len(set(OUTPUTS)) == len(OUTPUTS)
    assert repr(ANY) == "ANY"


@pytest.mark.parametrize(
    "module", [defect_mf_flows.results.campaign, defect_mf_flows.results.records]
)
def test_the_examples_of_the_docstrings_run(module):
    found = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0
    assert found.failed == 0
