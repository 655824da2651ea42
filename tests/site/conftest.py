"""A real mongod that asks for passwords, and sites on it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from defect_mf_flows.local.mongod import PrivateMongod, find_mongod
from defect_mf_flows.site.connection import Login, Site
from defect_mf_flows.site.files import SiteValues, write_site_files

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


@pytest.fixture
def make_site(server: Server, tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """A site on the server, with a database of its own that is dropped in the end."""
    name = f"site_{tmp_path.name}"[:60]

    def make(**values: object) -> Site:
        given = {"host": "127.0.0.1", "port": server.port, "database": name}
        given |= {"user": f"mf_{name}", "password": PASSWORD, "folder": tmp_path / "site"}
        filled = SiteValues(**{**given, **values})
        write_site_files(filled, force=True)
        return Site.of(filled.folder)

    yield make
    with server.admin() as client:
        client[name].command("dropAllUsersFromDatabase")
        client[name].command("dropAllRolesFromDatabase")
        client.drop_database(name)
