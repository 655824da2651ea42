"""Vibrations and dynamics of a finished campaign and of files: text, figures, commands."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from defect_mf_flows.cli import main
from defect_mf_flows.core.charge import charge_of, read_extxyz, write_extxyz
from defect_mf_flows.core.charge import to_atoms as atoms_of
from defect_mf_flows.errors import ChargeError, ResultsError
from defect_mf_flows.learning.models import write_model
from defect_mf_flows.learning.vibrations import VibrationOptions
from defect_mf_flows.report.dynamics_figure import dynamics_lines, write_dynamics
from defect_mf_flows.report.vibrations_figure import vibration_lines, write_vibrations
from defect_mf_flows.results.cells import campaign_cells, file_cells
from defect_mf_flows.results.dynamics import cell_dynamics
from defect_mf_flows.results.vibrations import vibration_report
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.dynamics import DynamicsEnd, DynamicsReport, DynamicsSettings
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.vibrations import VibrationReport

OPTIONS = VibrationOptions(temperatures=(0.0, 300.0), follow=8, steps=6000)


@pytest.fixture(scope="module")
def report(finished: Any) -> VibrationReport:
    return vibration_report(campaign_cells(finished.api, "v_Zn"), OPTIONS)


def test_a_campaign_gives_each_charge_its_own_minimum_and_the_shift_of_its_level(
    report: VibrationReport, finished: Any
) -> None:
    assert [s.charge for s in report.states] == [0, -1]
    assert {s.head for s in report.states} == {"gfn2"}
    (shift,) = report.shifts
    (level,) = finished.results.transition_levels
    assert shift.static == level.hf
    free = [[t.free_energy for t in s.thermal] for s in report.states]
    assert shift.shifts == pytest.approx([b - a for a, b in zip(*free, strict=True)])
    text = "\n".join(vibration_lines(report))
    assert f"level (0/-1) at 300 K: {1000 * shift.shifts[1]:+.1f} meV" in text
    assert "note  A test: these numbers mean nothing." in text
    again = VibrationReport.model_validate_json(report.model_dump_json())
    assert again.shifts == report.shifts
    assert charge_of(again.states[1].structure) == -1


def test_the_figures_are_pictures(report: VibrationReport, tmp_path: Path) -> None:
    for ending, head in ((".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")):
        write_vibrations(report, tmp_path / f"v{ending}")
        assert (tmp_path / f"v{ending}").read_bytes().startswith(head)
    with pytest.raises(ResultsError, match="choose a figure's ending"):
        write_vibrations(report, tmp_path / "v.jpeg")


def test_what_a_campaign_does_not_have_is_named(finished: Any) -> None:
    with pytest.raises(ResultsError, match=r"v_S: choose one of v_Zn \(--defect\)"):
        campaign_cells(finished.api, "v_S")
    with pytest.raises(ResultsError, match=r"v_Zn -2: .* there are .*-1.*\(--charge\)"):
        campaign_cells(finished.api, None, (0, -2))
    both = campaign_cells(finished.api, None)
    with pytest.raises(ResultsError, match=r"charges 0, -1; give one of them \(--charge\)"):
        cell_dynamics(both, DynamicsSettings(), Path("never.xyz"), steps=1)


def test_dynamics_of_a_ground_state_follow_the_vacancys_neighbours(
    finished: Any, tmp_path: Path
) -> None:
    cells = campaign_cells(finished.api, "v_Zn", (-1,))
    found = cell_dynamics(
        cells, DynamicsSettings(temperature=50, every=5), tmp_path / "md.xyz", steps=10
    )
    assert len(found.bonds) == 6, "between four neighbours"
    assert all(name.count("S") == 2 for name in found.bonds)
    assert found.times == [0.0, 5.0, 10.0]
    assert "v_Zn, charge -1, head gfn2, Langevin at 50 K" in "\n".join(dynamics_lines(found))
    write_dynamics(found, tmp_path / "md.png")
    assert (tmp_path / "md.png").read_bytes().startswith(b"\x89PNG")
    exploded = found.model_copy(update={"end": DynamicsEnd.EXPLODED, "message": "step 11: hot"})
    assert "EXPLODED at step 11: hot" in "\n".join(dynamics_lines(exploded))


@pytest.fixture(scope="module")
def folder(model: Model, labelled: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models"), model, labelled.frames, labelled.dataset)


@pytest.fixture
def call() -> Callable[..., Any]:
    return lambda *arguments: CliRunner().invoke(main, [str(a) for a in arguments])


def test_a_model_and_a_structure_do_without_a_campaign(
    call: Callable[..., Any],
    folder: Path,
    make_start: Callable[..., StartStructure],
    tmp_path: Path,
) -> None:
    make_start(0, 1).structure.to(filename=str(tmp_path / "POSCAR"))
    given = ("--model", folder, "--structure", tmp_path / "POSCAR", "--charge", -1)
    out = tmp_path / "v.json"
    answer = call("vibrations", *given, "--follow", 8, "--steps", 6000, "--temperature", 300,
                  "--json", out, "--figure", tmp_path / "v.png")  # fmt: skip
    assert answer.exit_code == 0, answer.output
    found = VibrationReport.model_validate_json(out.read_text())
    assert [s.charge for s in found.states] == [-1]
    assert found.head == "high"
    assert found.shifts == []
    assert (tmp_path / "v.png").stat().st_size > 1000

    md = ("md", *given, "--trajectory", tmp_path / "md.xyz", "--temperature", 50, "--every", 5)
    around = ("--around", 0.0, 0.0, 0.0)
    answer = call(*md, *around, "--steps", 10, "--json", "-")
    assert answer.exit_code == 0, answer.output
    first = DynamicsReport.model_validate(json.loads(answer.stdout))
    assert first.bonds
    answer = call(*md, *around, "--steps", 20)
    assert "20 steps, 10 of them by earlier calls" in answer.output
    assert len(read_extxyz(tmp_path / "md.xyz")) == 5
    other = call(*md, "--steps", 20, "--seed", 1)
    assert other.exit_code == 1
    assert "seed 0, now 1" in other.output


def test_a_file_that_contradicts_its_charge_is_refused(
    model: Model, make_start: Callable[..., StartStructure], tmp_path: Path
) -> None:
    structure = make_start(-1, 1).structure
    atoms = atoms_of(structure)
    atoms.info["fidelity"] = "high"
    write_extxyz(tmp_path / "a.xyz", [atoms])
    assert charge_of(file_cells(model, tmp_path / "a.xyz").cells[0].structure) == -1
    with pytest.raises(ChargeError, match=r"a\.xyz: carries charge -1, not \+0 \(--charge\)"):
        file_cells(model, tmp_path / "a.xyz", charge=0)
    structure.to(filename=str(tmp_path / "POSCAR"))
    with pytest.raises(ChargeError, match="POSCAR: carries no charge; give --charge"):
        file_cells(model, tmp_path / "POSCAR")
    (tmp_path / "b.cif").write_text("nothing")
    with pytest.raises(ResultsError, match=r"b\.cif: not readable"):
        file_cells(model, tmp_path / "b.cif", charge=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vibrations",), "give a CAMPAIGN, or --model and --structure"),
        (("md", "c.yaml", "--trajectory", "a.xyz", "--spin", 1), "--spin and --around go with"),
        (("vibrations", "c.yaml", "--strain", 0.01), "at least five"),
        (("vibrations", "c.yaml", "--figure", "a.jpeg"), "choose a figure's ending"),
    ],
)
def test_a_wrong_command_says_what_to_give(
    call: Callable[..., Any], arguments: tuple[Any, ...], message: str
) -> None:
    answer = call(*arguments)
    assert answer.exit_code != 0
    assert message in answer.output
