"""A relaxation that begins from a model's curvature: of its own charge, spin and geometry alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.errors import ChargeError, EngineError
from defect_mf_flows.jobs.common import read_output
from defect_mf_flows.jobs.curvature import model_curvature
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind
from defect_mf_flows.schemas.curvature import Curvature, geometry_hash, triangle_of
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.settings import get_settings

MakeStart = Callable[..., StartStructure]

METHOD = FidelitySettings(engine="xtb", settings={"method": "GFN2-xTB"}, fmax=0.05, steps=60)
RELAX = reference_maker("high", METHOD, CalculationKind.RELAX)


@pytest.fixture
def store(model: Model) -> JobStore:
    """A store that holds the model as the output of job ``model``."""
    found = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    found.connect()
    output = {"@module": Model.__module__, "@class": "Model", **model.model_dump(mode="json")}
    found.update({"uuid": "model", "index": 1, "output": output})
    return found


@pytest.fixture
def ask(
    store: JobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[StartStructure], tuple[Curvature, Calculation]]:
    """Run both jobs on a start, and read what they left in the store."""
    monkeypatch.setenv("DEFECT_MF_SCRATCH", str(tmp_path))
    get_settings.cache_clear()

    def run(start: StartStructure) -> tuple[Curvature, Calculation]:
        bends = model_curvature(start, "model", "cpu")
        relax = RELAX.make(start, curvature_uuid=bends.output.job_uuid)
        run_locally([bends, relax], store=store, ensure_success=True, log=False)
        return (
            read_output(store, bends.uuid, Curvature, load=True),
            read_output(store, relax.uuid, Calculation, load=True),
        )

    yield run
    get_settings.cache_clear()


def curvature_of(start: StartStructure, **changes: object) -> Curvature:
    """An invented curvature that belongs to a start, or nearly."""
    values = {
        "job_uuid": "bends",
        "charge": start.charge,
        "head": "high",
        "model_hash": "ab" * 32,
        "geometry": geometry_hash(start),
        "n_atoms": len(start.structure),
        "triangle": triangle_of(5.0 * np.eye(3 * len(start.structure))),
    }
    return Curvature(**{**values, **changes})


def test_the_relaxation_begins_from_the_curvature_of_the_models_highest_head(
    ask: Callable[[StartStructure], tuple[Curvature, Calculation]],
    model: Model,
    make_start: MakeStart,
    store: JobStore,
) -> None:
    start = make_start(-1, 1)
    bends, done = ask(start)
    assert (bends.charge, bends.head, bends.model_hash) == (-1, "high", model.model_hash)
    matrix = bends.matrix()
    assert matrix.shape == (3 * len(start.structure),) * 2
    np.testing.assert_allclose(matrix, matrix.T)
    assert np.linalg.eigvalsh(matrix).max() > 1.0
    assert done.curvature_from == bends.job_uuid
    assert done.converged
    assert done.charge == -1
    document = store.docs_store.query_one({"uuid": bends.job_uuid})
    assert "blob_uuid" in document["output"]["triangle"], "it lies in the additional store"


def test_another_charge_bends_otherwise(
    ask: Callable[[StartStructure], tuple[Curvature, Calculation]], make_start: MakeStart
) -> None:
    neutral, charged = (ask(make_start(q, 1))[0].matrix() for q in (0, -1))
    assert np.abs(neutral - charged).max() > 1e-3


def test_a_curvature_of_another_charge_is_refused_before_anything_is_computed(
    make_start: MakeStart,
) -> None:
    start = make_start(-1, 1)
    neutral = curvature_of(make_start(0, 1))
    assert neutral.geometry == geometry_hash(start)
    with pytest.raises(ChargeError, match="curvature is of charge \\+0"):
        RELAX.compute(start, uuid="u", curvature=neutral)


def test_a_curvature_of_another_spin_geometry_or_size_is_refused(make_start: MakeStart) -> None:
    start = make_start(0, 1)
    with pytest.raises(ChargeError, match="spin"):
        RELAX.compute(start, uuid="u", curvature=curvature_of(start, spin=2))
    other = with_charge(make_start(0, 2).structure, 0)
    moved = start.model_copy(update={"structure": other})
    with pytest.raises(EngineError, match="another geometry"):
        RELAX.compute(start, uuid="u", curvature=curvature_of(moved))
    with pytest.raises(EngineError, match="load=True"):
        RELAX.compute(start, uuid="u", curvature=curvature_of(start, triangle=""))


def test_a_curvature_that_is_no_triangle_of_numbers_is_refused(make_start: MakeStart) -> None:
    start = make_start(0, 1)
    rows = 3 * len(start.structure)
    small, broken = np.eye(rows - 3), np.full((rows, rows), np.nan)
    for wrong in (triangle_of(small), triangle_of(broken), "no base64"):
        with pytest.raises(EngineError, match="rows of finite numbers"):
            curvature_of(start, triangle=wrong)


def test_a_curvature_is_read_as_it_was_written(make_start: MakeStart) -> None:
    start = make_start(0, 1)
    random = np.random.default_rng(1).normal(size=(3 * len(start.structure),) * 2)
    matrix = random + random.T
    found = curvature_of(start, triangle=triangle_of(matrix)).matrix()
    np.testing.assert_allclose(found, matrix, rtol=1e-6, atol=1e-6)


def test_curvatures_that_differ_share_no_checkpoint(make_start: MakeStart) -> None:
    start = make_start(0, 1)
    softer = triangle_of(np.eye(3 * len(start.structure)))
    hashes = {
        found.content_hash
        for found in (
            curvature_of(start),
            curvature_of(start, triangle=softer),
            curvature_of(start, charge=1),
        )
    }
    assert len(hashes) == 3
