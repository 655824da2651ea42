"""The files of a site: what `init` writes, who may read it, what it never overwrites."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import fireworks.fw_config
import pytest
import yaml
from click.testing import CliRunner
from fireworks import FWorker, LaunchPad
from fireworks.user_objects.queue_adapters.common_adapter import CommonAdapter

from defect_mf_flows.cli import main
from defect_mf_flows.errors import SiteError
from defect_mf_flows.schemas.routing import Routing
from defect_mf_flows.settings import read_settings
from defect_mf_flows.site.connection import Site, SiteLaunchPad
from defect_mf_flows.site.files import (
    PRIVATE,
    TOP_LEVEL,
    SiteValues,
    own_command,
    site_files,
    write_site_files,
)
from tests.conftest import ROOT

PASSWORD = "p: 'Marked\" #1"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def init(tmp_path: Path):  # type: ignore[no-untyped-def]
    folder = tmp_path / "site"

    def run(*options: str, password: str | None = None):  # type: ignore[no-untyped-def]
        env = {"DEFECT_MF_PASSWORD": password}
        return folder, CliRunner().invoke(main, ["init", str(folder), *options], env=env)

    return run


@pytest.mark.parametrize("name", TOP_LEVEL)
def test_files_at_the_top_are_what_init_writes(name: str, init) -> None:  # type: ignore[no-untyped-def]
    shown = (ROOT / name).read_text()
    assert shown == site_files(SiteValues())[name]
    folder, result = init()
    assert result.exit_code == 0, result.output
    written = (folder / name).read_text().replace(str(folder), "/path/to/site")
    assert written.replace(own_command(), "defect-mf") == shown


def test_files_are_those_that_fireworks_and_this_package_read(init) -> None:  # type: ignore[no-untyped-def]
    folder, _ = init("--host", "db.example", "--port", "27099", "--database", "mf")
    site = Site.of(folder)
    assert site.fworker().category == "dft"
    assert site.fworker("my_gpu_fworker.yaml").category == ["train", "search"]
    assert FWorker.from_file(str(folder / "my_gpu_fworker.yaml")).name == "gpu"
    launchpad = LaunchPad.from_file(str(folder / "my_launchpad.yaml"))
    assert (launchpad.host, launchpad.port, launchpad.name) == ("db.example", 27099, "mf")
    store = site.store()
    assert (store.docs_store.host, store.docs_store.port) == ("db.example", 27099)
    assert store.additional_stores["data"].database == "mf"
    settings = read_settings(site.settings)
    assert settings.routing.reference.queue == "cpu"
    assert settings.routing.training.queue == "gpu"
    assert settings.routing.categories == Routing().categories
    assert settings.scratch == folder / "scratch"


def test_every_routing_field_is_shown() -> None:
    shown = yaml.safe_load(site_files(SiteValues())["defect_mf.yaml"])["routing"]
    assert set(shown) == set(Routing.model_fields)
    assert (
        Routing(**shown).model_dump()
        == Routing()
        .model_copy(
            update={
                name: getattr(Routing(), name).model_copy(update={"queue": queue})
                for name, queue in (
                    ("bookkeeping", "cpu"),
                    ("reference", "cpu"),
                    ("training", "gpu"),
                    ("search", "gpu"),
                )
            }
        )
        .model_dump()
    )


def read_adapter(path: Path) -> CommonAdapter:
    # Not by load_object_from_file, which imports every module, and so the tests, of fireworks.
    return CommonAdapter.from_dict(yaml.safe_load(path.read_text()))


def test_the_queue_script_names_the_site_and_its_worker(tmp_path: Path) -> None:
    folder = tmp_path / "a site; rm -rf"
    write_site_files(SiteValues(folder=folder, account="chem", gpu_queue="a100"))
    adapter = read_adapter(folder / "my_gpu_qadapter.yaml")
    script = adapter.get_script_str(str(tmp_path))
    (line,) = [text for text in script.splitlines() if text.startswith("exec defect-mf worker")]
    assert line.endswith(f"--site '{folder}' --fworker my_gpu_fworker.yaml singleshot")
    for wanted in ("--partition=a100", "--account=chem", "--gpus-per-node=1"):
        assert f"#SBATCH {wanted}" in script
    script = read_adapter(folder / "my_qadapter.yaml").get_script_str(str(tmp_path))
    assert "gpus" not in script
    assert "--fworker my_fworker.yaml" in script


def test_every_key_of_the_fireworks_file_is_known_to_fireworks(init) -> None:  # type: ignore[no-untyped-def]
    folder, _ = init()
    keys = yaml.safe_load((folder / "FW_config.yaml").read_text())
    assert {"WFLOCK_EXPIRATION_KILL", "RAPIDFIRE_SLEEP_SECS"} < set(keys)
    assert set(keys) <= set(vars(fireworks.fw_config))


def test_commands_of_a_site_use_its_fireworks_file(init) -> None:  # type: ignore[no-untyped-def]
    folder, _ = init()
    code = (
        "import click, sys; from defect_mf_flows.cli.app import use_fireworks_config as use\n"
        "from pathlib import Path; use(None, None, Path(sys.argv[1]))\n"
        "from fireworks.core.launchpad import WFLOCK_EXPIRATION_KILL as kill\n"
        "from fireworks.fw_config import LAUNCHPAD_LOC\n"
        "print(kill, LAUNCHPAD_LOC)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True,
        text=True,
        cwd=folder.parent,
        check=True,
        env={k: v for k, v in os.environ.items() if k != "FW_CONFIG_FILE"},
    )
    assert run.stdout.split() == ["True", str(folder / "my_launchpad.yaml")]


# -- passwords -------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [True, False])
def test_password_from_the_environment(init, stored: bool) -> None:  # type: ignore[no-untyped-def]
    options = [] if stored else ["--no-store-password"]
    folder, result = init("--user", "mf", *options, password=PASSWORD)
    assert result.exit_code == 0, result.output
    assert PASSWORD not in result.output
    holding = {p.name for p in folder.iterdir() if "Marked" in p.read_text()}
    assert holding == ({"my_launchpad.yaml", "jobflow.yaml"} if stored else set())
    assert ("DEFECT_MF_PASSWORD" in result.output) is not stored
    for name in ("my_launchpad.yaml", "jobflow.yaml"):
        assert mode(folder / name) == PRIVATE
    if stored:
        assert Site.of(folder).launchpad().password == PASSWORD
        assert Site.of(folder).store().docs_store.password == PASSWORD
    else:
        with pytest.raises(SiteError, match="set DEFECT_MF_PASSWORD"):
            Site.of(folder).launchpad()


def test_password_from_a_file(init, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "secret"
    file.write_text(f"{PASSWORD}\n")
    file.chmod(0o600)
    folder, result = init("--user", "mf", "--password-file", str(file))
    assert result.exit_code == 0, result.output
    assert Site.of(folder).launchpad().password == PASSWORD


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o660])
def test_a_password_file_that_others_may_read_is_refused(init, tmp_path, bits) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "secret"
    file.write_text(PASSWORD)
    file.chmod(bits)
    folder, result = init("--user", "mf", "--password-file", str(file))
    assert result.exit_code == 1
    assert "chmod 600" in result.output
    assert not folder.exists()


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb\n", b"\xff\xfe"])
def test_a_password_file_holds_one_line(init, tmp_path, content) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "secret"
    file.write_bytes(content)
    file.chmod(0o600)
    _, result = init("--user", "mf", "--password-file", str(file))
    assert result.exit_code == 1
    assert "one line" in result.output


def test_a_password_without_a_user_is_a_mistake(init, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    _, result = init("--password-file", str(tmp_path / "missing"))
    assert result.exit_code == 2
    assert "--user" in result.output


def test_nobody_else_can_read_a_password_even_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file that is ever opened for writing in the folder is looked at."""
    seen: dict[str, int] = {}
    real = os.fdopen

    def looking(handle, *args, **kwargs):  # type: ignore[no-untyped-def]
        seen[str(Path(f"/proc/self/fd/{handle}").readlink())] = stat.S_IMODE(
            os.fstat(handle).st_mode
        )
        return real(handle, *args, **kwargs)

    monkeypatch.setattr(os, "fdopen", looking)
    before = os.umask(0)
    try:
        write_site_files(SiteValues(folder=tmp_path / "site", user="mf", password=PASSWORD))
    finally:
        os.umask(before)
    assert len(seen) == 8
    assert set(seen.values()) == {0o600}
    assert mode(tmp_path / "site" / "my_launchpad.yaml") == 0o600


def test_the_password_is_in_no_text_of_an_object() -> None:
    values = SiteValues(user="mf", password=PASSWORD)
    assert "Marked" not in repr(values)
    launchpad = SiteLaunchPad("h", 1, "n", "mf", PASSWORD)
    for text in (repr(launchpad), str(launchpad), launchpad.to_format(), str(launchpad.as_dict())):
        assert "Marked" not in text


# -- mistakes and repetitions ----------------------------------------------------------


def test_what_is_there_is_not_overwritten_without_force(init) -> None:  # type: ignore[no-untyped-def]
    folder, _ = init()
    (folder / "my_fworker.yaml").write_text("mine")
    (folder / "jobflow.yaml").unlink()
    _, result = init("--port", "1234")
    assert result.exit_code == 1
    assert "my_launchpad.yaml" in result.output
    assert "my_fworker.yaml" in result.output
    assert "--force" in result.output
    assert "1234" not in (folder / "my_launchpad.yaml").read_text()
    assert not (folder / "jobflow.yaml").exists()
    _, result = init("--port", "1234", "--force")
    assert result.exit_code == 0
    assert "1234" in (folder / "my_launchpad.yaml").read_text()
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_force_makes_a_readable_file_private(init) -> None:  # type: ignore[no-untyped-def]
    folder, _ = init()
    assert mode(folder / "my_launchpad.yaml") & 0o044
    init("--force", "--user", "mf", password=PASSWORD)
    assert mode(folder / "my_launchpad.yaml") == 0o600


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(main, ["init", str(tmp_path / "file" / "site")])
    assert result.exit_code == 1
    assert "cannot be written" in result.output


def test_tls_reaches_every_connection(init, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "ca.pem").write_text("")
    folder, result = init("--tls-ca-file", str(tmp_path / "ca.pem"))
    assert result.exit_code == 0, result.output
    wanted = {"tls": True, "tlsCAFile": str(tmp_path / "ca.pem")}
    content = yaml.safe_load((folder / "jobflow.yaml").read_text())["JOB_STORE"]
    places = [content["docs_store"], content["additional_stores"]["data"]]
    places.append(yaml.safe_load((folder / "my_launchpad.yaml").read_text()))
    assert [place["mongoclient_kwargs"] for place in places] == [wanted] * 3
