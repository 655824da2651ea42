"""`defect-mf import` as somebody uses it who has never used it."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from defect_mf_flows.cli import main
from defect_mf_flows.errors import ServiceError
from defect_mf_flows.local.mongod import find_mongod
from defect_mf_flows.local.sqlite_store import SqliteStore
from tests.importing.conftest import outcar, rewrite


def call(*arguments):
    return CliRunner().invoke(main, ["import", *map(str, arguments)])


@pytest.fixture
def without_mongod(monkeypatch):
    def none(configured=None):
        raise ServiceError("no mongod here.")

    monkeypatch.setattr("defect_mf_flows.local.imports.find_mongod", none)


def test_a_dry_run_prints_the_table_and_stores_nothing(tree, tmp_path, facts):
    done = call(tree, "--fidelity", "hse06", "--folder", tmp_path / "out", "--dry-run")
    assert done.exit_code == 0, done.output
    for word in ("vac_1_Zn_-2", "v_Zn", "-2", "ENCUT 500", facts.grid, "nothing was stored"):
        assert word in done.output
    assert f"5 new calculations with {facts.frames} frames" in done.output
    assert not (tmp_path / "out").exists()


def test_an_import_and_a_second_one_on_disk(tree, tmp_path, facts, without_mongod):
    where = tmp_path / "out"
    done = call(tree, "--fidelity", "hse06", "--folder", where)
    assert f"5 calculations, {facts.frames} frames added" in done.output, done.output
    again = call(tree, "--fidelity", "hse06", "--folder", where)
    assert again.exit_code == 0
    assert "5 already stored" in again.output
    assert "nothing added" in again.output
    store = SqliteStore(str(where / "job_store.sqlite"), "outputs", key="uuid")
    store.connect()
    assert store.count() == 5
    table = CliRunner().invoke(main, ["query", "calculations", "--folder", str(where)])
    assert table.output.count("converged") >= 5


@pytest.mark.mongod
def test_an_import_into_a_real_mongod(tree, tmp_path, facts):
    try:
        find_mongod()
    except ServiceError as error:
        pytest.skip(str(error))
    done = call(tree, "--fidelity", "hse06", "--folder", tmp_path / "out")
    assert f"5 calculations, {facts.frames} frames added" in done.output, done.output
    assert "nothing added" in call(tree, "--fidelity", "hse06", "--folder", tmp_path / "out").output


def test_strict_stores_nothing_if_anything_is_refused(tree, tmp_path, facts, without_mongod):
    rewrite(outcar(tree, "vac_1_Zn_-2"), lambda t: t.replace("=  500.0 eV", "=  400.0 eV"))
    done = call(tree, "--fidelity", "hse06", "--folder", tmp_path / "out", "--strict")
    assert done.exit_code == 1
    assert "ENCUT 400 instead of 500" in done.output
    assert "nothing was stored" in done.output
    lenient = call(tree, "--fidelity", "hse06", "--folder", tmp_path / "out")
    assert lenient.exit_code == 0
    assert (
        f"4 calculations, {facts.frames - facts.steps['vac_1_Zn_-2']} frames added"
        in lenient.output
    )


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: [p / "nowhere"], "no such file or folder"),
        (lambda p: [p], "no calculation found"),
    ],
)
def test_wrong_paths_are_explained(tmp_path, make, said, without_mongod):
    (tmp_path / "readme.txt").write_text("nothing here\n")
    done = call(*make(tmp_path), "--fidelity", "hse06", "--folder", tmp_path / "out")
    assert done.exit_code == 1
    assert said in done.output
    assert not (tmp_path / "out" / "job_store.sqlite").exists()


def test_a_folder_without_anything_usable_fails(tmp_path, without_mongod):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "OUTCAR").write_text("no OUTCAR\n")
    done = call(tmp_path / "a", "--fidelity", "hse06", "--folder", tmp_path / "out")
    assert done.exit_code == 1
    assert "is no OUTCAR of VASP" in done.output
    assert "nothing could be imported" in done.output


def test_a_wrong_name_is_refused(tmp_path):
    done = call(tmp_path, "--fidelity", "HSE 06/x")
    assert done.exit_code == 2
    assert "--fidelity" in done.output
