"""Prepare a site's database: counters, indexes, schema version, and a user for the workers."""

from __future__ import annotations

import json
from typing import Any

from fireworks import LaunchPad
from jobflow import JobStore
from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError

from defect_mf_flows.errors import SiteError
from defect_mf_flows.launchpad.indexes import ensure_indexes, initialize
from defect_mf_flows.site.connection import LAUNCHPAD_FILE, Login, Site
from defect_mf_flows.site.schema import write_schema_version
from defect_mf_flows.site.trouble import explain

ROLE = "defect_mf_worker"
#: What a worker does everywhere in the site's databases. It drops nothing, and makes no index.
ANYWHERE = ("find", "insert", "update", "listCollections", "listIndexes")
#: FireWorks writes a workflow's changed jobs by removing and inserting them.
REMOVES_FROM = ("fireworks",)
ALREADY_EXISTS = (51002, 51003)


def set_up(site: Site, *, admin: Login | None = None, create_user: bool = False) -> list[str]:
    """Prepare a site's database; harmless when it is prepared already.

    Parameters
    ----------
    site
        The site.
    admin
        Who may make indexes and users; None: the user of the site's files.
    create_user
        Whether to make, or bring up to date, the user of the site's files with the role of a
        worker.

    Returns
    -------
    list of str
        What was done, a line each.

    Raises
    ------
    SiteError
        If the database cannot be reached or refuses.
    VersionError
        If it holds documents of a newer version; nothing is changed then.
    """
    launchpad, store = site.launchpad(login=admin), site.store(login=admin)
    try:
        store.connect()
        databases = _databases(launchpad, store)
        versions = [db.name for db in databases if write_schema_version(db)]
        lines = [f"schema version written to {name}" for name in versions]
        lines += [f"index {name}" for name in initialize(launchpad)]
        lines += [f"index {name}" for name in ensure_indexes(store)]
        if create_user:
            lines += _create_worker(site, launchpad, databases)
        return lines or ["nothing to do: counters, indexes and schema version are there"]
    except PyMongoError as error:
        raise explain(error, site.folder) from None
    finally:
        launchpad.connection.close()
        store.close()


def _databases(launchpad: LaunchPad, store: JobStore) -> list[Database[dict[str, Any]]]:
    """The LaunchPad's database, then the job store's where they are others."""
    docs: Any = store.docs_store
    blobs: Any = store.additional_stores["data"]  # type: ignore[has-type]
    every = (launchpad.db, docs._collection.database, blobs._files_collection.database)
    return list({(*db.client.nodes, db.name): db for db in every}.values())


def worker_role(database: str) -> dict[str, Any]:
    """Exactly what a worker may do in a database, as MongoDB's createRole takes it.

    Parameters
    ----------
    database
        Name of the database.

    Returns
    -------
    dict
        The command.
    """
    every = {"resource": {"db": database, "collection": ""}, "actions": list(ANYWHERE)}
    some = [
        {"resource": {"db": database, "collection": name}, "actions": ["remove"]}
        for name in REMOVES_FROM
    ]
    return {"createRole": ROLE, "privileges": [every, *some], "roles": []}


def role_text(site: Site) -> str:
    """Commands for mongosh that make role and user, for an administrator who types them.

    Parameters
    ----------
    site
        The site; its user's password is not part of the text.

    Returns
    -------
    str
        To paste into mongosh.
    """
    content = site.read(LAUNCHPAD_FILE)
    name = str(content.get("name"))
    source, user = content.get("authsource") or name, content.get("username") or "USER"
    role = json.dumps(worker_role(name), indent=2)
    grant = json.dumps([{"role": ROLE, "db": name}])
    return (
        f"db.getSiblingDB({json.dumps(name)}).runCommand({role})\n"
        f"db.getSiblingDB({json.dumps(source)}).createUser("
        f"{{user: {json.dumps(user)}, pwd: passwordPrompt(), roles: {grant}}})"
    )


def _create_worker(
    site: Site, launchpad: LaunchPad, databases: list[Database[dict[str, Any]]]
) -> list[str]:
    own = site.launchpad()  # the user, password and source of the site's files
    own.connection.close()
    if not own.username:
        raise SiteError(
            f"{site.folder / LAUNCHPAD_FILE}: username is missing; name the user to create."
        )
    lines = []
    for database in databases:
        role = worker_role(database.name)
        made = _create_or_update(database, role, "createRole", "updateRole")
        lines.append(f"role {ROLE} {made} in {database.name}")
    user = {
        "createUser": own.username,
        "pwd": own.password,
        "roles": [{"role": ROLE, "db": database.name} for database in databases],
    }
    source = launchpad.connection[own.authsource]
    made = _create_or_update(source, user, "createUser", "updateUser")
    return [*lines, f"user {own.username} {made} in {own.authsource}"]


def _create_or_update(
    database: Database[dict[str, Any]], command: dict[str, Any], create: str, update: str
) -> str:
    try:
        database.command(command)
    except OperationFailure as error:
        if error.code not in ALREADY_EXISTS:
            raise
        rest = {key: value for key, value in command.items() if key != create}
        database.command({update: command[create], **rest})
        return "brought up to date"
    return "created"
