"""A benchmark on labels that somebody has: what is read, what is refused, and the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from defect_mf_flows.benchmark.agreement import agreements
from defect_mf_flows.benchmark.closer import bring_closer
from defect_mf_flows.benchmark.given import read_pool
from defect_mf_flows.benchmark.pool import HIGH, LOW, Pool
from defect_mf_flows.campaign import LearningSettings
from defect_mf_flows.cli import main
from defect_mf_flows.core.charge import frame_to_atoms, write_extxyz
from defect_mf_flows.errors import DatasetError, FidelityError
from defect_mf_flows.schemas.frame import Frame

SETTINGS = LearningSettings(heads=[LOW, HIGH])


def write(path: Path, frames: list[Frame]) -> Path:
    write_extxyz(path, [frame_to_atoms(frame) for frame in frames])
    return path


def labels(pool: Pool) -> list[tuple[int, float, float, bool]]:
    """Charge, energies and place of every point; text files round them."""
    return sorted(
        (p.low.charge, round(p.low.energy, 5), round(p.high.energy, 5), p.is_end)
        for p in pool.small
    )


@pytest.fixture
def frames(pool: Pool) -> list[Frame]:
    points = [frame for p in pool.small for frame in (p.low, p.high)]
    return [*points, *(pool.hosts["small", head] for head in (LOW, HIGH))]


@pytest.mark.slow
def test_a_file_holds_the_pool_that_was_written_into_it(
    pool: Pool,
    frames: list[Frame],
    tmp_path: Path,
) -> None:
    found = read_pool([write(tmp_path / "labels.extxyz", frames[::-1])], SETTINGS)
    assert labels(found) == labels(pool)
    assert found.heads == (LOW, HIGH)
    assert {f.fidelity: f.energy for f in found.hosts.values()} == pytest.approx(
        {head: pool.hosts["small", head].energy for head in (LOW, HIGH)}
    )
    assert found.failed == 0
    turned = read_pool([tmp_path / "labels.extxyz"], LearningSettings(heads=[HIGH, LOW]))
    assert all(p.low.fidelity == HIGH for p in turned.small)


@pytest.mark.slow
def test_a_geometry_with_one_label_is_counted_and_left_out(
    pool: Pool,
    frames: list[Frame],
    tmp_path: Path,
) -> None:
    found = read_pool([write(tmp_path / "labels.extxyz", frames[1:])], SETTINGS)
    assert len(found.small) == len(pool.small) - 1
    assert found.failed == 1


@pytest.mark.slow
def test_what_cannot_be_compared_is_refused(
    pool: Pool,
    frames: list[Frame],
    tmp_path: Path,
) -> None:
    low = write(tmp_path / "low.extxyz", [p.low for p in pool.small])
    with pytest.raises(DatasetError, match=r"low\.extxyz: no geometry has a label of"):
        read_pool([low], SETTINGS)
    with pytest.raises(FidelityError, match="must name the two fidelities"):
        read_pool([low], LearningSettings(heads=[LOW]))
    nameless = frames[0].model_copy(
        update={"lineage": frames[0].lineage.model_copy(update={"defect": None})}
    )
    with pytest.raises(DatasetError, match="has no lineage_defect, as only the neutral host may"):
        read_pool([write(tmp_path / "nameless.extxyz", [nameless, *frames[1:]])], SETTINGS)
    atoms = frame_to_atoms(frames[0])
    atoms.info["REF_energy"] += 0.5
    write_extxyz(tmp_path / "other.extxyz", [atoms])
    with pytest.raises(DatasetError, match="labels one geometry of charge"):
        read_pool([write(tmp_path / "all.extxyz", frames), tmp_path / "other.extxyz"], SETTINGS)
    larger = [frame for p in pool.large for frame in (p.low, p.high)]
    both = write(tmp_path / "both.extxyz", [*frames, *larger])
    with pytest.raises(DatasetError, match="have 2 compositions"):
        read_pool([both], SETTINGS)
    first = {p.low.charge: p.relaxation for p in pool.small}
    few = [f for p in pool.small if p.relaxation in first.values() for f in (p.low, p.high)]
    with pytest.raises(DatasetError, match=r"charge -1, \+0 has fewer than 3 relaxations"):
        read_pool([write(tmp_path / "few.extxyz", few)], SETTINGS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fidelity", "sampling"])
def test_the_command_writes_the_page_of_a_file(
    frames: list[Frame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("mine.extxyz"), frames)
    training = {
        "max_epochs": 1,
        "num_interactions": 1,
        "r_max": 3.4,
        "hidden_irreps": "4x0e + 4x1o",
    }
    Path("mine.yaml").write_text(yaml.safe_dump({"heads": [LOW, HIGH], "training": training}))
    asked = ["benchmark", name, "--quick", "--workers", "1", "--out", "tables"]
    result = CliRunner().invoke(
        main, [*asked, "--pool", "cache", "--frames", "mine.extxyz", "--settings", "mine.yaml"]
    )
    assert result.exit_code == 0, result.output
    text = Path(f"tables/{name}-mine-quick.md").read_text()
    assert "--frames mine.extxyz --settings mine.yaml" in text
    assert "Labels of mine.extxyz." in text
    assert "Tight binding" not in text
    assert f"{HIGH} forces near minima" in text
    rows = json.loads(Path(f"tables/{name}-mine-quick.json").read_text())["rows"]
    assert {row["seed"] for row in rows} == {1}


@pytest.mark.slow
def test_the_agreement_of_a_file_is_shown_without_training(
    frames: list[Frame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("mine.extxyz"), frames)
    Path("mine.yaml").write_text(yaml.safe_dump({"heads": [LOW, HIGH]}))
    asked = ["benchmark", "agreement", "--out", "tables", "--pool", "cache"]
    result = CliRunner().invoke(
        main, [*asked, "--frames", "mine.extxyz", "--settings", "mine.yaml"]
    )
    assert result.exit_code == 0, result.output
    assert f"What {LOW} says of {HIGH}" in Path("tables/agreement-mine.md").read_text()
    assert Path("tables/agreement-mine.svg").read_text().startswith("<?xml")
    rows = json.loads(Path("tables/agreement-mine.json").read_text())["rows"]
    assert [row["charge"] for row in rows] == [-1, 0]
    assert not Path("cache").exists()
    closer = ["--disagreement", "0.25"]
    result = CliRunner().invoke(
        main, [*asked, *closer, "--frames", "mine.extxyz", "--settings", "mine.yaml"]
    )
    assert result.exit_code == 0, result.output
    assert "--disagreement 0.25" in Path("tables/agreement-mine-disagreement-0.25.md").read_text()
    less = json.loads(Path("tables/agreement-mine-disagreement-0.25.json").read_text())["rows"]
    expected = agreements(bring_closer(read_pool([Path("mine.extxyz")], SETTINGS), 0.25))
    assert [row["difference"] for row in less] == pytest.approx(
        [found.difference for found in expected],
        rel=1e-4,  # the file has six digits
        nan_ok=True,
    )
    assert [row["pairs"] for row in less] == [found.pairs for found in expected]


@pytest.mark.parametrize("share", ["0", "1", "-0.5"])
def test_labels_outside_the_two_fidelities_are_refused(share: str) -> None:
    result = CliRunner().invoke(main, ["benchmark", "fidelity", "--disagreement", share])
    assert result.exit_code == 2
    assert "--disagreement" in result.output


@pytest.mark.parametrize("given", [["--frames", __file__], ["--settings", "mine.yaml"]])
def test_labels_and_settings_belong_together(given: list[str]) -> None:
    result = CliRunner().invoke(main, ["benchmark", "fidelity", *given])
    assert result.exit_code == 2
    assert "--frames and --settings belong together" in result.output
