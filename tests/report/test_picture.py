"""Pictures of commands: refused by their ending before anything is computed."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from defect_mf_flows.cli import main
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.report.picture import check_ending, new_picture, save_picture


def test_a_picture_is_written_as_its_ending_says(tmp_path: Path) -> None:
    for name, begins in (("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF")):
        save_picture(new_picture(tmp_path / name, 2, 1), tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(begins)


def test_another_ending_is_refused_with_those_that_there_are() -> None:
    check_ending(None)
    with pytest.raises(ResultsError, match=r"a\.bmp: choose .* \.png, \.svg, \.pdf"):
        check_ending(Path("a.bmp"))


@pytest.mark.parametrize("command", ["ccd", "levels"])
def test_a_wrong_ending_is_told_before_the_work(
    command: str, tiny_campaign: Path, tmp_path: Path
) -> None:
    arguments = {
        "ccd": ["ccd", str(tiny_campaign), "--defect", "v_Zn", "--charges", "0", "-1"],
        "levels": ["levels", "--folder", str(tmp_path / "nothing")],
    }[command]
    done = CliRunner().invoke(main, [*arguments, "--figure", "a.bmp"])
    assert done.exit_code != 0
    assert "choose a figure's ending" in done.output
