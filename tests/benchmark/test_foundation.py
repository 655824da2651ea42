"""The benchmark of foundation models, with a small MACE file for one that is published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from pymatgen.core import Structure

from defect_mf_flows.benchmark import foundation
from defect_mf_flows.benchmark.foundation_models import (
    MODELS,
    find_model,
    is_charge_blind,
    load_model,
)
from defect_mf_flows.benchmark.foundation_page import distortion
from defect_mf_flows.benchmark.known import from_campaign, from_pool
from defect_mf_flows.benchmark.pool import PoolSize
from defect_mf_flows.benchmark.running import run_foundation
from defect_mf_flows.cli import main
from defect_mf_flows.core.charge import to_atoms, with_charge
from defect_mf_flows.errors import ResultsError, TrainingError
from defect_mf_flows.testing import zinc_blende
from tests.learning.foundations import write_foundation

SIZE = PoolSize(small=(1, 1, 1), charges=(0, -1), distortions=(-0.3, 0.2), steps=6)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_foundation(tmp_path_factory.mktemp("weights") / "small.model")


@pytest.mark.slow
def test_the_quick_form_runs_what_it_can_and_says_why_it_cannot_run_the_rest(
    weights: Path, tmp_path: Path
) -> None:
    def run() -> Path:
        return run_foundation(
            [f"mace-mpa-0={weights}", "orb-v3"],
            quick=True,
            size=SIZE,
            out=tmp_path / "out",
            folder=tmp_path / "cache",
            workers=1,
        )

    page = run()
    text = page.read_text()
    assert page.name == "foundation-quick.md"
    assert "Made by `defect-mf benchmark foundation --quick --model mace-mpa-0 --model orb-v3`" in (
        text
    )
    assert "| mace-mpa-0 | blind |" in text
    assert "| orb-v3 | not installed: pip install" in text
    assert "q = 0" in text
    assert "q = -1" in text
    assert (tmp_path / "out" / "foundation-quick.svg").is_file()
    rows = json.loads((tmp_path / "out" / "foundation-quick.json").read_text())["rows"]
    assert {row["charge"] for row in rows} == {0, -1}
    assert {"Unperturbed", "Bond_Distortion_-30.0%", "Bond_Distortion_20.0%"} <= {
        row["start"] for row in rows
    }
    assert {row["model"] for row in rows} == {"mace-mpa-0"}
    for charge in (0, -1):
        energies = [r["energy"] for r in rows if r["charge"] == charge and "energy" in r]
        assert min(energies) == 0.0
    # The second time nothing is computed, and the numbers are the same.
    files = {f: f.stat().st_mtime_ns for f in (tmp_path / "cache" / "foundation").iterdir()}
    numbers = (tmp_path / "out" / "foundation-quick.json").read_text()
    run()
    assert (tmp_path / "out" / "foundation-quick.json").read_text() == numbers
    assert {f: f.stat().st_mtime_ns for f in (tmp_path / "cache" / "foundation").iterdir()} == files


def test_a_known_ground_state_is_recognised_and_another_is_not(tmp_path: Path) -> None:
    (known,) = from_pool(SIZE, tmp_path, workers=1)
    ends = {
        charge: [
            ("itself", end(known.ground[charge], 0.0)),
            ("another", end(moved(known.ground[charge]), 0.4)),
            ("lost", {"problem": "exploded", "steps": 3}),
        ]
        for charge in known.ground
    }
    rows = foundation._compared(known, ends)
    assert [row["start"] for row in rows] == ["itself", "another", "lost"] * 2
    for itself, another, lost in (rows[:3], rows[3:]):
        assert itself["rmsd"] == pytest.approx(0.0, abs=1e-6)
        assert another["rmsd"] > 0.02
        assert another["energy"] == pytest.approx(0.4)
        assert "rmsd" not in lost


def test_an_end_that_has_collapsed_is_no_ground_state(tmp_path: Path) -> None:
    (known,) = from_pool(SIZE, tmp_path, workers=1)
    ground = known.ground[0]
    ends = {0: [(f"start {k}", end(ground, e)) for k, e in enumerate([0.0, 0.3, 14.0, -280.0])]}
    *sound, collapsed = foundation._compared(known, ends)
    assert [row["energy"] for row in sound] == pytest.approx([0.0, 0.3, 14.0])
    assert collapsed["problem"] == "collapsed, 280 eV below the median"
    assert "rmsd" not in collapsed


def moved(structure: Structure) -> Structure:
    """One atom is pushed by 0.4 Angstrom."""
    other = structure.copy()
    other.translate_sites([0], [0.4, 0.0, 0.0], frac_coords=False)
    return other


def end(structure: Structure, energy: float) -> dict[str, object]:
    return {"energy": energy, "converged": True, "steps": 1, "structure": structure.as_dict()}


def test_charge_blindness_is_found_out_and_not_assumed(weights: Path) -> None:
    structure = with_charge(zinc_blende(), 0)
    atoms = to_atoms(structure)
    model, path = find_model(f"mace-mpa-0={weights}")
    assert is_charge_blind(load_model(model, path), atoms)

    class Reads(type(load_model(model, path))):  # type: ignore[misc]
        """Adds a volt per charge."""

        def calculate(self, atoms=None, *arguments, **options):  # type: ignore[no-untyped-def]
            super().calculate(atoms, *arguments, **options)
            self.results["energy"] += float(atoms.info["charge"])

    reader = Reads(model_paths=str(weights), device="cpu", default_dtype="float64")
    assert not is_charge_blind(reader, atoms)


def test_names_and_files_that_do_not_exist_are_told(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no foundation model 'gpt' is known.*chgnet"):
        find_model("gpt")
    with pytest.raises(TrainingError, match="does not exist"):
        find_model(f"mace-mpa-0={tmp_path / 'none.model'}")
    with pytest.raises(TrainingError, match="cannot be loaded from a file"):
        find_model(f"chgnet={tmp_path}")
    shown = CliRunner().invoke(main, ["benchmark", "foundation", "--model", "gpt"])
    assert shown.exit_code == 1
    assert "no foundation model 'gpt'" in shown.output


def test_every_issue_named_family_has_an_entry() -> None:
    assert {"chgnet", "sevennet-0", "mattersim", "uma-s", "grace-2l-oam", "orb-v3"} <= set(MODELS)
    assert {"mace-mpa-0", "mace-mh-1"} <= set(MODELS)


def test_a_folder_without_results_is_refused(tiny_campaign: Path, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="give the folder of a finished campaign"):
        from_campaign(tiny_campaign, tmp_path)


def test_distortions_are_read_from_labels() -> None:
    assert distortion("Bond_Distortion_-50.0%") == -50.0
    assert distortion("Unperturbed") == 0.0
    assert distortion("Dimer_S3-S7") is None
