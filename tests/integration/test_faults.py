"""Nothing that goes wrong loses a frame or counts one twice: a campaign on a site, disturbed.

Real mongod, real worker processes, real SIGKILL. One run is left alone; the others are disturbed
once in every stage and must end with the same calculations.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "faulty"))
from site_of_faults import FaultySite, faulty_site

from defect_mf_flows.launchpad.failures import stacktrace
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.testing import write_campaign

pytestmark = [pytest.mark.mongod, pytest.mark.long]

CHANGES = {
    "defects.charges": {"v_Zn": [-1]},
    "picks.fraction": 0.6,  # both relaxations get labels: one is held out
    "training.max_epochs": 8,
}

KILLS = [
    {"job": "spawn relaxations", "moment": "stored", "how": "kill"},
    {"job": "gfn1 relax", "moment": "step", "after": 3, "how": "kill"},
    {"job": "choose frames", "moment": "half recorded", "how": "group"},
    {"job": r"@\d+ .* gfn2 static", "moment": "computed", "how": "node"},
    {"job": "dataset", "moment": "computed", "how": "kill"},
    {"job": "train", "moment": "epoch", "after": 3, "how": "group"},
    {"job": "search 1-", "moment": "stored", "how": "kill"},
    {"job": "gfn2 relax", "moment": "step", "after": 2, "how": "walltime"},
    {"job": "verdicts", "moment": "half recorded", "how": "kill"},
    {"job": "levels", "moment": "computed", "how": "kill"},
]
OUTAGES = [
    {"job": "gfn1 relax", "moment": "step", "after": 2, "how": "server"},
    {"job": r"@\d+ .* gfn2 static", "moment": "computed", "how": "network"},
    {"job": "train", "moment": "epoch", "after": 2, "how": "server"},
    {"job": "gfn2 relax", "moment": "stored", "how": "network"},
    {"job": "levels", "moment": "half recorded", "how": "server"},
]


#: A relaxation that goes on starts its SCF anew; where it bounces, a micro-eV becomes this, eV.
REPEATS = 5e-3


@dataclass(frozen=True)
class Outcome:
    calculations: dict[tuple[Any, ...], Calculation]
    results: dict[str, Any]
    jobs: Counter[str]


def outcome(site: FaultySite) -> Outcome:
    uuids = [(d["uuid"], d["index"]) for d in site.store.query({}, properties=["uuid", "index"])]
    assert len(set(uuids)) == len(uuids)
    (found,) = site.store.query({"output.@class": "Results"}, load=True)
    names = (f["name"] for f in site.launchpad.fireworks.find({}, {"name": 1}))
    return Outcome(site.calculations(), found["output"], Counter(names))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    with faulty_site(tmp_path_factory.mktemp("undisturbed"), []) as site:
        site.submit(write_campaign(site.folder, CHANGES))
        progress = site.finish()
        assert progress.complete, site.logs()[-3000:]
        assert site.exits == []
        return outcome(site)


def assert_same(one: Outcome, other: Outcome) -> None:
    """Same jobs, same calculations, same number of calls; energies as far as an SCF repeats."""
    assert one.jobs == other.jobs
    assert one.calculations.keys() == other.calculations.keys()
    for key, expected in one.calculations.items():
        found = other.calculations[key]
        assert (found.n_frames, found.n_calls) == (expected.n_frames, expected.n_calls), key
        energies = [frame.energy for frame in found.frames]
        assert energies == pytest.approx([f.energy for f in expected.frames], abs=REPEATS), key
        hashes = [frame.content_hash for frame in found.frames]
        assert len(set(hashes)) == len(hashes) == found.n_frames
        assert [f.lineage.step for f in found.frames] == list(range(found.n_frames))
        assert {f.lineage.calculation for f in found.frames} == {found.job_uuid}
    for name in ("counts", "stop"):
        assert one.results[name] == other.results[name]
    costs = [{(c["stage"], c["fidelity"]): (c["jobs"], c["calls"]) for c in o.results["cost"]}
             for o in (one, other)]  # fmt: skip
    assert costs[0] == costs[1]
    for mine, theirs in zip(
        one.results["ground_states"], other.results["ground_states"], strict=True
    ):
        assert mine["verdict"] == theirs["verdict"]
        assert mine["energy_hf"] == pytest.approx(theirs["energy_hf"], abs=REPEATS)


def assert_each_job_ended_once(site: FaultySite) -> None:
    ended = Counter(
        launch["fw_id"] for launch in site.launchpad.launches.find({"state": "COMPLETED"})
    )
    assert set(ended.values()) == {1}
    assert len(ended) == site.launchpad.fireworks.count_documents({})


def test_killed_in_every_stage(undisturbed: Outcome, tmp_path: Path) -> None:
    with faulty_site(tmp_path, KILLS) as site:
        site.submit(write_campaign(site.folder, CHANGES))
        progress = site.finish()
        assert progress.complete, (progress.failed, site.logs()[-3000:])
        assert site.done() == len(KILLS)
        assert_each_job_ended_once(site)
        assert_same(undisturbed, outcome(site))
        log = site.logs()
        assert "steps were stored already" in log
        training = next((site.folder / "scratch" / "training").glob("*/log.txt")).read_text()
        assert "resumed after epoch" in training


def test_server_and_network_away(undisturbed: Outcome, tmp_path: Path) -> None:
    with faulty_site(tmp_path, OUTAGES) as site:
        site.submit(write_campaign(site.folder, CHANGES))
        progress = site.finish()
        assert progress.complete, (progress.failed, site.logs()[-3000:])
        assert site.done() == len(OUTAGES)
        assert_each_job_ended_once(site)
        assert_same(undisturbed, outcome(site))


def test_a_job_that_always_takes_too_much_memory_is_given_up(tmp_path: Path) -> None:
    always = {"job": "gfn1 static", "moment": "begun", "how": "kill", "always": True}
    with faulty_site(tmp_path, [always]) as site:
        site.submit(write_campaign(site.folder, CHANGES))
        progress = site.finish()
        assert len(progress.failed) == 1
        assert "gfn1 static" in progress.failed[0]
        trace, _ = stacktrace(site.launchpad, progress.failed_ids[0])
        assert "memory" in trace
        assert "3 times" in trace
