"""Reading a site's files, and what happens when the database does not let anybody in."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from defect_mf_flows.errors import SiteError
from defect_mf_flows.site.connection import Site
from defect_mf_flows.site.files import SiteValues, write_site_files
from defect_mf_flows.site.secrets import read_yaml, without_passwords
from defect_mf_flows.site.setup import set_up
from defect_mf_flows.testing import write_campaign
from tests.site.conftest import ADMIN

MARK = "Marked-77"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    write_site_files(SiteValues(folder=tmp_path, user="mf", password=MARK))
    return Site.of(tmp_path)


def defect_mf(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """The real command, which has a minute at most."""
    return subprocess.run(
        [sys.executable, "-m", "defect_mf_flows.cli", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **env},
        check=False,
    )


# -- files -----------------------------------------------------------------------------


def test_a_folder_without_files_names_init(tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="defect-mf init"):
        Site.of(tmp_path)


@pytest.mark.parametrize("name", ["my_launchpad.yaml", "jobflow.yaml"])
def test_a_password_that_others_may_read_is_refused(site: Site, name: str) -> None:
    (site.folder / name).chmod(0o640)
    with pytest.raises(SiteError, match="chmod 600") as caught:
        site.read(name)
    assert MARK not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f'password: "{MARK}',
        f"password: {MARK}: {MARK}",
        f"password: !!python/object/apply:os.system ['{MARK}']",
        f"password: !!timestamp {MARK}",
        f"password: [{MARK}",
        f"- {MARK}",
        f"&a [*a, {MARK}",
        f"host: mongodb://mf:{MARK}@[::1\nport: 1",
        f"host: x\nport: {MARK}\npassword: {MARK}\nusername: mf",
        f"host: mongodb://mf:{MARK}@h:99999999/db\nuri_mode: true\nname: x",
        f"host: x\npassword: {MARK}\nmongoclient_kwargs: {{connectTimeoutMS: {MARK}}}",
        f"host: x\npasword: {MARK}",
    ],
)
def test_messages_about_a_broken_file_do_not_quote_the_password(site: Site, text: str) -> None:
    path = site.folder / "my_launchpad.yaml"
    path.write_text(text)
    with pytest.raises(SiteError) as caught:
        site.launchpad()
    assert str(path) in str(caught.value)
    assert MARK not in "".join(traceback.format_exception(caught.value))


def test_yaml_builds_only_plain_values(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"a: !!python/object/apply:pathlib.Path.touch [{tmp_path / 'made'}]")
    with pytest.raises(SiteError, match="not readable as YAML"):
        read_yaml(path)
    assert not (tmp_path / "made").exists()


@given(text=st.text("ab:-[]{}&*!|>#'\"\n 019._%@", max_size=40))
def test_any_file_is_read_or_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "any.yaml"
    path.write_text(text)
    try:
        found: object = read_yaml(path)
    except SiteError as error:
        found = str(error)
    assert isinstance(found, dict) or str(path) in str(found)


def test_passwords_in_addresses_count_too(tmp_path: Path) -> None:
    path = tmp_path / "my_launchpad.yaml"
    path.write_text(f"host: mongodb://mf:{MARK}@db/x\nuri_mode: true\n")
    with pytest.raises(SiteError, match="chmod 600"):
        read_yaml(path)
    assert without_passwords(f"bad mongodb://u:{MARK}@h", {}) == "bad mongodb://***@h"


@pytest.mark.parametrize(
    "change",
    [
        "name: {$ne: null}",
        "name: ../x",
        "name: ''",
        "name: a\\nb",
        "name: $where",
        f"name: {'a' * 65}",
        "category: {$exists: true}",
        "category: [dft, {$ne: 1}]",
        "category: [dft, 3]",
        "query: 'not json'",
        "query: '[1]'",
        "query: {a: 1}",
        "env: text",
        "typo: 1",
    ],
)
def test_a_worker_file_holds_names_and_not_queries(site: Site, change: str) -> None:
    key = change.split(":")[0]
    lines = {"name": "name: n", "category": "category: dft", key: change.replace("\\n", "\n")}
    (site.folder / "w.yaml").write_text("\n".join(lines.values()))
    with pytest.raises(SiteError, match=r"w\.yaml"):
        site.fworker("w.yaml")


def test_a_worker_without_a_category_would_take_everything(site: Site) -> None:
    (site.folder / "w.yaml").write_text("name: n\n")
    with pytest.raises(SiteError, match="category is missing"):
        site.fworker("w.yaml")
    (site.folder / "w.yaml").write_text("name: n\ncategory: ''\n")
    assert site.fworker("w.yaml").category == ""


# -- databases -------------------------------------------------------------------------

COMMANDS = (("submit", "CAMPAIGN"), ("worker", "rapidfire"), ("setup",))


def refused(words: tuple[str, ...], site: Site, campaign: Path) -> str:
    given = [str(campaign) if word == "CAMPAIGN" else word for word in words]
    result = defect_mf(*given, "--site", str(site.folder))
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.startswith("Error: ")
    return result.stderr + result.stdout


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_nobody_at_the_address(words: tuple[str, ...], tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path / "site"
    write_site_files(
        SiteValues(folder=folder, host="127.0.0.1", port=port, user="mf", password=MARK)
    )
    said = refused(words, Site.of(folder), write_campaign(tmp_path))
    assert "cannot be reached" in said
    assert str(port) in said
    assert MARK not in said


@pytest.mark.mongod
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
def test_a_wrong_password(
    words: tuple[str, ...], make_site: Callable[..., Site], tmp_path: Path
) -> None:
    set_up(make_site(), admin=ADMIN, create_user=True)
    said = refused(words, make_site(password=MARK), write_campaign(tmp_path))
    assert "refused user or password" in said
    assert MARK not in said


@pytest.mark.mongod
def test_setup_from_the_command_line(make_site: Callable[..., Site], tmp_path: Path) -> None:
    site = make_site()
    where = ("--site", str(site.folder))
    assert "never set up" not in defect_mf("setup", *where, "--print-role").stdout
    result = defect_mf("setup", *where, "--admin-user", "root", "--create-worker-user")
    assert result.returncode == 2
    assert "DEFECT_MF_ADMIN_PASSWORD" in result.stderr
    words = ("setup", *where, "--admin-user", "root")
    admin = {"DEFECT_MF_ADMIN_PASSWORD": ADMIN.password}
    result = defect_mf(*words, "--create-worker-user", **admin)
    assert result.returncode == 0, result.stderr
    assert "user mf_" in result.stdout
    again = defect_mf(*words, **admin)
    assert "nothing to do" in again.stdout
    for text in (result.stdout, result.stderr, again.stdout, again.stderr):
        assert "Marked" not in text
