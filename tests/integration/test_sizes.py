"""Documents of a large campaign in a real database, whose documents end at 16 MB.

20 defects in 7 charge states, 60 starts each, cells of 200 atoms.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import bson
import numpy as np
import pytest
from fireworks import FWorker, LaunchPad
from fireworks.core.rocket import Rocket
from jobflow import Flow, Job, JobStore, Response, job
from jobflow.managers.fireworks import flow_to_workflow
from monty.json import jsanitize
from pymatgen.core import Lattice, Structure

from defect_mf_flows.campaign import FidelitySettings, MatchSettings
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.jobs.common import read_output
from defect_mf_flows.jobs.curvature import model_curvature
from defect_mf_flows.jobs.dataset import DatasetMaker
from defect_mf_flows.jobs.explore import gather_exploration
from defect_mf_flows.jobs.loop import RoundMaker
from defect_mf_flows.jobs.picks import gather_labels
from defect_mf_flows.jobs.results import ResultsMaker
from defect_mf_flows.jobs.search import gather_search
from defect_mf_flows.jobs.verification import VerifyMaker
from defect_mf_flows.launchpad.indexes import ensure_indexes
from defect_mf_flows.local.mongod import PrivateMongod
from defect_mf_flows.local.store import local_job_store
from defect_mf_flows.schemas.base import Document
from defect_mf_flows.schemas.calculation import CalculationKind, Failure, FailureReason
from defect_mf_flows.schemas.curvature import Curvature, triangle_of
from defect_mf_flows.schemas.dataset import Dataset, DatasetEntry, FrameReference, Picks, Split
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.loop import Imports, LoopState, StopVerdict
from defect_mf_flows.schemas.results import GroundState, PesPoint, Results
from defect_mf_flows.schemas.search import (
    Candidate,
    CandidateSet,
    Exploration,
    Minimum,
    Search,
    SearchPoint,
    SearchSet,
    Verdict,
    Verification,
    VerificationSet,
)

pytestmark = [pytest.mark.mongod, pytest.mark.long]

LIMIT = 16 * 2**20
CHARGES = [(f"defect_{number}", charge) for number in range(20) for charge in range(-3, 4)]
STARTS = 60
UUID = "0f0e0d0c-0b0a-0908-0706-050403020100"
LABEL = "Bond_Distortion_-30.0%_rattled_17"
PBE = FidelitySettings(engine="xtb", settings={"method": "GFN1-xTB"})


def cell(charge: int = 0) -> Structure:
    where = np.random.default_rng(1).random((200, 3))
    return with_charge(Structure(Lattice.cubic(17.3), ["Zn"] * 100 + ["S"] * 100, where), charge)


CELLS = {charge: cell(charge) for charge in range(-3, 4)}


def failures(count: int) -> list[Failure]:
    return [
        Failure(
            stage="frames", reason=FailureReason.DUPLICATE, fidelity="pbe", defect=defect,
            charge=charge, start=f"{LABEL} {number}",
            message=f"step {number}: equal to step {number - 1} up to 1e-5 A and 1e-5 eV",
        )
        for defect, charge in CHARGES
        for number in range(count)
    ]  # fmt: skip


def references(count: int) -> list[FrameReference]:
    return [
        FrameReference(calculation=UUID, step=number, content_hash=f"{number:064d}")
        for number in range(count)
    ]


def searches() -> list[Search]:
    by_charge = failures(STARTS // 2)
    return [
        Search(
            defect=defect, charge=charge, source="hse",
            minima=[
                Minimum(structure=CELLS[charge], energy=-1.0, starts=[LABEL] * 20)
                for _ in range(3)
            ],
            points=[
                SearchPoint(start=LABEL, energy=-1.0, converged=True, steps=200, minimum=0)
                for _ in range(4 * STARTS)
            ],
            failures=[f for f in by_charge if (f.defect, f.charge) == (defect, charge)],
        )
        for defect, charge in CHARGES
    ]  # fmt: skip


def candidates(charge: int, relaxed: bool) -> list[Candidate]:
    structure = CELLS[charge]
    return [
        Candidate(
            origin="model", round=1, rank=rank, start=LABEL, energy_model=-1.0,
            structure=structure, relaxed=structure if relaxed else None,
        )
        for rank in range(4)
    ]  # fmt: skip


def exploration() -> Exploration:
    return Exploration(
        job_uuid=UUID, calculations=[UUID] * len(CHARGES) * STARTS, hosts={"pbe": UUID},
        searches=searches(), failures=failures(STARTS),
    )  # fmt: skip


def dataset() -> Dataset:
    entries = [
        DatasetEntry(
            frame=frame, fidelity="pbe", charge=-1, defect="v_Zn",
            relaxation=f"v_Zn|-1|{LABEL}", split=Split.TRAIN,
        )
        for frame in references(40_000)
    ]  # fmt: skip
    return Dataset(
        job_uuid=UUID, dataset_hash="d" * 64, heads=["pbe", "hse"], entries=entries,
        counts={"pbe|-1|train": 40_000}, excluded=failures(8 * STARTS),
    )  # fmt: skip


def loop_state() -> LoopState:
    labels = [f"{number:036d}" for number in range(len(CHARGES) * 2 * STARTS)]
    return LoopState(
        low=[UUID] * len(CHARGES) * STARTS, labels=labels,
        origins=dict.fromkeys(labels, f"v_Zn|-1|{LABEL}"),
        picks=Picks(frames=references(len(labels)), n_candidates=168_000, strata={}),
    )  # fmt: skip


def verifications() -> VerificationSet:
    return VerificationSet(
        job_uuid=UUID,
        verifications=[
            Verification(
                defect=defect, charge=charge, round=1, verdict=Verdict.CONFIRMED, reason="r" * 200,
                model_ground=0, ground_state=0, energy_error=0.1,
                candidates=candidates(charge, relaxed=True),
            )
            for defect, charge in CHARGES
        ],
        calculations=[UUID] * 4 * len(CHARGES), high_calls=1,
    )  # fmt: skip


def candidate_set() -> CandidateSet:
    return CandidateSet(
        job_uuid=UUID,
        candidates=[c for _, charge in CHARGES for c in candidates(charge, relaxed=False)],
        owners=[owner for owner in CHARGES for _ in range(4)],
    )


def results() -> Results:
    grounds = [
        GroundState(
            defect=defect, charge=charge, verdict=Verdict.CONFIRMED, reason="r" * 200,
            energy_model=-1.0, energy_hf=-1.0, energy_error=0.0, rmsd=0.1, local_rmsd=0.1,
            max_displacement=0.1, start=LABEL, found_by="model", starts=[LABEL] * 4 * STARTS,
            n_minima=3, low_start=LABEL, low_is_ground_state=False, low_excess=0.1,
            low_deviation=None, shortest_bonds={"low": 2.3}, structure=CELLS[charge],
        )
        for defect, charge in CHARGES
    ]  # fmt: skip
    pes = [
        PesPoint(defect=d, charge=q, source="model", start=LABEL, energy=0.1, rmsd=0.1)
        for d, q in CHARGES
        for _ in range(5 * STARTS)
    ]
    return Results(
        campaign="large", campaign_hash="c" * 64, disclaimer=None, host={}, fidelities={},
        engines={}, stop=StopVerdict.CONVERGED, stop_reason="", ground_states=grounds,
        transition_levels=[], correction="none", band_edges=None, metrics=[], parity=[],
        history=[], rounds=[], counts={}, failures=failures(8 * STARTS), cost=[], pes=pes, seeds={},
    )  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A document, the job that makes it, and whether it would fit into one database entry."""

    make: Callable[[], Document]
    job: Callable[[], Job]
    fits: bool = False
    #: Nothing stands for what was not loaded, so reading a part is refused.
    whole: bool = False


def curvature() -> Curvature:
    return Curvature(
        job_uuid=UUID,
        charge=-1,
        head="hse",
        model_hash="ab" * 32,
        geometry="cd" * 32,
        n_atoms=1000,
        triangle=triangle_of(np.random.default_rng(1).normal(size=(3000, 3000))),
    )


CASES = {
    "Curvature": Case(curvature, lambda: model_curvature(None, "u", "cpu")),
    "Exploration": Case(exploration, lambda: gather_exploration("u", [], [], [], MatchSettings())),
    "SearchSet": Case(
        lambda: SearchSet(job_uuid=UUID, searches=searches()),
        lambda: gather_search("u", [], [], "hse", MatchSettings()),
    ),
    "Dataset": Case(dataset, lambda: DatasetMaker().make("u", None)),
    "LoopState": Case(loop_state, lambda: gather_labels([], [], [], None, "hse"), fits=True),
    "CandidateSet": Case(candidate_set, lambda: VerifyMaker().make("u", "u", "u", "u", None)),
    "VerificationSet": Case(
        verifications,
        lambda: VerifyMaker().judge("u", "u", None, "u", []),
    ),
    "Results": Case(results, lambda: ResultsMaker().make("u", "u", None), whole=True),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateMongod]:
    with PrivateMongod(tmp_path_factory.mktemp("sizes") / "data") as running:
        yield running


@pytest.fixture
def store(server: PrivateMongod) -> Iterator[JobStore]:
    store = local_job_store(server.port)
    store.connect()
    ensure_indexes(store)
    yield store
    store.close()


@pytest.fixture
def launchpad(server: PrivateMongod) -> LaunchPad:
    launchpad = LaunchPad(host="127.0.0.1", port=server.port, name="sizes", strm_lvl="ERROR")
    launchpad.reset("", require_password=False)
    return launchpad


@pytest.mark.parametrize("name", CASES)
def test_every_document_that_grows_fits(store: JobStore, name: str) -> None:
    case = CASES[name]
    document = case.make()
    output = jsanitize(document, strict=True, enum_values=True, allow_bson=True)
    assert (len(bson.encode(output)) < LIMIT) is case.fits
    # As jobflow stores an output: what the job's decorator names goes to the additional store.
    save = {k: "output" if v is True else v for k, v in case.job()._kwargs.items()}
    row = {"uuid": name, "index": 1, "output": output, "metadata": {}, "name": name}
    store.update(row, key=["uuid", "index"], save=save)
    stored = store.docs_store._collection.find_one({"uuid": name})
    assert len(bson.encode(stored)) < 0.75 * LIMIT
    back = read_output(store, name, type(document), load=True)
    # Not `back == document`: pymatgen compares structures site by site with every other site.
    assert jsanitize(back, strict=True, enum_values=True, allow_bson=True) == output
    if case.whole:
        with pytest.raises(ResultsError):
            read_output(store, name, type(document), load=False)
    else:
        assert isinstance(read_output(store, name, type(document), load=False), type(document))


def test_every_job_fits_that_carries_much(launchpad: LaunchPad) -> None:
    """Inputs are part of a job's entry: the loop's state, and one reference per earlier job."""
    state = loop_state()
    relaxation = reference_maker("hse", PBE, CalculationKind.RELAX).make(
        StartStructure(defect="v_Zn", charge=-1, label=LABEL, structure=CELLS[-1])
    )
    many = [relaxation.output.job_uuid] * len(state.labels)
    origins = list(state.origins.values())
    jobs = [
        relaxation,
        gather_labels(
            state.low, many, origins, state.picks, "hse", {}, Imports(), many[:200], UUID, []
        ),
        gather_exploration("u", many, [], failures(STARTS // 2), MatchSettings()),
        VerifyMaker().judge(UUID, UUID, state, UUID, many[:560]),
        RoundMaker().make(UUID, UUID, state),
        VerifyMaker().make(UUID, UUID, UUID, UUID, state),
    ]
    launchpad.add_wf(flow_to_workflow(Flow(jobs)))
    entries = list(launchpad.fireworks.find({}))
    assert len(entries) == len(jobs)
    sizes = {(found["fw_id"], found["name"]): len(bson.encode(found)) for found in entries}
    assert max(sizes.values()) < 0.75 * LIMIT, sizes


@job
def spawn_relaxations(count: int) -> Response:
    maker = reference_maker("pbe", PBE, CalculationKind.RELAX)
    jobs = [
        maker.make(StartStructure(defect="v_Zn", charge=-1, label=f"{number}", structure=CELLS[-1]))
        for number in range(count)
    ]
    return Response(replace=Flow(jobs))


def test_a_job_may_spawn_more_than_one_entry_holds(
    launchpad: LaunchPad, store: JobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parent))
    assert "test_sizes" in sys.modules
    count = 550
    launchpad.add_wf(flow_to_workflow(Flow([spawn_relaxations(count)]), store=store))
    Rocket(launchpad, FWorker(), None).run()
    launch = launchpad.launches.find_one({})
    assert launch["state"] == "COMPLETED", launch["action"]["stored_data"]
    assert "gridfs_id" in launch["action"]  # FireWorks' own way out
    ready = launchpad.fireworks.find({"state": "READY"}, {"fw_id": 1})
    ids = [found["fw_id"] for found in ready]
    assert len(ids) == count
    again = launchpad.get_fw_by_id(ids[-1]).tasks[0]["job"]
    start = again.function_args[0]
    assert start.charge == start.structure.charge == -1
    assert np.allclose(start.structure.frac_coords, CELLS[-1].frac_coords)
