"""Dynamics against equipartition, through kills, and on a real model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.units
import numpy as np
import pytest
from ase.calculators.calculator import Calculator
from pymatgen.core import Lattice, Structure

from defect_mf_flows.core.charge import atoms_charge, atoms_fidelity, read_extxyz, with_charge
from defect_mf_flows.errors import ChargeError, DatasetError, DynamicsError
from defect_mf_flows.learning.dynamics import identify, model_dynamics, run_dynamics
from defect_mf_flows.learning.files import read_labelled
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.dynamics import DynamicsEnd, DynamicsReport, DynamicsSettings
from defect_mf_flows.schemas.model import Model

SPRING = 5.0  # eV/A^2
CRYSTAL = with_charge(
    Structure(Lattice.cubic(3.0), ["Zn", "S"], [[0, 0, 0], [0.5, 0.5, 0.5]]) * (3, 3, 3), -1
)
WARM = DynamicsSettings(temperature=400, timestep=2.0, friction=0.05, every=10, seed=3)


class Einstein(Calculator):
    """Every atom on a spring to its site; beyond ``breaks`` calls the springs push.

    Beyond ``fails`` calls the machine gives up.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(self, breaks: int | None = None, fails: int | None = None) -> None:
        super().__init__()
        self.breaks, self.fails, self.calls = breaks, fails, 0

    def calculate(self, atoms: Any = None, *arguments: Any, **options: Any) -> None:
        super().calculate(atoms, *arguments, **options)
        self.calls += 1
        if self.fails is not None and self.calls > self.fails:
            raise RuntimeError("out of memory")
        broken = self.breaks is not None and self.calls > self.breaks
        shift = atoms.get_positions() - CRYSTAL.cart_coords
        spring = -200 * SPRING if broken else SPRING
        self.results = {"energy": 0.5 * spring * float((shift**2).sum()), "forces": -spring * shift}


def walk(
    path: Path,
    steps: int,
    *,
    settings: DynamicsSettings = WARM,
    structure: Structure = CRYSTAL,
    **options: Any,
) -> DynamicsReport:
    identity = identify(structure, "pbe", "0" * 64, settings, defect="v_Zn")
    return run_dynamics(
        structure, options.pop("calculator", Einstein()), identity, path, steps=steps, **options
    )


def test_kinetic_and_potential_energy_share_equally(tmp_path: Path) -> None:
    found = walk(tmp_path / "md.xyz", 2000)
    assert found.end is DynamicsEnd.DONE
    assert found.steps == 2000
    late = slice(40, None)
    assert np.mean(found.temperatures[late]) == pytest.approx(400, rel=0.04)
    # The centre of mass is held, and so are three springs' worth of energy.
    modes = 3 * len(CRYSTAL) - 3
    expected = modes / 2 * ase.units.kB * 400
    assert np.mean(found.energies[late]) == pytest.approx(expected, rel=0.04)
    # Canonical, and not just the right mean: Var(T) = 2 T^2 / modes.
    assert np.std(found.temperatures[late]) == pytest.approx(400 * np.sqrt(2 / modes), rel=0.2)


def test_every_frame_carries_charge_and_fidelity_and_is_no_label(tmp_path: Path) -> None:
    walk(tmp_path / "md.xyz", 30)
    frames = read_extxyz(tmp_path / "md.xyz")
    assert [f.info["md_step"] for f in frames] == [0, 10, 20, 30]
    assert {atoms_charge(f) for f in frames} == {-1}
    assert {atoms_fidelity(f) for f in frames} == {"pbe"}
    assert all(np.abs(f.get_momenta()).max() > 0 for f in frames)
    with pytest.raises(DatasetError, match="REF_energy"):
        read_labelled(tmp_path / "md.xyz", lineage=False)


def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole = walk(tmp_path / "whole.xyz", 60, pairs=[(0, 1)])

    class Killed(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done == 37:
            raise Killed

    path = tmp_path / "cut.xyz"
    with pytest.raises(Killed):
        walk(path, 60, progress=kill)
    with path.open("a") as file:  # killed within a frame
        file.write("54\nLattice=")
    again = walk(path, 60, pairs=[(0, 1)])
    assert again.continued_from == 30
    assert path.read_bytes() == (tmp_path / "whole.xyz").read_bytes()
    assert again.bonds == whole.bonds
    assert list(again.bonds) == ["Zn0-Zn1"]
    assert walk(path, 80).times[-1] == 160.0


def test_another_trajectory_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "md.xyz"
    path.write_text("precious")
    with pytest.raises(DynamicsError, match=r"md\.xyz exists and has no checkpoint"):
        walk(path, 10)
    assert path.read_text() == "precious"
    other = tmp_path / "other.xyz"
    walk(other, 10)
    before = other.read_bytes()
    with pytest.raises(DynamicsError, match=r"another trajectory \(temperature 400.0, now 500.0\)"):
        walk(other, 20, settings=WARM.model_copy(update={"temperature": 500.0}))
    with pytest.raises(DynamicsError, match=r"charge -1, now 0"):
        walk(other, 20, structure=with_charge(CRYSTAL, 0))
    assert other.read_bytes() == before
    other.write_bytes(before[:-10])
    with pytest.raises(DynamicsError, match="altered"):
        walk(other, 20)


def test_atoms_that_explode_end_the_trajectory_before_them(tmp_path: Path) -> None:
    path = tmp_path / "md.xyz"
    found = walk(path, 200, calculator=Einstein(breaks=45))
    assert found.end is DynamicsEnd.EXPLODED
    assert "step" in found.message
    assert 40 <= found.steps < 200
    assert found.farthest < 1.0
    assert max(found.temperatures) < 6 * 400 + 2000
    assert walk(path, 400).message == found.message, "and stays ended"


def test_a_machine_that_fails_is_no_explosion_and_the_trajectory_goes_on(tmp_path: Path) -> None:
    path, whole = tmp_path / "md.xyz", tmp_path / "whole.xyz"
    with pytest.raises(DynamicsError, match=r"out of memory\); .* goes on from step \d+"):
        walk(path, 60, calculator=Einstein(fails=30))
    found = walk(path, 60)
    assert (found.end, found.steps) == (DynamicsEnd.DONE, 60)
    assert 0 < found.continued_from < 60
    walk(whole, 60)
    assert path.read_bytes() == whole.read_bytes()


@pytest.fixture(scope="module")
def potential(model: Model) -> Potential:
    return Potential(model, head="high", dtype="float64")


def test_the_charged_model_moves_and_keeps_charge_and_head(
    potential: Potential, make_start: Callable[..., StartStructure], tmp_path: Path
) -> None:
    settings = DynamicsSettings(temperature=50, every=5)
    ends = []
    for charge in (0, -1):
        path = tmp_path / f"{charge}.xyz"
        found = model_dynamics(
            potential, make_start(charge, None).structure, settings, path, steps=20
        )
        assert found.steps == 20, found.message
        frames = read_extxyz(path)
        assert {(atoms_charge(f), atoms_fidelity(f)) for f in frames} == {(charge, "high")}
        ends.append(frames[-1].get_positions())
    assert np.abs(ends[0] - ends[1]).max() > 1e-6, "the charge moves the atoms"


def test_a_flipped_charge_is_refused(
    potential: Potential, make_start: Callable[..., StartStructure], tmp_path: Path
) -> None:
    neutral, charged = (make_start(q, None).structure for q in (0, -1))
    identity = identify(neutral, "high", potential.document.model_hash, DynamicsSettings())
    with pytest.raises(ChargeError, match="charge -1, atoms carry"):
        run_dynamics(neutral, potential.calculator(charged), identity, tmp_path / "a", steps=5)
    with pytest.raises(ChargeError):
        model_dynamics(
            potential, with_charge(neutral, 3), DynamicsSettings(), tmp_path / "b", steps=5
        )
