"""Whether the host is a minimum of each fidelity, with real tight binding."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from pymatgen.core import Structure

from defect_mf_flows.cli import main
from defect_mf_flows.engines import xtb
from defect_mf_flows.errors import CampaignError
from defect_mf_flows.local.host_check import DROP, MOVED, HostCheck, check_host
from defect_mf_flows.settings import get_settings
from defect_mf_flows.testing import write_campaign

METHODS = {
    "host.supercell": [1, 1, 1],
    "fidelities": {
        name: {"engine": "xtb", "settings": {"method": method}, "fmax": 0.05, "steps": 40}
        for name, method in (("low", "GFN1-xTB"), ("high", "GFN2-xTB"))
    },
    "roles": {"low": "low", "high": "high"},
}


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A folder of its own for steps, in which no other test has computed the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEFECT_MF_SCRATCH", str(tmp_path / "scratch"))
        get_settings.cache_clear()
        yield tmp_path / "scratch"
    get_settings.cache_clear()


def distorted(folder: Path) -> Path:
    """A campaign whose host file has one of its eight atoms 0.4 A away from its site."""
    # Less symmetric, its defects have other names: all of them, by doped's own choice of charges.
    every = {"defects.include": [], "defects.charges": {}}
    file = write_campaign(folder, {**METHODS, **every})
    host = Structure.from_file(folder / "host.cif")
    host.translate_sites([0], [0.4, 0.0, 0.0], frac_coords=False)
    host.to(filename=str(folder / "host.cif"))
    return file


def test_a_host_may_be_a_minimum_of_one_fidelity_alone(tmp_path: Path) -> None:
    """GFN2 at Gamma rebuilds eight atoms of ZnS, and leaves 32 as they are."""
    low, high = check_host(write_campaign(tmp_path, METHODS), rattle=0.1)
    assert (low.fidelity, low.held) == ("low", True)
    assert low.energy == pytest.approx(0.0, abs=DROP)
    assert low.calls > 3
    assert (high.fidelity, high.held) == ("high", False)
    larger = write_campaign(tmp_path, {**METHODS, "host.supercell": [2, 2, 1]})
    (high,) = check_host(larger, rattle=0.1, only=("high",))
    assert high.held


def test_a_host_file_that_is_not_relaxed_is_told(tmp_path: Path) -> None:
    (check,) = check_host(distorted(tmp_path), rattle=0.05, only=("low",))
    assert not check.held
    assert check.energy is not None
    assert check.energy < -DROP
    assert check.moved is not None
    assert check.moved > MOVED


def test_the_same_check_again_computes_nothing_twice(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_campaign(tmp_path, METHODS)
    (first,) = check_host(file, rattle=0.1, only=("low",))
    steps = list((scratch / "relaxations").glob("*/steps.jsonl"))
    assert len(steps) == 2, "the perfect crystal and the displaced one"
    monkeypatch.setattr("tblite.ase.TBLite.calculate", None)
    assert list(check_host(file, rattle=0.1, only=("low",))) == [first]


def test_an_engine_that_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_campaign(tmp_path, METHODS)
    monkeypatch.setitem(sys.modules, "tblite.ase", None)
    xtb._persistent_tblite.cache_clear()  # another test may have imported it
    answer = CliRunner().invoke(main, ["host", str(file), "--fidelity", "low"])
    assert answer.exit_code == 1
    assert "'low': tblite is not installed; pip install" in answer.output


def test_a_relaxation_that_runs_out_of_steps_is_no_proof(tmp_path: Path) -> None:
    changes = {**METHODS, "fidelities.low.steps": 2}
    (check,) = check_host(write_campaign(tmp_path, changes), rattle=0.1, only=("low",))
    assert not check.held
    assert check.trouble


def test_a_fidelity_that_the_file_lacks_is_refused_before_anything_is_computed(
    tmp_path: Path,
) -> None:
    with pytest.raises(CampaignError, match=r"campaign\.yaml: fidelities: no \['hse'\]"):
        check_host(write_campaign(tmp_path, METHODS), rattle=0.1, only=("hse",))


@pytest.mark.parametrize(
    ("energy", "moved", "trouble", "held"),
    [
        (0.003, 0.03, "", True),
        (-0.34, 0.03, "", False),
        (0.003, 0.43, "", False),
        (0.003, 0.03, "the relaxation did not converge", False),
        (None, None, "SCF not converged", False),
    ],
)
def test_a_host_is_held_where_energy_and_atoms_come_back(
    energy: float | None, moved: float | None, trouble: str, held: bool
) -> None:
    assert HostCheck("high", energy, moved, 10, trouble).held is held


def test_the_command_says_what_it_found_and_fails_where_the_host_is_not_held(
    tmp_path: Path,
) -> None:
    file = str(distorted(tmp_path))
    answer = CliRunner().invoke(main, ["host", file, "--fidelity", "low", "--rattle", "0.05"])
    assert answer.exit_code == 1
    assert answer.output.startswith("NOT HELD low: -")
    assert "Relax the host's structure file" in answer.output
