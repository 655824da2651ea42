"""A campaign on a server that asks for passwords: workers that drop nothing, secrets that stay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from bson import json_util
from tests.site.conftest import ADMIN, PASSWORD, Server, make_site, server

from defect_mf_flows.report.html import write_report
from defect_mf_flows.results import CampaignResults, write_results
from defect_mf_flows.site.connection import PASSWORD_VARIABLE, Site
from defect_mf_flows.site.setup import set_up
from defect_mf_flows.testing import write_campaign

__all__ = ["make_site", "server"]  # fixtures

pytestmark = [pytest.mark.mongod, pytest.mark.slow]

LIMIT = 900.0
PACE = ("--idle", "0.3", "--linger", "600")
WAITING = {"WAITING", "READY", "RESERVED", "RUNNING"}


@dataclass(frozen=True)
class Ran:
    """A campaign that the workers of a site computed."""

    site: Site
    folder: Path
    said: str


def defect_mf(site: Site, *words: str) -> list[str]:
    return [sys.executable, "-m", "defect_mf_flows.cli", "-vv", *words, "--site", str(site.folder)]


def start_worker(site: Site, fworker: str, folder: Path, **env: str) -> subprocess.Popen[bytes]:
    folder.mkdir()
    with (folder / "worker.log").open("wb") as log:
        return subprocess.Popen(
            [*defect_mf(site, "worker", "rapidfire"), "--fworker", fworker, *PACE],
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**os.environ, **env},
        )


def wait(site: Site, folder: Path) -> None:
    launchpad = site.launchpad()
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        found = Counter(fw["state"] for fw in launchpad.fireworks.find({}, {"state": 1}))
        if "FIZZLED" in found or not set(found) & WAITING:
            logs = "\n".join(path.read_text()[-3000:] for path in folder.rglob("worker.log"))
            assert set(found) == {"COMPLETED"}, (found, logs)
            return
        time.sleep(1)
    raise AssertionError(f"not finished: {found}")


@pytest.fixture
def ran(
    make_site: Callable[..., Site],
    tmp_path: Path,
) -> Iterator[Ran]:
    """One worker reads the password from its files, the other from its environment."""
    site = make_site()
    bare = make_site(folder=tmp_path / "bare", password=None)
    set_up(site, admin=ADMIN, create_user=True)
    for place in (site, bare):
        settings = yaml.safe_load(place.settings.read_text())
        settings |= {"scratch": str(tmp_path / "scratch"), "training_threads": 1}
        place.settings.write_text(yaml.safe_dump(settings))
    campaign = write_campaign(tmp_path, SHORT)
    submitted = subprocess.run(
        defect_mf(site, "submit", str(campaign)), capture_output=True, text=True, check=False
    )
    said = submitted.stdout + submitted.stderr
    assert submitted.returncode == 0, said
    workers = []
    try:
        workers.append(start_worker(site, "my_fworker.yaml", tmp_path / "dft"))
        secret = {PASSWORD_VARIABLE: PASSWORD}
        workers.append(start_worker(bare, "my_gpu_fworker.yaml", tmp_path / "gpu", **secret))
        wait(site, tmp_path)
        yield Ran(site, tmp_path, said)
    finally:
        for process in workers:
            process.terminate()
            process.wait()


SHORT: dict[str, Any] = {}  # the tiny campaign as it is


def test_a_campaign_with_passwords_leaves_no_trace_of_them(
    ran: Ran,
    server: Server,
) -> None:
    store = ran.site.store()
    store.connect()
    results = CampaignResults(store).results()
    write_results(results, ran.folder / "results.json")
    write_report(results, ran.folder / "report.html")
    store.close()
    assert results.ground_states
    assert PASSWORD not in ran.said

    with server.admin() as client:
        database = client[ran.site.launchpad().name]
        dumped = {
            name: json_util.dumps(list(database[name].find()))
            for name in database.list_collection_names()
        }
        blobs = database["outputs_blobs.chunks"].find()
        content = b"".join(chunk["data"] for chunk in blobs)
    assert {"fireworks", "launches", "workflows", "outputs", "campaigns"} <= set(dumped)
    assert json.loads(dumped["outputs"])
    assert len(content) > 100_000
    secrets = (PASSWORD, ADMIN.password)
    for secret in secrets:
        assert [name for name, text in dumped.items() if secret in text] == []
        assert secret.encode() not in content

    own = {ran.site.folder / name for name in ("my_launchpad.yaml", "jobflow.yaml")}
    files = [path for path in ran.folder.rglob("*") if path.is_file() and path not in own]
    assert {"worker.log", "results.json", "report.html"} <= {path.name for path in files}
    assert any(path.is_relative_to(ran.folder / "scratch") for path in files)
    for secret in secrets:
        assert [path for path in files if secret.encode() in path.read_bytes()] == []
    assert all(PASSWORD in path.read_text() for path in own)  # the search finds what is there
