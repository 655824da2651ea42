"""``defect-mf web`` as a process, with a browser where one is installed."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from types import SimpleNamespace

import psutil
import pytest
import yaml
from jobflow.managers.fireworks import flow_to_workflow

from defect_mf_flows.campaign import campaign_hash, load_campaign
from defect_mf_flows.errors import ServiceError
from defect_mf_flows.flows.campaign import CampaignMaker
from defect_mf_flows.local.launchpad import LocalLaunchPad
from defect_mf_flows.local.layout import Layout
from defect_mf_flows.local.locks import try_lock
from defect_mf_flows.local.mongod import PrivateMongod, find_mongod
from defect_mf_flows.testing import write_campaign

pytestmark = [pytest.mark.mongod, pytest.mark.slow]

LIMIT = 90
COMMAND = [sys.executable, "-m", "defect_mf_flows.cli", "web"]


@pytest.fixture(scope="module")
def added(tmp_path_factory):
    """A folder whose database, stopped, holds a campaign that waits."""
    try:
        find_mongod()
    except ServiceError as error:
        pytest.skip(str(error))
    base = tmp_path_factory.mktemp("web")
    path = write_campaign(base)
    campaign, structure = load_campaign(path)
    key = campaign_hash(campaign, structure)
    layout = Layout.of(base / "run")
    layout.make()
    with PrivateMongod(layout.data) as mongod:
        launchpad = LocalLaunchPad(layout, mongod.port)
        launchpad.initialize()
        flow = CampaignMaker.from_campaign(campaign).make(structure)
        metadata = {"campaign": "tiny", "campaign_hash": key}
        launchpad.add_wf(flow_to_workflow(flow, metadata=metadata))
        launchpad.close()
    return SimpleNamespace(path=path, folder=layout.folder, layout=layout)


@pytest.fixture
def start():
    """Start the command; the address it prints, once it does. What a test leaves is killed."""
    started = []

    def begin(*arguments, **variables):
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **variables},
        )
        started.append(process)
        line = process.stdout.readline()
        found = re.search(r"http://\S+/", line)
        assert found, (line, process.stderr.read() if process.poll() is not None else "")
        return process, found[0]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def get(url, user=None):
    request = urllib.request.Request(url)
    if user:
        request.add_header("Authorization", "Basic " + b64encode(user.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=LIMIT) as answer:
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def processes_of(folder):
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(folder) in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_folder_is_shown_until_a_signal_ends_everything(added, start, number):
    process, url = start(added.path, "--folder", added.folder)
    status, page = get(url)
    assert status == 200
    assert "host and defects" in page
    assert "campaign tiny" in page
    assert get(f"{url}wf/1")[0] == 200
    # A client that keeps its connection open and says nothing does not hold the end up.
    port = int(re.search(r":(\d+)/", url)[1])
    with socket.create_connection(("127.0.0.1", port)):
        process.send_signal(number)
        output, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, errors
    assert "web UI ended" in output
    assert "Traceback" not in errors
    deadline = time.monotonic() + LIMIT
    while left := processes_of(added.folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    lock = try_lock(added.layout.folder_lock)
    assert lock is not None
    lock.close()


def test_another_address_needs_a_password_and_then_asks_for_it(added, start):
    arguments = ["--folder", added.folder, "--host", "0.0.0.0"]
    refused = subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert refused.returncode == 1
    assert "DEFECT_MF_WEB_PASSWORD" in refused.stderr
    password = "four random words"
    process, url = start(*arguments, "--user", "anna", DEFECT_MF_WEB_PASSWORD=password)
    url = url.replace("0.0.0.0", "127.0.0.1")
    for place in ("", "static/css/styles.css", "reports/fireworks/days/7/fig.png", "wf/1/json"):
        assert get(url + place)[0] == 401
        assert get(url + place, "anna:wrong")[0] == 401
        assert get(url + place, f"anna:{password}")[0] == 200
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=LIMIT)
    assert password not in output + errors


def test_a_site_is_shown_and_an_unknown_campaign_refused(added, start, tmp_path):
    pytest.importorskip("defect_mf_flows.site.connection")
    with PrivateMongod(added.layout.data) as mongod:
        content = {"host": "127.0.0.1", "port": mongod.port, "name": "defect_mf"}
        (tmp_path / "my_launchpad.yaml").write_text(yaml.safe_dump(content))
        _, url = start(added.path, "--site", tmp_path)
        assert "host and defects" in get(url)[1]
        other = write_campaign(tmp_path, {"seed": 7})
        refused = subprocess.run(
            [*COMMAND, str(other), "--site", str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
        assert refused.returncode == 1
        assert "has no campaign tiny" in refused.stderr


def test_wrong_arguments_are_refused_before_anything_starts(added, tmp_path):
    for arguments, message in [
        ([], "give --site, --folder or a CAMPAIGN"),
        (["--site", tmp_path, "--folder", tmp_path], "not both"),
        (["--folder", tmp_path / "nothing"], "Nothing was run"),
        (["--folder", added.folder, "--port", "70000"], "70000"),
    ]:
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
            env={key: value for key, value in os.environ.items() if key != "DEFECT_MF_SITE"},
        )
        assert done.returncode != 0
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_a_browser_without_internet_draws_the_workflow(added, start, tmp_path):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("NO BROWSER: the pages' scripts are not tested; apt install chromium")
    _, url = start(added.path, "--folder", added.folder)
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr"]
    command += ["--virtual-time-budget=10000", "--dump-dom", f"{url}wf/1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=True)
    assert "Workflow 1: tiny" in done.stdout  # written by graph.js, which needs jQuery
    assert done.stdout.count("<canvas") >= 3  # cytoscape's layers
    assert 'class="cy-panzoom"' in done.stdout
    assert 'class="collapser"' in done.stdout  # the JSON below
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not complaints
