"""FireWorks' own application on a real mongod: who gets in, what shows, where pages load from."""

import json
import re
from contextlib import chdir
from types import SimpleNamespace
from urllib.parse import quote, urljoin, urlsplit

import pytest
from fireworks import FiretaskBase, Firework, FWorker, Workflow, explicit_serialize
from fireworks.core.rocket_launcher import rapidfire
from jobflow.managers.fireworks import flow_to_workflow

from defect_mf_flows.campaign import campaign_hash, load_campaign
from defect_mf_flows.errors import ServiceError, SiteError
from defect_mf_flows.flows.campaign import CampaignMaker
from defect_mf_flows.local.launchpad import LocalLaunchPad
from defect_mf_flows.local.layout import Layout
from defect_mf_flows.local.mongod import PrivateMongod, find_mongod
from defect_mf_flows.site.web import Access, create_app, listen, read_access, url_of
from defect_mf_flows.testing import write_campaign

pytestmark = pytest.mark.mongod

HOSTILE = "<script>alert(1)</script>"
RELAX = "v_Zn -1 | Bond_Distortion_-30.0% | gfn1 relax"
PASSWORD = "correct horse"
SAMPLES = {
    "state": "COMPLETED",
    "sorting_key": "created_on",
    "sorting_order": "ASCENDING",
    "coll": "fireworks",
    "interval": "days",
    "num_intervals": "7",
    "key": "campaign",
    "value": "other",
    "filename": "css/styles.css",
    "name": "web.css",
}


@explicit_serialize
class Nothing(FiretaskBase):
    """FireWorks' own tasks make it import its tests."""

    def run_task(self, fw_spec):
        return None


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A LaunchPad with a waiting campaign and with another workflow that has run."""
    try:
        find_mongod()
    except ServiceError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("web")
    layout = Layout.of(folder)
    layout.make()
    with PrivateMongod(layout.data) as mongod:
        launchpad = LocalLaunchPad(layout, mongod.port)
        launchpad.initialize()
        other = Workflow(
            [
                Firework(
                    [Nothing()],
                    name=name,
                    spec={"campaign_hash": "0" * 64, "secret": "squirrel"},
                )
                for name in (RELAX, HOSTILE)
            ],
            name="other",
            metadata={"campaign": "other", "campaign_hash": "0" * 64},
        )
        other_ids = list(launchpad.add_wf(other).values())
        with chdir(layout.launches):
            rapidfire(launchpad, FWorker(), strm_lvl="CRITICAL")
        campaign, structure = load_campaign(write_campaign(folder))
        key = campaign_hash(campaign, structure)
        flow = CampaignMaker.from_campaign(campaign).make(structure)
        workflow = flow_to_workflow(flow, metadata={"campaign": "tiny", "campaign_hash": key})
        ids = list(launchpad.add_wf(workflow).values())
        hostile = launchpad.get_fw_ids({"name": HOSTILE})[0]
        yield SimpleNamespace(
            launchpad=launchpad, key=key, ids=ids, other_ids=other_ids, hostile=hostile
        )
        launchpad.close()


@pytest.fixture
def all_shown(server):
    return create_app(server.launchpad, title=f"all {HOSTILE}").test_client()


@pytest.fixture
def narrowed(server):
    return create_app(server.launchpad, campaign_hash=server.key).test_client()


def addresses(app, fw_id):
    """One address for every rule of the application."""
    values = {**SAMPLES, "fw_id": str(fw_id), "wf_id": str(fw_id)}
    return [re.sub(r"<(?:\w+:)?(\w+)>", lambda m: values[m[1]], r.rule) for r in app.url_map._rules]


# -- who gets in -----------------------------------------------------------------------


def test_every_address_asks_for_the_password(server):
    app = create_app(server.launchpad, access=Access("anna", PASSWORD))
    client = app.test_client()
    known = addresses(app, server.other_ids[0])
    assert any(a.endswith("/fig.png") for a in known)
    assert any(a.startswith("/static/") for a in known)
    for address in [*known, "/no/such/page"]:
        assert client.get(address).status_code == 401, address
        for wrong in [("anna", "wrong"), ("eve", PASSWORD), ("", ""), ("anna", "")]:
            assert client.get(address, auth=wrong).status_code == 401, (address, wrong)
        assert client.get(address, headers={"Authorization": "Bearer x"}).status_code == 401
    for address in known:
        answer = client.get(address, auth=("anna", PASSWORD), follow_redirects=True)
        assert answer.status_code == 200, (address, answer.text[:300])


def test_without_a_password_only_names_of_this_machine_are_answered(all_shown, server):
    for name in ("localhost:5000", "127.0.0.1:5000", "[::1]:5000"):
        assert all_shown.get("/", headers={"Host": name}).status_code == 200
    assert all_shown.get("/", headers={"Host": "rebound.example"}).status_code == 400
    guarded = create_app(server.launchpad, access=Access("anna", PASSWORD)).test_client()
    answer = guarded.get("/", headers={"Host": "cluster.example"}, auth=("anna", PASSWORD))
    assert answer.status_code == 200


@pytest.fixture
def secret_file(tmp_path):
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    path.chmod(0o600)
    return path


def test_a_loopback_address_needs_no_password(monkeypatch):
    monkeypatch.delenv("DEFECT_MF_WEB_PASSWORD", raising=False)
    for host in ("127.0.0.1", "localhost", "::1", "127.1.2.3"):
        assert read_access(host, None, None) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.7", "localhost.example"])
def test_any_other_address_needs_user_and_password(monkeypatch, secret_file, host):
    monkeypatch.delenv("DEFECT_MF_WEB_PASSWORD", raising=False)
    with pytest.raises(SiteError, match="DEFECT_MF_WEB_PASSWORD"):
        read_access(host, None, None)
    with pytest.raises(SiteError, match="user name but not a password"):
        read_access(host, "anna", None)
    with pytest.raises(SiteError, match="password but not a user name"):
        read_access(host, None, secret_file)
    access = read_access(host, "anna", secret_file)
    assert access.admits("anna", PASSWORD)
    assert not access.admits("anna", PASSWORD + "\n")
    assert not access.admits(None, None)
    assert PASSWORD not in repr(access)


def test_a_password_that_others_may_read_or_guess_is_refused(monkeypatch, secret_file):
    secret_file.chmod(0o640)
    with pytest.raises(SiteError, match="chmod 600"):
        read_access("127.0.0.1", "anna", secret_file)
    secret_file.chmod(0o600)
    secret_file.write_text("\n")
    with pytest.raises(SiteError, match="empty"):
        read_access("127.0.0.1", "anna", secret_file)
    monkeypatch.setenv("DEFECT_MF_WEB_PASSWORD", "short")
    with pytest.raises(SiteError, match="fewer than 8") as caught:
        read_access("127.0.0.1", "anna", None)
    assert "short" not in str(caught.value)


def test_the_session_key_is_new_at_each_start_unless_it_is_set(server, monkeypatch):
    monkeypatch.delenv("FWAPP_SECRET_KEY", raising=False)
    first, second = (create_app(server.launchpad).secret_key for _ in range(2))
    assert first != second
    assert len(first) >= 32
    monkeypatch.setenv("FWAPP_SECRET_KEY", "kept")
    assert create_app(server.launchpad).secret_key == "kept"


# -- where pages load from -------------------------------------------------------------

LOADED = re.compile(r"""<(?!a\b)\w+\b[^>]*?\b(?:src|href|action|data)=["']?([^"'\s>]+)""", re.I)
LINKED = re.compile(r"""<a\b[^>]*?\bhref=["']([^"']+)""", re.I)
IN_STYLES = re.compile(r"""(?:url\(\s*|@import\s+)["']?([^"')\s;]+)""", re.I)


def test_no_page_loads_anything_from_elsewhere(all_shown, server):
    waiting = addresses(all_shown.application, server.other_ids[0])
    waiting += [f"/wf/{server.ids[0]}", f"/fw/{server.ids[0]}"]
    seen, pages, scripts = set(), 0, set()
    while waiting:
        address = waiting.pop()
        if address in seen:
            continue
        seen.add(address)
        answer = all_shown.get(address, follow_redirects=True)
        assert answer.status_code == 200, address
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'self'" in policy
        assert "http" not in policy
        loaded = []
        if answer.mimetype == "text/html":
            pages += 1
            # What Handlebars fills in when a job is clicked has no address yet.
            loaded = [item for item in LOADED.findall(answer.text) if "{{" not in item]
            scripts.update(item for item in loaded if item.endswith(".js"))
            links = [urljoin(address, item) for item in LINKED.findall(answer.text)]
            waiting += [i for i in links if not urlsplit(i).netloc and "{{" not in i]
        for item in loaded + IN_STYLES.findall(answer.text if "css" in answer.mimetype else ""):
            assert not urlsplit(item).netloc, (address, item)
        waiting += [urljoin(address, item) for item in loaded]
    assert pages > 20
    assert {"/defect-mf/jquery.min.js", "/defect-mf/graph.js"} <= scripts


def test_jquery_is_the_real_one_and_charts_are_pictures(all_shown):
    assert b"jQuery v3" in all_shown.get("/defect-mf/jquery.min.js").data[:100]
    chart = all_shown.get("/reports/fireworks/days/7/fig.png")
    assert chart.mimetype == "image/png"
    assert chart.data.startswith(b"\x89PNG")
    assert all_shown.get("/defect-mf/..%2Fapp.py").status_code == 404


# -- what shows ------------------------------------------------------------------------


def test_names_mean_something_and_are_never_code(all_shown, server):
    shown = all_shown.get("/").text
    assert ">tiny<" in re.sub(r"\s+", "", shown)
    assert "host and defects" in shown
    assert RELAX in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown
    for address in addresses(all_shown.application, server.hostile):
        answer = all_shown.get(address, follow_redirects=True)
        if answer.mimetype == "text/html":
            assert HOSTILE not in answer.text, address
    for address in (f"/fw/{server.hostile}/details", f"/wf/{server.hostile}/json"):
        answer = all_shown.get(address)
        assert answer.mimetype == "application/json"
        assert HOSTILE in json.dumps(answer.json)


def test_the_lists_know_how_many_pages_there_are(all_shown):
    page = all_shown.get("/fw/").text
    assert "const maxPage = 1;" in page
    assert 'max="1"' in page


def test_a_filter_hides_every_other_campaign(narrowed, all_shown, server):
    hidden, shown = server.other_ids[0], server.ids[0]
    for address in (f"/wf/{hidden}", f"/wf/{hidden}/json", f"/fw/{hidden}"):
        assert all_shown.get(address).status_code == 200
        assert narrowed.get(address).status_code == 404
        assert narrowed.get(address.replace(str(hidden), str(shown))).status_code == 200
    assert narrowed.get(f"/fw/{hidden}/details").status_code == 404
    assert narrowed.get("/wf/metadata/campaign/other/").status_code == 404
    for address in ("/", "/fw/", "/wf/", "/fw/COMPLETED/", "/wf/COMPLETED/"):
        text = narrowed.get(address).text
        assert RELAX not in text
        assert ">other<" not in text
    assert f"{len(server.ids)} total Fireworks" in narrowed.get("/fw/").text
    assert f"{len(server.ids) + 2} total Fireworks" in all_shown.get("/fw/").text


def test_a_query_narrows_and_cannot_widen(narrowed, all_shown, server):
    def ask(client, **queries):
        given = {name: json.dumps(query) for name, query in queries.items()}
        return re.sub(r"\s+", "", client.get("/", query_string=given).text)

    everything = {"$or": [{"campaign": {"$exists": False}}, {"name": {"$regex": ".*"}}]}
    assert ">other<" not in ask(narrowed, wf_query=everything, fw_query=everything)
    one = ask(all_shown, wf_query={"metadata.campaign": "other"})
    assert ">other<" in one
    assert ">tiny<" not in one


def test_reports_and_charts_keep_to_the_filter_and_leave_it_alone(narrowed, all_shown, server):
    before = dict(narrowed.application.BASE_Q), dict(narrowed.application.BASE_Q_WF)
    assert "COMPLETED : 2" in all_shown.get("/report/days/7/").text
    report = narrowed.get("/report/days/7/").text
    assert "COMPLETED : 0" in report
    assert "COMPLETED : 2" not in report
    for collection in ("fireworks", "workflows", "launches"):
        chart = f"/reports/{collection}/days/7/fig.png"
        assert narrowed.get(chart).data != all_shown.get(chart).data
    after = narrowed.application.BASE_Q, narrowed.application.BASE_Q_WF
    assert after == before


# -- what a request may ask ------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        {"$where": "sleep(5000) || true"},
        {"$expr": {"$function": {"body": "function(){return true}", "args": [], "lang": "js"}}},
        {"$or": [{"name": "x"}, {"$and": [{"$where": "true"}]}]},
        {"spec": {"$elemMatch": {"$jsonSchema": {}}}},
        {"name": {"$not": {"$where": "1"}}},
    ],
)
@pytest.mark.parametrize("name", ["fw_query", "wf_query"])
def test_operators_that_run_code_are_refused(all_shown, name, query):
    answer = all_shown.get("/", query_string={name: json.dumps(query)})
    assert answer.status_code == 400
    assert answer.mimetype == "text/plain"
    assert "Refused: $" in answer.text
    twice = f'{{"a": 1, "\\u0024where": "{quote("sleep(1)")}"}}'
    assert all_shown.get("/", query_string={name: twice}).status_code == 400


@pytest.mark.parametrize("query", ["[" * 1900, '{"a":' * 300, "x" * 2001, "{", "[]", "7", "null"])
def test_a_query_that_is_none_changes_nothing_and_breaks_nothing(all_shown, query):
    answer = all_shown.get("/", query_string={"fw_query": query})
    assert answer.status_code in (200, 400)
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "address",
    [
        "/fw/999999",
        "/fw/999999/details",
        "/wf/999999",
        "/wf/999999/json",
        "/wf/99999999999999999999",
        "/fw/NOSTATE/",
        "/fw/READY/$where/ASCENDING/",
        "/fw/READY/created_on/SIDEWAYS/",
        "/fw/?page=0",
        "/fw/?page=-3",
        "/wf/?page=9999999999",
        "/report/aeons/3/",
        "/report/days/0/",
        "/report/days/-1/",
        "/report/years/99999/",
        "/reports/system.users/days/7/fig.png",
        "/reports/fireworks/days/x/fig.png",
        "/wf/metadata/$where/1/",
        "/wf/metadata/campaign/99999999999999999999/",
        "/defect-mf/nothing.js",
        "/static/../app.py",
    ],
)
def test_addresses_of_nothing_are_not_found(all_shown, address):
    assert all_shown.get(address).status_code == 404


# -- the server ------------------------------------------------------------------------


def test_a_taken_port_is_an_error_or_replaced_by_a_free_one():
    with listen("127.0.0.1", None) as first, listen("127.0.0.1", None) as second:
        ports = [listener.getsockname()[1] for listener in (first, second)]
        assert ports[0] != ports[1]
        assert url_of(first) == f"http://127.0.0.1:{ports[0]}/"
        with pytest.raises(ServiceError, match=f"--port {ports[0]}"):
            listen("127.0.0.1", ports[0])
    with pytest.raises(ServiceError, match="another port"):
        listen("192.0.2.1", None)


def test_a_database_that_is_gone_is_said_so(tmp_path):
    layout = Layout.of(tmp_path)
    layout.make()
    with PrivateMongod(layout.data) as mongod:
        launchpad = LocalLaunchPad(layout, mongod.port, patience=0.3)
        launchpad.initialize()
        client = create_app(launchpad).test_client()
        assert client.get("/").status_code == 200
    answer = client.get("/")
    launchpad.close()
    assert answer.status_code == 503
    assert "start defect-mf web again" in answer.text
