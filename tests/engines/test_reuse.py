"""A calculation is taken over only if nothing that decides its outcome differs."""

from __future__ import annotations

import numpy as np
import pytest
from jobflow import JobStore, run_locally
from maggma.stores import MemoryStore
from pymatgen.core import Structure

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.jobs.common import read_output
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind

GFN1 = {"method": "GFN1-xTB"}


def shifted(structure, by):
    """The structure with one atom moved along x, Angstrom."""
    moved = structure.cart_coords.copy()
    moved[0, 0] += by
    symbols = [site.specie.symbol for site in structure]
    plain = Structure(structure.lattice, symbols, moved, coords_are_cartesian=True)
    return with_charge(plain, structure._charge)


@pytest.fixture
def store():
    made = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    made.connect()
    return made


@pytest.fixture
def ask(store):
    """Run one calculation as a job, in the store that all share."""

    def run(start, *, reuse, kind="relax", fidelity="low", fmax=0.5, steps=3, settings=GFN1):
        method = FidelitySettings(engine="xtb", settings=settings, fmax=fmax, steps=steps)
        maker = reference_maker(fidelity, method, CalculationKind(kind), reuse=reuse)
        job = maker.make(start)
        run_locally(job, store=store, ensure_success=True, raise_immediately=True, log=False)
        return read_output(store, job.uuid, Calculation, load=True)

    return run


@pytest.fixture
def static(ask, make_start):
    """A finished single point of charge 0."""
    return ask(make_start(0), reuse=False, kind="static")


def test_identical_input_is_taken_over_at_no_cost(ask, make_start):
    start = make_start(0, seed=None)
    first = ask(start, reuse=True, fmax=2.0, steps=20)
    assert first.failure is None, "a failed calculation would not be reused"
    assert first.reused_from is None
    again = ask(
        start.model_copy(update={"label": "other name"}),
        reuse=True,
        fidelity="other",
        fmax=2.0,
        steps=20,
    )
    assert again.reused_from == first.job_uuid
    assert again.job_uuid != first.job_uuid
    assert (again.n_calls, again.seconds) == (0, 0.0)
    assert again.final_energy == first.final_energy
    assert again.input_hash == first.input_hash
    assert [f.energy for f in again.frames] == [f.energy for f in first.frames]
    for frame in again.frames:
        assert frame.fidelity == "other"
        assert frame.charge == 0
        assert frame.lineage.calculation == again.job_uuid
        assert frame.lineage.start == "other name"


def test_a_reused_calculation_names_who_computed_it(ask, make_start, static):
    second = ask(make_start(0), reuse=True, kind="static")
    third = ask(make_start(0), reuse=True, kind="static")
    assert second.reused_from == third.reused_from == static.job_uuid


def test_without_asking_nothing_is_reused(ask, make_start, static):
    again = ask(make_start(0), reuse=False, kind="static")
    assert again.reused_from is None
    assert again.n_calls == 1


def test_another_charge_is_computed(ask, make_start, static):
    other = ask(make_start(-1), reuse=True, kind="static")
    assert other.reused_from is None
    assert other.n_calls == 1
    assert {f.charge for f in other.frames} == {-1}
    assert other.final_energy != pytest.approx(static.final_energy, abs=0.1)


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"method": "GFN2-xTB"}},
        {"settings": {**GFN1, "accuracy": 0.5}},
        {"kind": "relax"},
    ],
    ids=str,
)
def test_other_settings_are_computed(ask, make_start, static, change):
    other = ask(make_start(0), reuse=True, **{"kind": "static", **change})
    assert other.reused_from is None
    assert other.n_calls > 0


def test_another_spin_is_computed(ask, make_start, static):
    other = ask(make_start(0, spin=2), reuse=True, kind="static")
    assert other.reused_from is None
    assert other.final_energy != pytest.approx(static.final_energy, abs=1e-3)


def test_positions_count_to_a_millionth_of_an_angstrom(ask, make_start):
    start = make_start(0, seed=None)
    rounded = start.model_copy(update={"structure": with_charge(_on_grid(start.structure), 0)})
    first = ask(rounded, reuse=False, kind="static")
    near = rounded.model_copy(update={"structure": shifted(rounded.structure, 1e-8)})
    far = rounded.model_copy(update={"structure": shifted(rounded.structure, 2e-6)})
    assert ask(near, reuse=True, kind="static").reused_from == first.job_uuid
    assert ask(far, reuse=True, kind="static").reused_from is None


def _on_grid(structure):
    """Positions on multiples of 1e-6 A, far from where rounding turns over."""
    symbols = [site.specie.symbol for site in structure]
    return Structure(
        structure.lattice, symbols, np.round(structure.cart_coords, 6), coords_are_cartesian=True
    )


def test_thresholds_count_for_relaxations_only(ask, make_start, static):
    assert ask(make_start(0), reuse=True, kind="static", fmax=0.05).reused_from == static.job_uuid
    relaxed = ask(make_start(0, seed=None), reuse=False, fmax=2.0, steps=20)
    assert relaxed.failure is None
    again = ask(make_start(0, seed=None), reuse=True, fmax=1.9, steps=20)
    assert again.reused_from is None


def test_a_failed_calculation_is_tried_again(ask, make_start):
    hopeless = {**GFN1, "max_iterations": 1}
    failed = ask(make_start(0), reuse=True, kind="static", settings=hopeless)
    assert failed.failure is not None
    again = ask(make_start(0), reuse=True, kind="static", settings=hopeless)
    assert again.reused_from is None
    assert again.failure is not None
    assert again.failure.message == failed.failure.message


TIGHT = {**GFN1, "accuracy": 0.001}


def forces_of(done):
    return [float(np.linalg.norm(f.forces, axis=1).max()) for f in done.frames]


@pytest.fixture
def whole(compute, make_start):
    """A relaxation that nothing interrupts."""
    done = compute(make_start(-2), kind=CalculationKind.RELAX, fmax=0.005, steps=60, accuracy=0.001)
    assert done.converged
    assert done.n_frames > 5
    return done


@pytest.mark.parametrize(
    "stopped", [{"steps": 3, "fmax": 0.005}, {"steps": 60, "fmax": 0.5}], ids=["steps", "force"]
)
def test_a_relaxation_that_stopped_too_early_goes_on_where_it_stopped(
    ask, make_start, whole, stopped
):
    begun = ask(make_start(-2), reuse=False, settings=TIGHT, **stopped)
    assert begun.n_frames < whole.n_frames
    done = ask(make_start(-2), reuse=True, settings=TIGHT, fidelity="other", fmax=0.005, steps=60)
    assert done.converged
    assert done.n_frames == whole.n_frames
    assert done.n_calls == whole.n_frames - begun.n_frames
    assert done.final_energy == pytest.approx(whole.final_energy, abs=1e-4)
    assert [f.lineage.step for f in done.frames] == list(range(done.n_frames))
    assert {(f.charge, f.fidelity) for f in done.frames} == {(-2, "other")}
    assert done.notes == [f"step {begun.n_frames - 1}: continues {begun.job_uuid}"]
    assert done.reused_from is None


def test_what_ran_out_of_steps_is_not_computed_to_run_out_again(ask, make_start):
    failed = ask(make_start(-2), reuse=True, fmax=1e-4, steps=2)
    again = ask(make_start(-2), reuse=True, fmax=1e-4, steps=2)
    assert (failed.n_calls, again.n_calls) == (3, 0)
    assert again.failure is not None
    assert again.failure.message == failed.failure.message


def test_of_a_longer_relaxation_no_more_is_taken_than_this_one_would_compute(ask, make_start):
    longer = ask(make_start(-2), reuse=False, fmax=1e-4, steps=6)
    assert min(forces_of(longer)) > 1e-4
    limit = forces_of(longer)[2] + 1e-3
    done = ask(make_start(-2), reuse=True, fmax=limit, steps=60)
    assert done.n_frames == 1 + next(k for k, f in enumerate(forces_of(longer)) if f < limit)
    assert (done.converged, done.n_calls) == (True, 0)


def test_a_relaxation_of_another_charge_or_start_is_not_continued(ask, make_start):
    ask(make_start(-2), reuse=False, fmax=1e-4, steps=2)
    for other in (make_start(-1), make_start(0, 2)):
        assert ask(other, reuse=True, fmax=1e-4, steps=3).n_calls == 4
    assert ask(make_start(-2), reuse=True, fmax=1e-4, steps=3, settings=TIGHT).n_calls == 4
    assert ask(make_start(-2), reuse=False, fmax=1e-4, steps=3).n_calls == 4


@pytest.mark.parametrize("stopped", [False, True])
def test_a_calculation_whose_frames_are_not_stored_yet_is_computed(ask, make_start, store, stopped):
    """jobflow writes the document first; another worker may ask in between."""
    allowed = {"fmax": 1e-4, "steps": 2} if stopped else {"fmax": 2.0, "steps": 20}
    first = ask(make_start(-2), reuse=False, **allowed)
    store.additional_stores["data"].remove_docs({})
    again = ask(make_start(-2), reuse=True, **allowed)
    assert again.n_calls == first.n_calls
    assert again.reused_from is None


def test_an_engine_that_does_not_know_its_version_is_not_reused(compute, make_start):
    from defect_mf_flows.engines.reuse import UNKNOWN_VERSION, input_hash

    done = compute(make_start(-2))
    settings = FidelitySettings(engine="xtb", settings=GFN1)
    unknown = done.engine.model_copy(update={"version": UNKNOWN_VERSION})
    assert input_hash(make_start(-2), done.kind, settings, done.engine) is not None
    assert input_hash(make_start(-2), done.kind, settings, unknown) is None
