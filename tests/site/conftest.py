"""Real mongods, with and without passwords, and sites on them."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from jobflow import Flow
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from defect_mf_flows.local.mongod import PrivateMongod, find_mongod
from defect_mf_flows.powerups import route, stamp
from defect_mf_flows.schemas.routing import Routing
from defect_mf_flows.site.campaigns import CampaignEntry, get_campaign
from defect_mf_flows.site.connection import Login, Site
from defect_mf_flows.site.files import SiteValues, write_site_files
from defect_mf_flows.site.launchpad import SiteLaunchPad
from defect_mf_flows.site.submit import submit_flow
from tests.sites import JOBS, write_site

sys.path.insert(0, str(JOBS))

ADMIN = Login("root", "admin-Marked-5f1b")
PASSWORD = "worker-Marked-9c27"


@dataclass(frozen=True)
class Server:
    """A running mongod with authentication."""

    port: int

    def admin(self) -> MongoClient:
        return MongoClient(
            "127.0.0.1", self.port, username=ADMIN.user, password=ADMIN.password, authSource="admin"
        )


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("mongod")
    data = folder / "data"
    with PrivateMongod(data) as open_server:
        port = open_server.port
        with MongoClient("127.0.0.1", port) as client:
            client.admin.command("createUser", ADMIN.user, pwd=ADMIN.password, roles=["root"])
    command = [str(find_mongod()), "--auth", "--dbpath", str(data), "--port", str(port)]
    command += ["--bind_ip", "127.0.0.1", "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"]
    with (folder / "mongod.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        running = Server(port)
        for _ in range(300):
            try:
                with running.admin() as client:
                    client.admin.command("ping")
                break
            except PyMongoError:
                time.sleep(0.1)
        yield running
    finally:
        process.terminate()
        process.wait()


@contextmanager
def guarded_sites(server: Server, folder: Path) -> Iterator[Callable[..., Site]]:
    """Sites on a server with passwords; they share a database, dropped in the end."""
    name = f"site_{folder.name}"[:60]

    def make(**values: object) -> Site:
        given = {"host": "127.0.0.1", "port": server.port, "database": name}
        given |= {"user": f"mf_{name}", "password": PASSWORD, "folder": folder / "site"}
        filled = SiteValues(**{**given, **values})
        write_site_files(filled, force=True)
        return Site.of(filled.folder)

    yield make
    with server.admin() as client:
        client[name].command("dropAllUsersFromDatabase")
        client[name].command("dropAllRolesFromDatabase")
        client.drop_database(name)


@pytest.fixture
def make_site(server: Server, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """A site on the server, with a database of its own that is dropped in the end."""
    with guarded_sites(server, tmp_path) as make:
        yield make


KEY = "0123456789abcdef"


@pytest.fixture(scope="session")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateMongod]:
    with PrivateMongod(tmp_path_factory.mktemp("mongod") / "data") as server:
        yield server


@pytest.fixture
def site(mongod: PrivateMongod, tmp_path: Path) -> Site:
    """Files of a site with a database of its own."""
    return write_site(tmp_path / "site", mongod.port, f"db_{uuid.uuid4().hex[:12]}")


@pytest.fixture
def launchpad(site: Site) -> Iterator[SiteLaunchPad]:
    opened = site.launchpad()
    yield opened
    opened.connection.drop_database(opened.name)
    opened.connection.close()


@pytest.fixture
def log(tmp_path: Path) -> str:
    """Where the test jobs note that they run."""
    return str(tmp_path / "executions.txt")


@pytest.fixture
def submit(launchpad: SiteLaunchPad) -> Callable[[Flow], CampaignEntry]:
    """Submit any flow as a campaign."""

    def act(flow: Flow, key: str = KEY, name: str = "test") -> CampaignEntry:
        stamp(route(flow, Routing()), campaign=name, campaign_hash=key)
        submit_flow(flow, launchpad, key, name)
        return get_campaign(launchpad, key)

    return act
