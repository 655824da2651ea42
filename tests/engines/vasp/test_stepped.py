"""PBE guides HSE06: single points of VASP, between which this package takes the steps."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.core.charge import charge_of
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.engines.vasp.results import unfinished
from defect_mf_flows.engines.vasp.running import executions
from defect_mf_flows.jobs.common import read_output
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind, FailureReason
from defect_mf_flows.testing.vasp import vasp_stand_in

RELAX = CalculationKind.RELAX


def guided(vasp, fmax=0.3, **settings):
    """HSE06 that PBE guides: GFN2-xTB and GFN1-xTB in the stand-in."""
    low = vasp("PBE", RELAX, fmax=fmax, **settings)
    return replace(vasp("HSE06", RELAX, fmax=fmax, **settings), guide=low)


def points(maker, uuid: str, fidelity: str) -> list[Path]:
    return sorted((maker.folder(uuid) / fidelity).iterdir())


def test_it_ends_where_the_stand_in_alone_does_and_is_not_computed_again(
    machine, vasp, make_start, compute
):
    maker, start = guided(vasp, fmax=0.05), make_start(-1, spin=1)
    done = maker.compute(start, uuid="g")
    direct = compute(start, method="GFN2-xTB", kind=RELAX, fmax=0.05, spin_polarization=0.0)
    assert (done.failure, done.converged) == (None, True)
    assert done.final_energy == pytest.approx(direct.final_energy, abs=0.005)
    assert (done.kind, done.charge, done.spin, done.fidelity) == (RELAX, -1, 1, "hse06")
    assert {frame.fidelity for frame in done.frames} == {"hse06"}
    assert charge_of(done.final_structure) == -1
    assert done.n_calls == done.n_frames == len(points(maker, "g", "hse06"))
    assert (done.guide.fidelity, done.guide.calls) == ("pbe", len(points(maker, "g", "pbe")))
    assert done.engine.settings["incar"]["NELECT"] == 3 * 12 + 4 * 6 + 1
    assert "NELECT = 61" in " ".join(" ".join(done.guide.engine.settings["incar"]).split())
    assert len(done.site_potentials) == len(start.structure)
    assert done.frontier is not None
    assert done.seconds > 0
    orbitals_are_passed_on_and_dropped(maker, "g")
    again = maker.compute(start, uuid="g")
    assert [f.energy for f in again.frames] == [f.energy for f in done.frames]
    assert (again.n_calls, again.guide) == (done.n_calls, done.guide)
    assert {len(executions(point)) for point in points(maker, "g", "hse06")} == {1}


def orbitals_are_passed_on_and_dropped(maker, uuid: str) -> None:
    """All points but the first read a WAVECAR, that of HSE06 one of PBE at its geometry."""
    for fidelity in ("hse06", "pbe"):
        told = [
            (executions(point)[0] / "vasp.out").read_text()
            for point in points(maker, uuid, fidelity)
        ]
        assert sum("found WAVECAR" in text for text in told) >= len(told) - 1 > 2
    assert not list(maker.folder(uuid).rglob("*WAVECAR"))


def test_the_lower_spin_is_chosen_once_and_holds_for_both(machine, vasp, make_start):
    maker = guided(vasp, spin_guesses=2)
    done = maker.compute(make_start(0), uuid="s")
    assert done.spin in (0, 2)
    assert {frame.spin for frame in done.frames} == {done.spin}
    assert done.n_calls == done.n_frames + 2, "both guesses count"
    assert len(list(maker.folder("s").rglob("spin_*"))) == 2


def test_another_engine_guides_vasp_at_the_same_charge(machine, vasp, make_start):
    settings = FidelitySettings(engine="xtb", settings={"method": "GFN1-xTB"})
    low = reference_maker("gfn1", settings, RELAX)
    maker = replace(vasp("HSE06", RELAX, fmax=0.3), guide=low)
    done = maker.compute(make_start(-1, spin=1), uuid="x")
    assert done.converged
    assert (done.guide.fidelity, done.guide.engine.name) == ("gfn1", "tblite")
    assert done.guide.engine.settings["charge"] == done.engine.settings["charge"] == -1


@pytest.mark.parametrize("machine", ["scf-always"], indirect=True)
def test_a_first_point_that_fails_is_a_failure_and_no_frame(machine, vasp, make_start):
    done = guided(vasp).compute(make_start(0), uuid="f")
    assert done.failure.reason is FailureReason.SCF
    assert (done.n_frames, done.converged) == (0, False)


@pytest.mark.parametrize("machine", ["positive"], indirect=True)
def test_why_a_point_failed_is_not_guessed_from_its_message(machine, vasp, make_start):
    point = vasp("HSE06").compute(make_start(0), uuid="p")
    done = guided(vasp).compute(make_start(0), uuid="q")
    assert point.failure is not None
    assert done.failure.reason is point.failure.reason


@pytest.mark.slow
def test_a_job_near_its_walltime_is_replaced_by_one_that_goes_on(tmp_path, vasp, make_start):
    store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    maker, start = guided(vasp), make_start(0)
    with vasp_stand_in(tmp_path):
        alone = maker.compute(start, uuid="alone")
    job = maker.make(start)
    # 60 s of walltime with a buffer of 60 s: every execution is asked to stop at once.
    with vasp_stand_in(
        tmp_path,
        DEFECT_MF_STANDIN="slow=1",
        DEFECT_MF_VASP_WALLTIME="60",
        DEFECT_MF_VASP_BUFFER="60",
    ):
        stopped = maker.compute(start, uuid=job.uuid)
        assert unfinished(stopped)
        os.environ["DEFECT_MF_VASP_WALLTIME"] = ""
    with vasp_stand_in(tmp_path):
        run_locally(job, store=store, ensure_success=True, log=False)
        done = read_output(store, job.uuid, Calculation, load=True)
        assert done.n_calls >= done.n_frames == len(points(maker, job.uuid, "hse06"))
    assert done.converged
    assert done.final_energy == pytest.approx(alone.final_energy, abs=0.002)
    assert done.seconds > 1, "those of the jobs before as well"
    assert len(done.site_potentials) == done.n_atoms
    assert done.guide.fidelity == "pbe"
    assert done.input_hash is not None
