import shutil

import pytest

from defect_mf_flows.errors import ResultsError
from defect_mf_flows.report.pdf import BROWSERS, VARIABLE, find_browser, print_pdf


def test_without_a_browser_the_message_says_what_to_do(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(ResultsError, match=r"apt install chromium.*print it to a file"):
        find_browser()
    monkeypatch.setenv(VARIABLE, "no-such-browser")
    with pytest.raises(ResultsError, match="no-such-browser"):
        find_browser()


def test_a_program_that_prints_nothing_is_an_error_and_leaves_no_file(tmp_path, monkeypatch):
    fake = tmp_path / "chromium"
    fake.write_text("#!/bin/sh\necho it is broken >&2\n")
    fake.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(fake))
    page = tmp_path / "page.html"
    page.write_text("<p>hello</p>")
    with pytest.raises(ResultsError, match="it is broken"):
        print_pdf(page, tmp_path / "page.pdf")
    assert not (tmp_path / "page.pdf").exists()


@pytest.mark.slow
@pytest.mark.skipif(
    not any(map(shutil.which, BROWSERS)), reason="NO CHROMIUM on PATH: printing is not tested"
)
def test_a_report_becomes_a_pdf_of_several_pages(results, tmp_path):
    from defect_mf_flows.report.html import write_report

    page = write_report(results, tmp_path / "report.html")
    made = print_pdf(page, tmp_path / "report.pdf").read_bytes()
    assert made.startswith(b"%PDF")
    assert made.count(b"/Type /Page\n") + made.count(b"/Type /Page ") > 3
