"""The headless browser opens pages as wide as asked, and hears what they complain about."""

import shutil

import pytest

from defect_mf_flows.errors import ResultsError, ServiceError
from defect_mf_flows.report.pdf import BROWSERS, VARIABLE
from defect_mf_flows.testing.browser import Browser

needs_chromium = pytest.mark.skipif(
    not any(map(shutil.which, BROWSERS)), reason="NO CHROMIUM on PATH: pages are not opened"
)

PAGE = """<!DOCTYPE html><html><head><meta name="viewport" content="width=device-width">
<style>body { margin: 0 } div { width: 100%; height: 50px; background: #0072B2 }</style></head>
<body><div></div><p id="words">hello</p>SCRIPT</body></html>"""


@pytest.fixture
def write(tmp_path):
    def page(script=""):
        path = tmp_path / "page.html"
        path.write_text(PAGE.replace("SCRIPT", script))
        return path

    return page


@needs_chromium
def test_a_page_is_as_wide_as_a_phone_or_a_desktop(write):
    with Browser() as browser:
        told = browser.open(write(), width=390)
        assert 0 < told["dom"] <= told["load"]
        assert told["paint"] > 0
        assert browser.run("window.innerWidth") == 390
        browser.size(1280, 700)
        assert browser.run("window.innerWidth") == 1280
        assert browser.messages == []


@needs_chromium
def test_a_picture_shows_the_page(write, tmp_path):
    from PIL import Image

    with Browser() as browser:
        browser.open(write(), width=400)
        (tmp_path / "picture.png").write_bytes(browser.picture(0, 0, 400, 60))
    picture = Image.open(tmp_path / "picture.png").convert("RGB")
    assert picture.size == (400, 60)
    assert picture.getpixel((200, 20)) == (0, 0x72, 0xB2)
    assert picture.getpixel((200, 58)) == (255, 255, 255)


@needs_chromium
def test_errors_and_requests_of_a_page_are_heard(write):
    script = "<script>fetch('http://example.invalid/x'); noSuchName();</script>"
    with Browser() as browser:
        browser.open(write(script), width=800)
        browser.wait("true")
        heard = " ".join(browser.messages)
        assert "exception" in heard
        assert "request: http://example.invalid/x" in heard
        with pytest.raises(ServiceError, match="ReferenceError"):
            browser.run("noSuchName")
        with pytest.raises(ServiceError, match=r"refuses No\.such"):
            browser.call("No.such")


def test_without_a_browser_the_message_says_what_to_do(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ResultsError, match="apt install chromium"):
        Browser()
