"""A relaxation takes up a single point of its own start, charge and spin, and no other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.engines.reuse import read_single_point
from defect_mf_flows.errors import ChargeError, EngineError
from defect_mf_flows.jobs.common import read_output
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.settings import get_settings

MakeStart = Callable[..., StartStructure]
METHOD = FidelitySettings(engine="xtb", settings={"method": "GFN1-xTB"}, fmax=0.1, steps=60)


@pytest.fixture(scope="module")
def start(make_start: MakeStart) -> StartStructure:
    return make_start(-1, 1)


@pytest.fixture(scope="module")
def store(
    start: StartStructure, tmp_path_factory: pytest.TempPathFactory
) -> tuple[JobStore, str, str]:
    """A store with a single point and the relaxation that took it up, and their uuids."""
    found = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    single = reference_maker("low", METHOD, CalculationKind.STATIC).make(start)
    relax = reference_maker("low", METHOD, CalculationKind.RELAX).make(
        start, single_point_uuid=single.output.job_uuid
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEFECT_MF_SCRATCH", str(tmp_path_factory.mktemp("scratch")))
        get_settings.cache_clear()
        run_locally([single, relax], store=found, ensure_success=True, log=False)
    get_settings.cache_clear()
    return found, single.uuid, relax.uuid


def test_it_is_the_relaxations_first_step_and_not_paid_for_again(
    store: tuple[JobStore, str, str], start: StartStructure, compute: Callable[..., Calculation]
) -> None:
    single, relaxed = (read_output(store[0], uuid, Calculation, load=True) for uuid in store[1:])
    assert relaxed.frames[0].content_hash == single.frames[0].content_hash
    assert relaxed.n_calls == relaxed.n_frames - 1
    assert relaxed.converged
    alone = compute(start, kind=CalculationKind.RELAX, fmax=0.1)
    assert relaxed.final_energy == pytest.approx(alone.final_energy, abs=0.005)


def test_of_another_charge_spin_or_geometry_it_is_refused(
    store: tuple[JobStore, str, str], start: StartStructure, make_start: MakeStart, tmp_path: Path
) -> None:
    jobs, uuid, _ = store
    assert read_single_point(jobs, uuid, start).charge == -1
    neutral = start.model_copy(update={"charge": 0, "structure": with_charge(start.structure, 0)})
    with pytest.raises(ChargeError, match=r"charge -1 .* the start of \+0"):
        read_single_point(jobs, uuid, neutral)
    with pytest.raises(ChargeError, match="spin"):
        read_single_point(jobs, uuid, start.model_copy(update={"spin": 1}))
    with pytest.raises(EngineError, match="another geometry"):
        read_single_point(jobs, uuid, make_start(-1, 2))
    with pytest.raises(EngineError, match="is not there"):
        read_single_point(jobs, "nobody", start)
