"""Frames that somebody imported, in the dataset of a campaign that did not ask for them."""

from __future__ import annotations

import pytest
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore
from pymatgen.core import Structure

from defect_mf_flows.campaign import load_campaign
from defect_mf_flows.core.charge import frame_to_atoms, with_charge, write_extxyz
from defect_mf_flows.flows.campaign import CampaignMaker
from defect_mf_flows.importing.plan import make_plan
from defect_mf_flows.importing.storing import StoredImports, carry_out
from defect_mf_flows.importing.walk import walk
from defect_mf_flows.jobs.common import read_output
from defect_mf_flows.jobs.imports import usable_imports
from defect_mf_flows.schemas.dataset import Dataset
from defect_mf_flows.schemas.loop import LoopState
from defect_mf_flows.testing import write_campaign

METHODS = {"gfn1": {"engine": "xtb", "settings": {"method": "GFN1-xTB"}}}


@pytest.fixture
def store():
    made = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    made.connect()
    return made


@pytest.fixture
def bring_in(store, tmp_path):
    """Import frames from a file of their own."""

    def run(frames, fidelity="gfn1", name="frames"):
        path = tmp_path / f"{name}.extxyz"
        write_extxyz(path, [frame_to_atoms(frame) for frame in frames])
        plan = make_plan(walk([path]), fidelity, known=StoredImports(store, fidelity))
        done = carry_out(plan, store)
        assert done.messages == []
        return done.frames

    return run


@pytest.fixture
def computed(make_start, compute):
    """A real single point of another rattle than any campaign has."""

    def run(charge, seed, method="GFN1-xTB", fidelity="gfn1", **changes):
        start = make_start(charge, seed, **changes)
        done = compute(start, method=method, fidelity=fidelity, uuid=f"{charge}{seed}{method}")
        return done.frames

    return run


def strained(start):
    structure = start.structure.copy()
    structure.scale_lattice(structure.volume * 1.02)
    return with_charge(Structure.from_sites(structure), start.charge)


def test_only_what_the_campaign_studies_is_usable(
    store, bring_in, computed, make_start, defect_set
):
    from defect_mf_flows.campaign import FidelitySettings

    charges = defect_set.get("v_Zn").charges
    bring_in(computed(charges[0], 91), name="mine")
    bring_in(computed(charges[0], 92, fidelity="other"), fidelity="other", name="other")
    bring_in(computed(5, 93), name="charge")
    wide = strained(make_start(charges[0], 94))
    bring_in(computed(charges[0], 94, structure=wide), name="strained")
    methods = {"gfn1": FidelitySettings.model_validate(METHODS["gfn1"])}
    [uuid], [refused] = usable_imports(store, defect_set, methods)
    assert store.query_one({"uuid": uuid})["output"]["imported"]["path"].endswith("mine.extxyz")
    assert "strained.extxyz" in refused.message
    assert "lattice is not that of the campaign's supercell" in refused.message


def test_a_program_that_the_campaign_does_not_ask_for_is_refused(
    store, bring_in, computed, defect_set
):
    from defect_mf_flows.campaign import FidelitySettings

    charge = defect_set.get("v_Zn").charges[0]
    bring_in(computed(charge, 91))
    store.docs_store._collection.update_many({}, {"$set": {"output.engine.name": "vasp"}})
    methods = {"gfn1": FidelitySettings.model_validate(METHODS["gfn1"])}
    usable, [refused] = usable_imports(store, defect_set, methods)
    assert usable == []
    assert "computed by vasp, not by xtb" in refused.message


def dataset_of_campaign(folder, changes, store):
    """Run a campaign up to its first dataset."""
    easy = {"fidelities.gfn1.fmax": 3.0, "fidelities.gfn1.steps": 4}
    campaign, structure = load_campaign(write_campaign(folder, easy | changes))
    maker = CampaignMaker.from_campaign(campaign)
    flow = maker.make(structure)
    wanted = ("host and defects", "spawn relaxations", "choose frames")
    jobs = [job for job in flow.jobs if job.name in wanted]
    flow.output = None
    flow.remove_jobs([i for i, job in enumerate(flow.jobs) if job not in jobs])
    dataset = maker.rounds.dataset.make(jobs[0].output.job_uuid, jobs[-1].output)
    flow.add_jobs([dataset])
    run_locally(flow, store=store, ensure_success=True, raise_immediately=True, log=False)
    state = read_output(store, jobs[-1].uuid, LoopState, load=True)
    return read_output(store, dataset.uuid, Dataset, load=True), state


@pytest.mark.slow
def test_imported_frames_train_if_the_campaign_says_so(store, bring_in, computed, tmp_path):
    both = [*computed(0, 91), *computed(-1, 91)]
    assert bring_in(both) == 2
    high = [*computed(-1, 92, "GFN2-xTB", "gfn2")]
    assert bring_in(high, "gfn2", "high") == 1
    with_imports, state = dataset_of_campaign(tmp_path, {"frames.imported": True}, store)
    assert len(state.imports.imported) == 3
    found = [e for e in with_imports.entries if e.relaxation.startswith("import|")]
    assert with_imports.imported == {"gfn1": 2, "gfn2": 1}
    assert sorted((e.charge, e.fidelity) for e in found) == [
        (-1, "gfn1"),
        (-1, "gfn2"),
        (0, "gfn1"),
    ]
    without, _ = dataset_of_campaign(tmp_path, {"reuse": True}, store)
    assert without.imported == {}
    assert len(without.entries) == len(with_imports.entries) - 3
    assert without.dataset_hash != with_imports.dataset_hash
