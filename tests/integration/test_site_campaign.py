"""A whole dynamic campaign on a site: mongod with passwords, workers of two categories."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from bson import json_util
from tests.site.conftest import ADMIN, PASSWORD, Server, guarded_sites, server
from tests.sites import Workers, ask, ask_json, states, wait_until

from defect_mf_flows.report.html import write_report
from defect_mf_flows.results import CampaignResults, write_results
from defect_mf_flows.schemas.results import Results
from defect_mf_flows.site.connection import GPU_FWORKER_FILE, PASSWORD_VARIABLE, Site
from defect_mf_flows.site.launchpad import SiteLaunchPad
from defect_mf_flows.site.setup import set_up
from defect_mf_flows.testing import write_campaign

__all__ = ["server"]  # fixture

pytestmark = [pytest.mark.mongod, pytest.mark.slow]

TRAINED = {"train round 1"}


@dataclass(frozen=True)
class SiteRun:
    folder: Path
    campaign: Path
    launchpad: SiteLaunchPad
    said: str

    @property
    def site(self) -> Site:
        return Site.of(self.folder)


@pytest.fixture(scope="module")
def site_run(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteRun]:
    """The tiny campaign, submitted and computed by two workers on a server with passwords.

    One worker reads the password from its files, the other from its environment.
    """
    folder = tmp_path_factory.mktemp("guarded")
    with guarded_sites(server, folder) as make:
        site, bare = make(), make(folder=folder / "bare", password=None)
        set_up(site, admin=ADMIN, create_user=True)
        for place in (site, bare):
            settings = yaml.safe_load(place.settings.read_text())
            settings |= {"scratch": str(folder / "scratch"), "training_threads": 1}
            place.settings.write_text(yaml.safe_dump(settings))
        campaign = write_campaign(folder)
        said = ask("-vv", "submit", campaign, "--site", site.folder)
        assert "submitted" in said
        assert "submitted already" in ask("submit", campaign, "--site", site.folder, code=1)
        launchpad = site.launchpad()
        with Workers(site) as workers, Workers(bare) as others:
            workers.start()
            others.start(fworker=GPU_FWORKER_FILE, **{PASSWORD_VARIABLE: PASSWORD})
            wait_until(lambda: over(launchpad), workers, seconds=900)
            texts = workers.texts()[-5000:] + others.texts()[-5000:]
            assert set(states(launchpad).values()) == {"COMPLETED"}, texts
        yield SiteRun(site.folder, campaign, launchpad, said)


def over(launchpad: SiteLaunchPad) -> bool:
    return not launchpad.fireworks.count_documents(
        {"state": {"$in": ["READY", "RUNNING", "RESERVED"]}}
    )


def test_every_job_ran_once_on_a_worker_of_its_category(site_run):
    launchpad = site_run.launchpad
    jobs = {f["fw_id"]: f for f in launchpad.fireworks.find({}, {"fw_id": 1, "name": 1, "spec": 1})}
    ran = list(launchpad.launches.find({}, {"fw_id": 1, "fworker.name": 1}))
    assert sorted(launch["fw_id"] for launch in ran) == sorted(jobs)
    takes = {"dft": "dft", "train": "gpu", "search": "gpu"}
    for launch in ran:
        job = jobs[launch["fw_id"]]
        worker = launch["fworker"]["name"].split("@")[0]
        assert worker == takes[job["spec"]["_category"]], job["name"]
    categories = {job["name"]: job["spec"]["_category"] for job in jobs.values()}
    assert {name for name, category in categories.items() if category == "train"} == TRAINED
    references = [name for name in categories if name.endswith((" relax", " static"))]
    assert len(references) > 10
    assert {categories[name] for name in references} == {"dft"}


def test_the_same_flow_gives_the_same_results_in_this_process_and_on_a_site(site_run, finished):
    printed = ask_json("results", site_run.campaign, "--site", site_run.folder)
    found, here = Results.model_validate_json(printed), finished.results
    assert len(found.ground_states) == len(here.ground_states) > 0
    for one, other in zip(found.ground_states, here.ground_states, strict=True):
        assert (one.defect, one.charge, one.verdict) == (other.defect, other.charge, other.verdict)
        assert one.start == other.start
        assert one.energy_hf == pytest.approx(other.energy_hf, abs=1e-3)
        assert one.energy_model == pytest.approx(other.energy_model, abs=1e-3)
    assert len(found.transition_levels) == len(here.transition_levels) > 0
    for one, other in zip(found.transition_levels, here.transition_levels, strict=True):
        assert one.hf == pytest.approx(other.hf, abs=1e-3)
        assert one.model == pytest.approx(other.model, abs=1e-3)


def test_status_of_the_finished_campaign_adds_up(site_run, finished):
    printed = ask_json("status", site_run.campaign, "--site", site_run.folder)
    status = json.loads(printed)
    assert status["state"] == "finished"
    assert status["done"] == status["total"] == len(states_by_id(site_run.launchpad))
    assert status["remaining"] is None
    assert not status["failed"]
    assert {line["category"] for line in status["stages"]} == {"dft", "train", "search"}
    spent = {part["fidelity"]: part for part in status["spent"]}
    calls = {"gfn1": 0, "gfn2": 0}
    from defect_mf_flows.schemas.calculation import Calculation

    for calculation in finished.api.documents(Calculation):
        calls[calculation.fidelity] += calculation.n_calls
    assert {name: part["calls"] for name, part in spent.items()} == calls
    assert all(part["core_seconds"] > 0 for part in spent.values())
    listed = json.loads(ask_json("status", "--site", site_run.folder))
    assert [line["key"] for line in listed] == [status["key"]]
    assert "finished" in ask("status", "tiny", "--site", site_run.folder)


def states_by_id(launchpad: SiteLaunchPad) -> dict[int, str]:
    return {f["fw_id"]: f["state"] for f in launchpad.fireworks.find({}, {"fw_id": 1, "state": 1})}


def test_the_report_is_written_from_the_sites_store(site_run, tmp_path):
    target = tmp_path / "report.html"
    ask("report", site_run.campaign, "--site", site_run.folder, "-o", target)
    assert target.stat().st_size > 10_000


def test_a_finished_campaign_has_nothing_to_retry_and_is_not_computed_again(site_run):
    before = site_run.launchpad.launches.count_documents({})
    answer = ask("retry", site_run.campaign, "--site", site_run.folder)
    assert "nothing had failed" in answer
    assert over(site_run.launchpad)
    assert site_run.launchpad.launches.count_documents({}) == before


def test_a_campaign_with_passwords_leaves_no_trace_of_them(site_run, server):
    folder = site_run.campaign.parent
    store = site_run.site.store()
    store.connect()
    results = CampaignResults(store).results()
    write_results(results, folder / "results.json")
    write_report(results, folder / "report.html")
    store.close()
    assert results.ground_states
    assert PASSWORD not in site_run.said

    with server.admin() as client:
        database = client[site_run.site.launchpad().name]
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

    own = {site_run.site.folder / name for name in ("my_launchpad.yaml", "jobflow.yaml")}
    files = [path for path in folder.rglob("*") if path.is_file() and path not in own]
    assert {"worker-0.log", "results.json", "report.html"} <= {path.name for path in files}
    assert any(path.is_relative_to(folder / "scratch") for path in files)
    for secret in secrets:
        assert [path for path in files if secret.encode() in path.read_bytes()] == []
    assert all(PASSWORD in path.read_text() for path in own)  # the search finds what is there
