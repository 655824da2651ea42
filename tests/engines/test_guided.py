"""A cheap method guides the relaxations of an expensive one, and may be wrong or fail."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import CalculationFailed
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential
from tblite.ase import TBLite

from defect_mf_flows.campaign import FidelitySettings
from defect_mf_flows.engines import guided, reference_maker
from defect_mf_flows.engines.checkpoint import END, STEPS
from defect_mf_flows.engines.guided import GuidedRelaxer, centred
from defect_mf_flows.engines.relaxer import LONGEST, Relaxer
from defect_mf_flows.engines.reuse import take_over
from defect_mf_flows.errors import ChargeError, EngineError, FidelityError
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind
from defect_mf_flows.schemas.curvature import Curvature, geometry_hash, triangle_of
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.frame import structure_key
from tests.engines.test_relaxer import FMAX, force, path_of, vacancy

MakeStart = Callable[..., StartStructure]
PAIRS = {"sigma": 2.3, "epsilon": 0.35, "rc": 5.0}
RELAX = CalculationKind.RELAX


class Apart(EMT):
    """EMT and a pair potential that is stiffer than EMT itself."""

    def calculate(self, *arguments: Any, **options: Any) -> None:
        super().calculate(*arguments, **options)
        other = self.atoms.copy()
        other.calc = LennardJones(**PAIRS)
        self.results["energy"] += other.get_potential_energy()
        self.results["forces"] = self.results["forces"] + other.get_forces()


class Stiffer(EMT):
    """EMT and a weak bond between neighbours: EMT alone is a cheap form of it."""

    def calculate(self, *arguments: Any, **options: Any) -> None:
        super().calculate(*arguments, **options)
        other = self.atoms.copy()
        other.calc = MorsePotential(epsilon=0.15, r0=2.6, rho0=5.0, rcut1=3.2, rcut2=4.5)
        self.results["energy"] += other.get_potential_energy()
        self.results["forces"] = self.results["forces"] + other.get_forces()


class Fails(EMT):
    """EMT that fails from its fourth geometry on."""

    geometries = 0

    def calculate(self, *arguments: Any, **options: Any) -> None:
        self.geometries += 1
        if self.geometries > 3:
            raise CalculationFailed("no convergence")
        super().calculate(*arguments, **options)


class Misread(TBLite):
    """A guide that keeps its default whatever charge it is given."""

    def __init__(self, charge: int = 0, **options: Any) -> None:
        super().__init__(charge=0, **options)


def expensive(seed: int = 1, calculator: type = Stiffer, rattle: float = 0.15) -> Atoms:
    atoms = vacancy(seed, rattle=rattle)
    atoms.calc = calculator()
    return atoms


def guided_by(atoms: Atoms, calculator: Any) -> GuidedRelaxer:
    guide = atoms.copy()
    guide.calc = calculator
    return GuidedRelaxer(atoms, guide, FMAX)


@pytest.mark.parametrize(
    ("calculator", "rattle", "most"),
    [
        (Stiffer, 0.15, 0.8),
        (Stiffer, 0.05, 0.7),
        (Apart, 0.15, 1.0),
        (Apart, 0.05, 0.9),
    ],
)
def test_it_ends_in_the_same_minimum_for_fewer_expensive_calls(
    calculator: type, rattle: float, most: float
) -> None:
    """Sums over three starts; the less the methods differ, the fewer."""
    alone_calls = guided_calls = 0
    for seed in (1, 2, 3):
        alone, led = (expensive(seed, calculator, rattle) for _ in range(2))
        alone_calls += len(path_of(alone, Relaxer(alone)))
        relaxer = guided_by(led, EMT())
        guided_calls += len(path_of(led, relaxer))
        assert led.get_potential_energy() == pytest.approx(alone.get_potential_energy(), abs=0.01)
        assert relaxer.given_up == ""
    assert guided_calls <= most * alone_calls


def test_a_guide_that_is_the_expensive_method_leads_there_in_a_few_steps() -> None:
    atoms = expensive()
    assert len(path_of(atoms, guided_by(atoms, Stiffer()))) <= 4


def test_no_atom_moves_further_than_allowed_from_the_lowest_geometry() -> None:
    atoms = expensive(rattle=0.3)
    path = path_of(atoms, guided_by(atoms, EMT()))
    for number in range(1, len(path)):
        lowest = min(path[:number], key=lambda image: image.get_potential_energy())
        moved = np.linalg.norm(path[number].positions - lowest.positions, axis=1).max()
        assert moved <= LONGEST + 1e-6


def test_a_guide_that_knows_nothing_costs_calls_but_not_the_minimum() -> None:
    """Pairs that would rather be further apart."""
    alone, misled = expensive(), expensive()
    path_of(alone, Relaxer(alone))
    relaxer = guided_by(misled, LennardJones(sigma=3.0, epsilon=0.2, rc=6.0))
    path = path_of(misled, relaxer)
    assert misled.get_potential_energy() == pytest.approx(alone.get_potential_energy(), abs=0.01)
    assert len(path) < 80


def test_where_the_guide_fails_springs_go_on_from_there() -> None:
    alone, left = expensive(), expensive()
    path_of(alone, Relaxer(alone))
    relaxer = guided_by(left, Fails())
    path_of(left, relaxer)
    assert "the guide failed: CalculationFailed: no convergence" in relaxer.given_up
    assert left.get_potential_energy() == pytest.approx(alone.get_potential_energy(), abs=0.01)


def test_a_relaxation_of_many_steps_ends_without_its_guide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guided, "MOST_STEPS", 2)
    atoms = expensive()
    relaxer = guided_by(atoms, EMT())
    path_of(atoms, relaxer)
    assert relaxer.given_up == "2 guided steps have not converged"
    assert force(atoms) < FMAX


def test_the_latest_geometries_and_the_lowest_are_learned_from_where_all_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    atoms = expensive()
    monkeypatch.setattr(guided, "MOST_NUMBERS", 3 * (3 * len(atoms) + 1))
    path = path_of(atoms, guided_by(atoms, EMT()))
    assert len(path) > 4


@pytest.mark.parametrize("calculator", [EMT, Fails])
@pytest.mark.parametrize("done", [1, 2, 4])
def test_after_a_kill_it_goes_on_as_it_would_have(done: int, calculator: type) -> None:
    whole = expensive()
    path = path_of(whole, guided_by(whole, calculator()))
    again = expensive()
    relaxer = guided_by(again, calculator())
    relaxer.replay_trajectory(path[:done])
    again.positions = path[done - 1].positions
    rest = path_of(again, relaxer)
    if calculator is EMT:
        assert len(rest) == len(path) - done + 1
        np.testing.assert_allclose(rest[-1].positions, path[-1].positions, atol=1e-6)
    assert again.get_potential_energy() == pytest.approx(whole.get_potential_energy(), abs=0.01)


def test_forces_that_do_not_add_up_to_nothing_move_no_cell() -> None:
    forces = centred(np.arange(12.0).reshape(4, 3))
    np.testing.assert_allclose(forces.sum(axis=0), 0, atol=1e-12)


# -- as part of an engine ------------------------------------------------------------------


def maker(method: str, *, guide: Any = None, reuse: bool = False, **changes: Any) -> Any:
    options = {"fmax": 0.1, "steps": 60, **changes}
    settings = FidelitySettings(engine="xtb", settings={"method": method}, **options)
    name = {"GFN1-xTB": "low", "GFN2-xTB": "high"}[method]
    return reference_maker(name, settings, RELAX, guide=guide, reuse=reuse)


def high(**changes: Any) -> Any:
    return maker("GFN2-xTB", guide=maker("GFN1-xTB"), **changes)


def of_low(calculation: Calculation) -> int:
    assert calculation.guide is not None
    return calculation.guide.calls


@pytest.fixture(scope="module")
def done(make_start: MakeStart) -> Calculation:
    return high().compute(make_start(-1), uuid="u")


def test_the_high_fidelity_is_asked_less_often_for_the_same_minimum(make_start: MakeStart) -> None:
    calls = [0, 0]
    for charge, seed in ((-1, 1), (0, 2), (1, 1)):
        alone = maker("GFN2-xTB", fmax=0.02).compute(make_start(charge, seed), uuid="u")
        led = high(fmax=0.02).compute(make_start(charge, seed), uuid="u")
        assert led.converged
        assert led.final_energy == pytest.approx(alone.final_energy, abs=0.002)
        assert (alone.guide, led.notes) == (None, [])
        assert {frame.fidelity for frame in led.frames} == {"high"}
        calls = [calls[0] + alone.n_calls, calls[1] + led.n_calls]
    assert calls[1] < calls[0]


def test_the_calculation_says_what_guided_it_and_what_that_cost(done: Calculation) -> None:
    assert done.guide.fidelity == "low"
    assert done.guide.engine.settings == {"method": "GFN1-xTB", "charge": -1}
    assert done.n_calls < of_low(done)


@pytest.mark.parametrize("charge", [0, -1])
def test_the_guide_computes_with_the_charge_of_the_start(
    make_start: MakeStart, charge: int
) -> None:
    guide = high()._guided(make_start(charge))
    assert guide.calc.parameters["charge"] == charge


def test_a_guide_that_ignores_the_charge_is_refused(make_start: MakeStart) -> None:
    settings = {
        "calculator": f"{__name__}.Misread",
        "kwargs": {"method": "GFN1-xTB", "verbosity": 0},
        "charge_keyword": "charge",
    }
    wrong = reference_maker("low", FidelitySettings(engine="ase", settings=settings), RELAX)
    with pytest.raises(ChargeError, match="computes with charge 0, not -1"):
        maker("GFN2-xTB", guide=wrong).compute(make_start(-1), uuid="u")


def test_a_fidelity_that_guides_itself_is_refused(done: Calculation) -> None:
    changed = done.model_dump()
    changed["guide"]["fidelity"] = "high"
    with pytest.raises(FidelityError, match="guided by its own fidelity 'high'"):
        Calculation.model_validate(changed)


def test_single_points_have_no_guide(make_start: MakeStart) -> None:
    settings = FidelitySettings(engine="xtb", settings={"method": "GFN2-xTB"})
    point = reference_maker(
        "high", settings, CalculationKind.STATIC, guide=maker("GFN1-xTB")
    ).compute(make_start(0), uuid="u")
    assert (point.guide, point.n_calls) == (None, 1)


def test_vasp_guides_only_vasp() -> None:
    settings = {"functional": "PBE", "encut": 300}
    vasp = reference_maker("low", FidelitySettings(engine="vasp", settings=settings), RELAX)
    with pytest.raises(EngineError, match="VASP guides only VASP, and this is xtb"):
        maker("GFN2-xTB", guide=vasp)


def test_a_curvature_and_a_guide_are_one_too_many(make_start: MakeStart) -> None:
    start = make_start(-1)
    size = 3 * len(start.structure)
    curvature = Curvature(
        job_uuid="m",
        model_hash="0" * 64,
        head="high",
        charge=-1,
        spin=None,
        geometry=geometry_hash(start),
        n_atoms=len(start.structure),
        triangle=triangle_of(np.eye(size)),
    )
    with pytest.raises(EngineError, match="give one of them"):
        high().compute(start, uuid="u", curvature=curvature)


@pytest.mark.parametrize("ended", [True, False])
def test_after_a_kill_steps_and_cheap_calls_are_those_of_one_run(
    make_start: MakeStart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    monkeypatch.setattr("defect_mf_flows.engines.ase.job_scratch", lambda uuid: tmp_path)
    whole = high().compute(make_start(-1), uuid="u")
    if not ended:
        (end,) = tmp_path.rglob(END)
        end.unlink()
        (steps,) = tmp_path.rglob(STEPS)
        kept = steps.read_text().splitlines(keepends=True)[:3]
        steps.write_text("".join(kept))  # the header and two steps
    again = high().compute(make_start(-1), uuid="u")
    assert again.n_calls == whole.n_calls
    assert again.final_energy == pytest.approx(whole.final_energy, abs=1e-4)
    if ended:
        assert again.guide == whole.guide
    else:
        assert of_low(again) >= of_low(whole)


def test_another_guide_is_another_calculation(make_start: MakeStart, done: Calculation) -> None:
    start, engine = make_start(-1), done.engine
    keys = {
        relaxer.hashed(done, start, engine).input_hash
        for relaxer in (
            high(),
            maker("GFN2-xTB"),
            maker("GFN2-xTB", guide=maker("GFN2-xTB", steps=5)),
        )
    }
    assert len(keys) == 3
    assert high(reuse=True).has_method_of(done, start, engine)
    assert not maker("GFN2-xTB").has_method_of(done, start, engine)


def test_taken_over_its_cheap_calls_are_saved_as_well(
    make_start: MakeStart, done: Calculation
) -> None:
    taken = take_over(done, make_start(-1), fidelity="high", uuid="other")
    assert (taken.guide.calls, taken.guide.calls_saved) == (0, of_low(done))


def test_steps_of_every_kind_are_paired_with_their_frames(done: Calculation) -> None:
    energies = [frame.energy for frame in done.frames]
    assert done.n_calls == len(energies)
    assert all(abs(a - b) > 1e-9 for a, b in pairwise(energies))
    assert structure_key(done.final_structure) == structure_key(done.frames[-1].structure)
