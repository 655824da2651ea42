"""A result outlasts a connection that breaks while it is written."""

from maggma.stores import MemoryStore
from pymongo.errors import AutoReconnect

from defect_mf_flows.launchpad.patience import PatientJobStore


class BreakingStore(MemoryStore):
    """Breaks twice, after it has written."""

    left = 2

    def update(self, docs, key=None):
        super().update(docs, key)
        if self.left:
            self.left -= 1
            raise AutoReconnect("connection closed")


def test_a_result_is_stored_once_and_whole():
    docs = BreakingStore()
    store = PatientJobStore(docs, additional_stores={"data": MemoryStore()})
    store.connect()
    result = {"uuid": "a", "index": 1, "output": {"big": [1, 2], "small": 3}}
    store.update([result], key=["uuid", "index"], save={"data": ["big"]})
    assert docs.left == 0
    assert store.count() == 1
    assert store.get_output("a", load=True) == {"big": [1, 2], "small": 3}
