from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from defect_mf_flows.errors import CampaignError
from defect_mf_flows.settings import CONFIG_VARIABLE, Settings, available_cores, get_settings


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No DEFECT_MF_* variable of this machine, and no settings read before."""
    for name in [name for name in os.environ if name.startswith("DEFECT_MF_")]:
        monkeypatch.delenv(name)
    get_settings.cache_clear()
    yield
    get_settings.cache_clear()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "machine.yaml"
    monkeypatch.setenv(CONFIG_VARIABLE, str(path))
    return path


def test_without_any_setting_the_machine_has_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = get_settings()
    assert settings.scratch == tmp_path / "defect-mf-scratch"
    assert settings.workers is None
    assert settings.threads == max(1, available_cores() // 2)


def test_the_file_sets_what_the_environment_does_not(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text("scratch: /from/file\nworkers: 3\ntraining_threads: 5\n")
    monkeypatch.setenv("DEFECT_MF_SCRATCH", "/from/environment")
    settings = get_settings()
    assert settings.scratch == Path("/from/environment")
    assert settings.workers == 3
    assert settings.threads == 5


def test_an_empty_file_sets_nothing(config: Path) -> None:
    config.write_text("")
    assert get_settings().workers is None


def test_a_file_that_is_missing_is_named(config: Path) -> None:
    with pytest.raises(CampaignError, match=r"machine\.yaml: no such file; unset or correct it"):
        get_settings()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("wrokers: 3", r"unknown keys \['wrokers'\]; known are .*workers"),
        ("workers: [", "not readable as YAML"),
        ("- workers", "must be a mapping"),
        ("when: 2020-13-45", "not readable as YAML"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(
    config: Path, text: str, expected: str
) -> None:
    config.write_text(text)
    with pytest.raises(CampaignError, match=rf"machine\.yaml: {expected}"):
        get_settings()


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
@pytest.mark.parametrize("source", ["file", "environment"])
def test_a_value_that_makes_no_sense_is_refused_by_field(
    config: Path, monkeypatch: pytest.MonkeyPatch, source: str, value: str
) -> None:
    config.write_text(f"workers: {value}" if source == "file" else "")
    if source == "environment":
        monkeypatch.setenv("DEFECT_MF_WORKERS", value)
    with pytest.raises(CampaignError, match=r"workers: .*correct them"):
        get_settings()


def test_every_setting_is_documented() -> None:
    assert [name for name in Settings.model_fields if name not in (Settings.__doc__ or "")] == []


def test_a_search_job_takes_every_core_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("DEFECT_MF_SEARCH_PROCESSES", raising=False)
    assert Settings().relax_processes == available_cores()
    monkeypatch.setenv("DEFECT_MF_SEARCH_PROCESSES", "3")
    assert Settings().relax_processes == 3
