"""A store with real calculations of two campaigns, in every kind of store."""

from __future__ import annotations

import pytest
from jobflow import Flow, JobStore, run_locally
from maggma.stores import MemoryStore

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.errors import ServiceError
from defect_mf_flows.jobs.common import Stage, staged
from defect_mf_flows.launchpad.indexes import ensure_indexes
from defect_mf_flows.local.mongod import PrivateMongod, find_mongod
from defect_mf_flows.local.store import disk_job_store, local_job_store
from defect_mf_flows.schemas.calculation import CalculationKind

HASHES = {"one": "1" * 64, "two": "2" * 64}
METHODS = {"low": "GFN1-xTB", "high": "GFN2-xTB"}


def campaign_jobs(name, make_start):
    """Per charge: a relaxation that runs out of steps, and a single point of each fidelity."""
    jobs = []
    for charge in (0, -1):
        start = make_start(charge)
        wanted = [("low", "relax"), ("low", "static"), ("high", "static")]
        for fidelity, kind in wanted:
            method = FidelitySettings(
                engine="xtb", settings={"method": METHODS[fidelity]}, fmax=1e-4, steps=2
            )
            maker = reference_maker(fidelity, method, CalculationKind(kind))
            labels = {"defect": start.defect, "charge": charge, "fidelity": fidelity}
            stage = Stage.LOW if fidelity == "low" else Stage.HIGH
            jobs.append(staged(maker.make(start), stage, f"{charge} {fidelity} {kind}", **labels))
    flow = Flow(jobs, name=name)
    flow.update_metadata(
        {"campaign": name, "campaign_hash": HASHES[name], "host": "ZnS", "host_hash": "a" * 64},
        dynamic=True,
    )
    return flow


def fill(store, make_start):
    for name in HASHES:
        run_locally(campaign_jobs(name, make_start), store=store, ensure_success=True, log=False)
    return store


@pytest.fixture(scope="package", params=["memory", "sqlite", "mongod"])
def filled(request, make_start, tmp_path_factory):
    """The same jobs in a MemoryStore, in an SQLite file and in a real mongod."""
    folder = tmp_path_factory.mktemp("store")
    if request.param == "memory":
        store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
        store.connect()
        yield fill(store, make_start)
    elif request.param == "sqlite":
        store = disk_job_store(folder)
        store.connect()
        fill(store, make_start).close()
        again = disk_job_store(folder)  # what another process would read
        again.connect()
        yield again
    else:
        try:
            find_mongod()
        except ServiceError as error:
            pytest.skip(str(error))
        with PrivateMongod(folder / "data") as server:
            store = local_job_store(server.port)
            store.connect()
            ensure_indexes(store)
            yield fill(store, make_start)
            store.close()
