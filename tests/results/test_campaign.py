"""Results are read through one query API, whatever the store."""

import json

import pytest
from jobflow import JobStore
from maggma.stores import MemoryStore

from defect_mf_flows.errors import ResultsError
from defect_mf_flows.results import CampaignResults, results_json, write_results
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.schemas.model import Model

REQUIRED = {
    "ground_states": {
        "defect", "charge", "verdict", "energy_model", "energy_hf", "rmsd", "local_rmsd",
        "max_displacement", "start",
    },
    "transition_levels": {"defect", "from_charge", "to_charge", "model", "hf"},
}  # fmt: skip


def test_results_json_has_what_it_promises(finished):
    content = json.loads(results_json(finished.results))
    for section, keys in REQUIRED.items():
        assert content[section]
        assert all(keys <= set(row) for row in content[section])
    assert {"head", "charge", "energy_rmse_cell", "force_rmse"} <= set(content["metrics"][0])
    assert {"frames", "labels", "failures"} <= set(content["counts"])
    assert {"stage", "calls", "seconds"} <= set(content["cost"][0])
    assert content["seeds"]["campaign"] == 1
    assert content["versions"]["mace-torch"]


def test_results_survive_being_written_and_read(finished, tmp_path):
    path = write_results(finished.results, tmp_path / "results.json")
    again = type(finished.results).model_validate_json(path.read_text())
    assert results_json(again) == results_json(finished.results)


def test_documents_can_be_asked_for_by_charge_and_defect(finished):
    charges = {c.charge for c in finished.api.documents(Calculation, charge=-1)}
    assert charges == {-1}
    n_host = finished.api.count(Calculation, defect=None)
    assert n_host == 2  # the pristine host, once per fidelity


def test_arrays_are_loaded_only_on_request(finished):
    (bare,) = finished.api.documents(Model)
    (full,) = finished.api.documents(Model, load=True)
    assert bare.blob == ""
    assert len(full.blob) > 1000
    assert bare.model_hash == full.model_hash


def test_another_campaigns_hash_finds_nothing(finished):
    other = CampaignResults(finished.store, campaign_hash="0" * 64)
    with pytest.raises(ResultsError, match="no results yet"):
        other.results()


def test_an_empty_store_says_what_to_do():
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    store.connect()
    with pytest.raises(ResultsError, match="defect-mf status"):
        CampaignResults(store).results()
