"""Reports as a browser shows them: every figure drawn, nothing wider than the window."""

import shutil

import pytest

from defect_mf_flows.report.html import write_report
from defect_mf_flows.report.pdf import BROWSERS
from defect_mf_flows.testing.browser import Browser

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not any(map(shutil.which, BROWSERS)), reason="NO CHROMIUM on PATH: no page is opened"
    ),
]
DRAWN = "document.querySelectorAll('.js-plotly-plot').length"


@pytest.fixture(scope="module")
def page(detailed, tmp_path_factory):
    return write_report(detailed, tmp_path_factory.mktemp("opened") / "report.html")


@pytest.mark.parametrize("width", [1280, 390])
def test_everything_is_drawn_within_the_window(page, width):
    with Browser() as browser:
        browser.open(page, width=width)
        browser.size(width, int(browser.run("document.documentElement.scrollHeight")))
        places = browser.run("document.querySelectorAll('.plot').length")
        browser.wait(f"{DRAWN} === {places}")
        assert places > 10
        assert browser.run("document.documentElement.scrollWidth") == width
        wide = browser.run(
            "Array.from(document.querySelectorAll('.plot .main-svg'))"
            ".filter(s => s.getBoundingClientRect().right > innerWidth + 1).length"
        )
        assert wide == 0
        assert browser.messages == []


def test_figures_far_away_are_drawn_when_the_reader_comes(page):
    with Browser() as browser:
        browser.open(page, width=390)
        browser.wait("typeof Plotly === 'object'")
        assert browser.run(DRAWN) < browser.run("document.querySelectorAll('.plot').length")
        browser.run("document.getElementById('calls').scrollIntoView()")
        browser.wait("document.getElementById('calls').classList.contains('js-plotly-plot')")


def test_another_geometry_is_drawn_when_it_is_chosen(page):
    with Browser() as browser:
        browser.open(page, width=1280)
        browser.run("document.getElementById('structure-view').scrollIntoView()")
        browser.wait("document.getElementById('structure-view').data !== undefined")
        label = "document.getElementById('structure-view').getAttribute('aria-label')"
        first = browser.run(label)
        browser.run(
            "(() => { const c = document.getElementById('choose-structure');"
            "c.value = 'structure-1'; c.dispatchEvent(new Event('change')); })()"
        )
        assert browser.run(label) != first
        assert browser.messages == []


def test_a_figure_is_saved_as_svg_under_a_name_that_tells_what_it_is(page):
    with Browser() as browser:
        browser.open(page, width=1280)
        browser.run("document.getElementById('level-lines').scrollIntoView()")
        browser.wait("document.getElementById('level-lines').data !== undefined")
        browser.run(  # as the button does
            "(() => { const place = document.getElementById('level-lines'); window.saved = [];"
            "HTMLAnchorElement.prototype.click = function () { saved.push(this.download); };"
            "Plotly.downloadImage(place, place._context.toImageButtonOptions); })()"
        )
        browser.wait("saved.length === 1")
        assert browser.run("saved[0]") == "zns-demo-Transition-levels.svg"
        assert browser.messages == []
