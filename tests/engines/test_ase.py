"""Any ASE calculator by dotted path; tblite again, this time as a stranger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.calculators.calculator import CalculationFailed
from tblite.ase import TBLite

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.core.charge import charge_of
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.engines.ase import HALVED
from defect_mf_flows.engines.checkpoint import END
from defect_mf_flows.errors import ChargeError, EngineError
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind, FailureReason
from defect_mf_flows.schemas.defect import StartStructure

MakeStart = Callable[..., StartStructure]


class LosesConvergence(TBLite):
    """tblite that may take only one SCF cycle from its third geometry on."""

    geometries = 0

    def calculate(self, *arguments: Any, **options: Any) -> None:
        self.geometries += 1
        if self.geometries > 2:
            self.parameters["max_iterations"] = 1
            self._xtb = self._res = None
        super().calculate(*arguments, **options)


class FailsOnce(TBLite):
    """tblite whose SCF fails at its third geometry, wherever that is."""

    geometries = 0

    def calculate(self, *arguments: Any, **options: Any) -> None:
        self.geometries += 1
        if self.geometries == 3:
            raise CalculationFailed("SCF not converged in 250 cycles")
        super().calculate(*arguments, **options)


class MisreadsCharge(TBLite):
    """A calculator that keeps its default whatever charge it is given."""

    def __init__(self, charge: int = 0, **options: Any) -> None:
        super().__init__(charge=0, **options)


class Overflows(TBLite):
    """tblite whose energy overflows, as that of an exploding cell may."""

    def calculate(self, *arguments: Any, **options: Any) -> None:
        super().calculate(*arguments, **options)
        self.results["energy"] = float("inf")


class EnergyAlone(TBLite):
    """tblite as a method without forces."""

    implemented_properties = ("energy",)


def run(
    start: StartStructure, kind: CalculationKind = CalculationKind.STATIC, **changes: Any
) -> Calculation:
    settings = {
        "calculator": "tblite.ase.TBLite",
        "kwargs": {"method": "GFN1-xTB", "verbosity": 0},
        "charge_keyword": "charge",
        **changes,
    }
    options = {k: settings.pop(k) for k in ("fmax", "steps") if k in settings}
    fidelity = FidelitySettings(engine="ase", settings=settings, **options)
    return reference_maker("mine", fidelity, kind).compute(start, uuid="u")


@pytest.mark.parametrize("charge", [0, -1])
def test_a_calculator_by_dotted_path_gives_what_the_xtb_engine_gives(
    make_start: MakeStart, compute: Callable[..., Calculation], charge: int
) -> None:
    """Equal for both charges, and those differ: the keyword carries the charge."""
    ours, theirs = run(make_start(charge)), compute(make_start(charge))
    assert ours.final_energy == pytest.approx(theirs.final_energy, abs=1e-6)
    assert np.allclose(ours.frames[0].forces, theirs.frames[0].forces, atol=1e-5)
    assert ours.frames[0].fidelity == "mine"
    assert charge_of(ours.final_structure) == charge


def test_a_flipped_charge_changes_the_energy(make_start: MakeStart) -> None:
    assert abs(run(make_start(0)).final_energy - run(make_start(-1)).final_energy) > 1.0


def test_the_spin_reaches_the_keyword_that_is_named(
    make_start: MakeStart, compute: Callable[..., Calculation]
) -> None:
    """tblite takes a multiplicity: 3 there is what two unpaired electrons are to our engine."""
    kwargs = {"method": "GFN1-xTB", "verbosity": 0, "spin_polarization": 1.0}
    triplet = run(make_start(0, spin=3), kwargs=kwargs, spin_keyword="multiplicity")
    expected = compute(make_start(0, spin=2))
    assert triplet.final_energy == pytest.approx(expected.final_energy, abs=1e-6)


def test_a_spin_without_a_keyword_for_it_is_refused(make_start: MakeStart) -> None:
    with pytest.raises(EngineError, match="spin_keyword; give it"):
        run(make_start(0, spin=2))


@pytest.mark.parametrize(
    "changes",
    [
        {"calculator": "no.such.Calculator"},
        {"calculator": "tblite.ase.NoSuchClass"},
        {"calculator": f"{__name__}.MisreadsCharge", "kwargs": {1: 2}},
    ],
    ids=str,
)
def test_a_calculator_that_cannot_be_built_says_what_to_correct(
    make_start: MakeStart, changes: dict
) -> None:
    with pytest.raises(EngineError, match=r"'mine'.*correct settings\.calculator"):
        run(make_start(0), **changes)


def test_a_calculator_that_ignores_the_charge_is_refused(make_start: MakeStart) -> None:
    path = f"{__name__}.MisreadsCharge"
    assert run(make_start(0), calculator=path).failure is None
    with pytest.raises(ChargeError, match="computes with charge 0, not -1"):
        run(make_start(-1), calculator=path)


def test_frames_before_an_scf_failure_are_kept(make_start: MakeStart) -> None:
    broken = run(make_start(0), CalculationKind.RELAX, calculator=f"{__name__}.LosesConvergence")
    whole = run(make_start(0), CalculationKind.RELAX, steps=1)
    assert broken.failure.reason is FailureReason.SCF
    assert not broken.converged
    assert broken.n_frames == 2
    assert broken.n_calls == 2 + 1 + HALVED, "a step, and ever smaller parts of it"
    for one, other in zip(broken.frames, whole.frames, strict=True):
        assert one.energy == pytest.approx(other.energy, abs=1e-6)
    assert broken.final_energy == broken.frames[-1].energy


def test_where_an_scf_fails_half_of_the_step_is_taken(make_start: MakeStart) -> None:
    options = {"fmax": 0.05, "steps": 60}
    found = run(make_start(0), CalculationKind.RELAX, calculator=f"{__name__}.FailsOnce", **options)
    whole = run(make_start(0), CalculationKind.RELAX, **options)
    assert found.converged
    assert found.n_calls == found.n_frames + 1, "the call that failed counts"
    assert found.notes == ["step 2: the SCF failed farther on; 1/2 of the step was taken"]
    one, two = (c.frames[2].structure.cart_coords for c in (found, whole))
    before = whole.frames[1].structure.cart_coords
    np.testing.assert_allclose(one - before, 0.5 * (two - before), atol=1e-6)
    assert found.final_energy == pytest.approx(whole.final_energy, abs=5e-3)


def test_calls_that_failed_count_after_a_kill_as_well(
    make_start: MakeStart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("defect_mf_flows.engines.ase.job_scratch", lambda uuid: tmp_path)
    options = {"calculator": f"{__name__}.FailsOnce", "fmax": 0.05, "steps": 60}
    found = run(make_start(0), CalculationKind.RELAX, **options)
    (end,) = tmp_path.rglob(END)
    end.unlink()  # as if it had been killed after its last step
    again = run(make_start(0), CalculationKind.RELAX, **options)
    assert (again.n_calls, again.n_frames) == (found.n_calls, found.n_frames)


def test_an_energy_that_is_not_finite_is_a_failure_and_no_frame(make_start: MakeStart) -> None:
    overflown = run(make_start(0), CalculationKind.RELAX, calculator=f"{__name__}.Overflows")
    assert overflown.failure.reason is FailureReason.NOT_FINITE
    assert (overflown.n_frames, overflown.n_calls) == (0, 1)
    assert not overflown.converged


@pytest.mark.parametrize(
    ("calculator", "keyword"),
    [("tblite.ase.TBLite", "total_charge"), ("ase.calculators.emt.EMT", "charge")],
)
def test_a_keyword_that_a_calculator_would_silently_ignore_is_refused(
    make_start: MakeStart, calculator: str, keyword: str
) -> None:
    """ASE calculators take any keyword; tblite would compute every charge as neutral."""
    with pytest.raises(EngineError, match=r"would ignore it; correct settings\.charge_keyword"):
        run(make_start(-1), calculator=calculator, kwargs={}, charge_keyword=keyword)


def test_an_explosion_ends_the_relaxation_and_keeps_its_frame(make_start: MakeStart) -> None:
    """Lennard-Jones atoms twice the size of the bonds."""
    settings = {
        "calculator": "ase.calculators.lj.LennardJones",
        "kwargs": {"sigma": 4.0, "epsilon": 10.0},
        "charge_info": "charge",
    }
    maker = reference_maker(
        "mine", FidelitySettings(engine="ase", settings=settings), CalculationKind.RELAX
    )
    exploded = maker.compute(make_start(0), uuid="u")
    assert exploded.failure.reason is FailureReason.EXPLODED
    assert exploded.n_frames == 1
    assert not exploded.converged


def test_the_provenance_names_the_package_and_the_charge(make_start: MakeStart) -> None:
    record = run(make_start(-1)).engine
    assert (record.name, record.settings["charge"]) == ("tblite", -1)
    assert record.settings["calculator"] == "tblite.ase.TBLite"


def test_a_method_without_forces_gives_energies_and_cannot_relax(make_start: MakeStart) -> None:
    name = f"{EnergyAlone.__module__}.EnergyAlone"
    bare, full = run(make_start(-1), calculator=name), run(make_start(-1))
    assert bare.failure is None
    assert bare.frames[0].forces is None
    assert bare.frames[0].energy == full.frames[0].energy
    assert full.frames[0].forces is not None
    with pytest.raises(EngineError, match="no forces and cannot relax"):
        run(make_start(-1), CalculationKind.RELAX, calculator=name)
