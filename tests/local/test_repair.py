"""Steps that a kill left half-written are undone and done again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fireworks import Firework, FWAction, FWorker, Workflow
from jobs_for_tests import EmptyTask

from defect_mf_flows.launchpad.failures import lost_connection
from defect_mf_flows.local.launchpad import CrashSafeLock, LocalLaunchPad
from defect_mf_flows.local.layout import Layout
from defect_mf_flows.local.mongod import PrivateMongod
from defect_mf_flows.local.recovery import repair

pytestmark = pytest.mark.mongod
TASK = EmptyTask()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Layout, PrivateMongod]]:
    layout = Layout.of(tmp_path_factory.mktemp("repair"))
    layout.make()
    with PrivateMongod(layout.data) as running:
        yield layout, running


@pytest.fixture
def launchpad(server: tuple[Layout, PrivateMongod]) -> Iterator[LocalLaunchPad]:
    layout, running = server
    launchpad = LocalLaunchPad(layout, running.port)
    launchpad.connection.drop_database(launchpad.name)
    launchpad.initialize()
    parent = Firework([TASK], name="parent")
    child = Firework([TASK], name="child", parents=[parent])
    launchpad.add_wf(Workflow([parent, child], metadata={"campaign_hash": "a"}))
    yield launchpad
    launchpad.close()


def checkout(launchpad: LocalLaunchPad, worker: str = "w") -> tuple[Firework, int]:
    found: tuple[Firework, int] = launchpad.checkout_fw(FWorker(worker), "/tmp")
    return found


def states(launchpad: LocalLaunchPad) -> dict[str, str]:
    return {f["name"]: f["state"] for f in launchpad.fireworks.find({}, {"name": 1, "state": 1})}


class Killed(BaseException):
    pass


@pytest.mark.parametrize("writes", range(3))
def test_killed_while_detours_are_added(
    launchpad: LocalLaunchPad, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """The process dies after any number of the documents of one step were written."""
    _, launch_id = checkout(launchpad)
    detour = Workflow([Firework([TASK], name="detour")])
    real, count = type(launchpad.fireworks).find_one_and_replace, iter(range(100))

    def dying(collection, query, *args, **kwargs):  # type: ignore[no-untyped-def]
        if collection.name in ("fireworks", "workflows") and next(count) >= writes:
            raise Killed
        return real(collection, query, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(type(launchpad.fireworks), "find_one_and_replace", dying)
        with pytest.raises(Killed):
            launchpad.complete_launch(launch_id, FWAction(detours=[detour]))

    launchpad.workflows.update_many({}, {"$set": {"locked": True}})
    assert repair(launchpad, dead=["w"]) == []
    assert states(launchpad) == {"parent": "COMPLETED", "detour": "READY", "child": "WAITING"}
    assert launchpad.fireworks.count_documents({}) == 3
    links = launchpad.workflows.find_one()["links"]
    assert sorted(map(len, links.values())) == [0, 1, 2]


def test_half_added_workflow_is_removed(launchpad: LocalLaunchPad) -> None:
    launchpad._upsert_fws([Firework([TASK], name="orphan")], reassign_all=True)
    repair(launchpad)
    assert set(states(launchpad)) == {"parent", "child"}


def test_lost_run_is_ready_again_and_others_are_left_alone(launchpad: LocalLaunchPad) -> None:
    checkout(launchpad, "dead")
    assert repair(launchpad, dead=["other"]) == []
    assert states(launchpad)["parent"] == "RUNNING"
    assert [run.name for run in repair(launchpad, dead=["dead"])] == ["parent"]
    assert states(launchpad)["parent"] == "READY"


def test_reservation_without_a_launch_is_released(launchpad: LocalLaunchPad) -> None:
    launchpad._get_a_fw_to_run()
    assert states(launchpad)["parent"] == "RESERVED"
    assert repair(launchpad, dead=["w"]) == []
    assert states(launchpad)["parent"] == "RESERVED"  # a living worker may be about to run it
    assert repair(launchpad) == []
    assert states(launchpad)["parent"] == "READY"


def test_stale_lock_is_taken_over(
    launchpad: LocalLaunchPad, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("defect_mf_flows.local.launchpad.FOREIGN_LOCK_SECONDS", 0.2)
    launchpad.workflows.update_many({}, {"$set": {"locked": True}})
    with CrashSafeLock(launchpad, 1):
        assert launchpad.workflows.find_one()["locked"]
    assert "locked" not in launchpad.workflows.find_one()


def test_lost_connections_are_told_from_failures() -> None:
    trace = "Traceback (most recent call last):\npymongo.errors.AutoReconnect: connection closed\n"
    assert lost_connection(trace)
    assert not lost_connection("Traceback\nValueError: pymongo.errors.AutoReconnect")
