"""``defect-mf run`` on real mongod and real workers, killed where it hurts."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from defect_mf_flows.testing import write_campaign

pytestmark = [pytest.mark.mongod, pytest.mark.slow]

LIMIT = 420


def start(campaign, folder):
    command = [sys.executable, "-m", "defect_mf_flows.cli", "run", str(campaign)]
    log = (folder.parent / f"{folder.name}.log").open("a")
    return subprocess.Popen(
        [*command, "--folder", str(folder)], stdout=log, stderr=log, start_new_session=True
    )


def finish(process, folder):
    code = process.wait(timeout=LIMIT)
    log = (folder.parent / f"{folder.name}.log").read_text()
    assert code == 0, log[-3000:]
    return json.loads((folder / "results.json").read_text())


def kill_once(process, condition):
    """Kill the command with SIGKILL as soon as a condition holds; its own end is a failure."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        if condition():
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.1)
    pytest.fail("the condition never came")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A run that nobody disturbed: its campaign file, folder and results."""
    place = tmp_path_factory.mktemp("undisturbed")
    campaign = write_campaign(place, {"training.max_epochs": 40})  # long enough to be killed in
    folder = place / "run"
    return campaign, folder, finish(start(campaign, folder), folder)


def test_a_run_killed_in_two_stages_ends_like_one_that_was_not(tmp_path, undisturbed):
    campaign, _, whole = undisturbed
    folder = tmp_path / "killed"
    logs = folder / "logs"

    def relaxing():
        text = "".join(p.read_text() for p in logs.glob("*.log")) if logs.is_dir() else ""
        return text.count("gfn1 relax") >= 5  # two or three relaxations have begun

    def training():
        histories = list((folder / "scratch" / "training").glob("*/history.jsonl"))
        return any(len(path.read_text().splitlines()) >= 3 for path in histories)

    kill_once(start(campaign, folder), relaxing)
    assert not (folder / "results.json").exists()
    kill_once(start(campaign, folder), training)
    assert not (folder / "results.json").exists()
    resumed = finish(start(campaign, folder), folder)

    for one, other in zip(whole["ground_states"], resumed["ground_states"], strict=True):
        assert one["verdict"] == other["verdict"]
        assert one["start"] == other["start"]
        for key in ("energy_hf", "energy_model"):
            assert one[key] == pytest.approx(other[key], abs=1e-3)
    for one, other in zip(whole["transition_levels"], resumed["transition_levels"], strict=True):
        assert one["hf"] == pytest.approx(other["hf"], abs=1e-3)
        assert one["model"] == pytest.approx(other["model"], abs=1e-3)
    assert whole["counts"]["labels_by_split"] == resumed["counts"]["labels_by_split"]
    assert (folder / "report.html").stat().st_size > 10_000


def test_the_finished_campaign_answers_and_is_not_computed_again(undisturbed):
    campaign, folder, first = undisturbed
    launched = (folder / "server" / "mongod.log").stat().st_mtime

    def ask(*arguments):
        command = [sys.executable, "-m", "defect_mf_flows.cli", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    printed = json.loads(ask("results", campaign, "--folder", folder, "--json"))
    assert printed == first
    assert "low fidelity" in ask("status", campaign, "--folder", folder)
    again = finish(start(campaign, folder), folder)
    assert again == first
    assert (folder / "server" / "mongod.log").stat().st_mtime > launched


def test_serial_gives_the_same_results_without_a_server(tmp_path, finished):
    campaign = write_campaign(tmp_path)
    folder = tmp_path / "serial"
    command = [sys.executable, "-m", "defect_mf_flows.cli", "run", str(campaign), "--serial"]
    done = subprocess.run(
        [*command, "--folder", str(folder)], capture_output=True, text=True, timeout=LIMIT,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "run again" in done.stderr or "computes its" in done.stderr
    assert not (folder / "server" / "data").exists()
    content = json.loads((folder / "results.json").read_text())
    for one, other in zip(content["ground_states"], finished.results.ground_states, strict=True):
        assert one["energy_hf"] == pytest.approx(other.energy_hf, abs=1e-3)
