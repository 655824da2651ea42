"""`setup` on a real mongod that asks for passwords."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pymongo.errors import OperationFailure

from defect_mf_flows.errors import SiteError, VersionError
from defect_mf_flows.launchpad import indexes
from defect_mf_flows.local.launchpad import LocalLaunchPad
from defect_mf_flows.local.layout import Layout
from defect_mf_flows.local.mongod import PrivateMongod
from defect_mf_flows.local.store import local_job_store
from defect_mf_flows.schemas.base import SCHEMA_VERSION
from defect_mf_flows.site.connection import Site
from defect_mf_flows.site.schema import OWN, SCHEMA, schema_version
from defect_mf_flows.site.setup import ROLE, role_text, set_up, worker_role
from tests.site.conftest import ADMIN, PASSWORD, Server

pytestmark = pytest.mark.mongod

MakeSite = Callable[..., Site]


def all_indexes(database) -> dict[str, dict]:  # type: ignore[no-untyped-def]
    found = {}
    for name in database.list_collection_names():
        for index, options in database[name].index_information().items():
            found[f"{name}/{index}"] = (options["key"], options.get("unique", False))
    return found


def test_setup_makes_everything_once_and_says_so(server: Server, make_site: MakeSite) -> None:
    site = make_site()
    said = set_up(site, admin=ADMIN, create_user=True)
    database = site.launchpad(login=ADMIN).db
    assert any(line.startswith("schema version") for line in said)
    assert any("outputs: uuid_1_index_-1" in line for line in said)
    assert any(line.startswith(f"role {ROLE} created") for line in said)
    assert schema_version(database) == SCHEMA_VERSION
    before = all_indexes(database)
    assert before["outputs/uuid_1_index_-1"] == ([("uuid", 1), ("index", -1)], True)
    for fields in indexes.OUTPUTS:
        assert any(
            name.startswith("outputs/") and [key for key, _ in keys] == list(fields)
            for name, (keys, _) in before.items()
        )
    assert set_up(site, admin=ADMIN) == [
        "nothing to do: counters, indexes and schema version are there"
    ]
    assert all_indexes(database) == before
    site.check()


def test_setup_keeps_the_counters_of_a_database_in_use(make_site: MakeSite) -> None:
    site = make_site()
    set_up(site, admin=ADMIN, create_user=True)
    launchpad = site.launchpad()
    assert launchpad.get_new_fw_id(quantity=5) == 1
    set_up(site, admin=ADMIN)
    assert launchpad.get_new_fw_id() == 6
    assert launchpad.fw_id_assigner.count_documents({}) == 1


def test_one_machine_and_a_site_have_the_same_indexes(make_site: MakeSite, tmp_path) -> None:  # type: ignore[no-untyped-def]
    site = make_site()
    set_up(site, admin=ADMIN)
    of_site = all_indexes(site.launchpad(login=ADMIN).db)
    with PrivateMongod(tmp_path / "local" / "data") as private:
        launchpad = LocalLaunchPad(Layout.of(tmp_path / "local"), private.port)
        launchpad.initialize()
        store = local_job_store(private.port)
        store.connect()
        indexes.ensure_indexes(store)
        of_machine = all_indexes(launchpad.db)
        store.close()
        launchpad.close()
    site_only = {name for name in of_site if name.startswith(f"{OWN}/")}
    assert {k: v for k, v in of_site.items() if k not in site_only} == of_machine


def test_a_newer_database_is_refused_and_left_alone(make_site: MakeSite) -> None:
    site = make_site()
    set_up(site, admin=ADMIN, create_user=True)
    own = site.launchpad(login=ADMIN).db[OWN]
    own.update_one({"_id": SCHEMA}, {"$set": {"version": SCHEMA_VERSION + 1}})
    for call in (lambda: set_up(site, admin=ADMIN), site.check):
        with pytest.raises(VersionError, match="install a newer"):
            call()
    assert own.find_one({"_id": SCHEMA})["version"] == SCHEMA_VERSION + 1
    own.update_one({"_id": SCHEMA}, {"$set": {"version": SCHEMA_VERSION - 1}})
    with pytest.raises(VersionError, match="defect-mf setup"):
        site.check()
    set_up(site, admin=ADMIN)
    site.check()


def test_a_database_without_setup_is_refused(make_site: MakeSite) -> None:
    site = make_site()
    set_up(site, admin=ADMIN, create_user=True)
    site.launchpad(login=ADMIN).db.fw_id_assigner.delete_many({})
    with pytest.raises(SiteError, match="never set up; run `defect-mf setup"):
        site.check()


def test_a_worker_drops_nothing(make_site: MakeSite) -> None:
    site = make_site()
    set_up(site, admin=ADMIN, create_user=True)
    launchpad = site.launchpad()
    outputs = launchpad.db.outputs
    outputs.insert_one({"uuid": "u", "index": 1})
    refused = (
        outputs.drop,
        lambda: outputs.delete_many({}),
        lambda: outputs.rename("gone"),
        lambda: outputs.drop_index("uuid_1_index_-1"),
        lambda: outputs.aggregate([{"$match": {}}, {"$out": "outputs"}]),
        lambda: launchpad.connection.drop_database(launchpad.name),
        lambda: launchpad.db.command("createUser", "x", pwd="x", roles=[]),
        lambda: launchpad.connection.admin["system.users"].find_one(),
        lambda: launchpad.workflows.drop(),
        lambda: launchpad.db["outputs_blobs.chunks"].drop(),
    )
    for call in refused:
        with pytest.raises(OperationFailure) as caught:
            call()
        assert caught.value.code == 13
    assert outputs.count_documents({}) == 1


def test_a_repeated_setup_takes_a_new_password(make_site: MakeSite) -> None:
    set_up(make_site(), admin=ADMIN, create_user=True)
    changed = make_site(password="another-Marked")
    with pytest.raises(SiteError, match="refused user or password"):
        changed.check()
    said = set_up(changed, admin=ADMIN, create_user=True)
    assert any("brought up to date" in line for line in said)
    changed.check()


def test_setup_without_rights_names_the_remedy(make_site: MakeSite) -> None:
    site = make_site()
    set_up(site, admin=ADMIN, create_user=True)
    with pytest.raises(SiteError, match="--create-worker-user"):
        set_up(site)


def test_the_printed_role_is_the_one_that_is_made(make_site: MakeSite) -> None:
    site = make_site()
    text = role_text(site)
    assert PASSWORD not in text
    for privilege in worker_role(site.launchpad(login=ADMIN).name)["privileges"]:
        for action in privilege["actions"]:
            assert f'"{action}"' in text
    assert "drop" not in text
