"""Commands that write pages for people: report, compare."""

from __future__ import annotations

from pathlib import Path

import click

from defect_mf_flows.cli.app import CAMPAIGN, FOLDER, SITE, main, refusing
from defect_mf_flows.cli.places import place

_PAGE = click.Path(path_type=Path, dir_okay=False)
_PDF = click.option(
    "--pdf", is_flag=True, help="Also print it to a PDF, with a headless Chromium on PATH."
)


@main.command()
@CAMPAIGN
@FOLDER
@SITE
@click.option("-o", "--output", type=_PAGE, help="HTML file to write.")
@_PDF
@refusing
def report(
    campaign: Path, folder: Path | None, site: Path | None, output: Path | None, pdf: bool
) -> None:
    """Write the HTML report of a finished campaign; it opens from disk.

    Tables go as CSV into a folder beside it, and the methods paragraph's references as BibTeX.
    """
    from defect_mf_flows.report.csv_tables import table_folder, write_tables
    from defect_mf_flows.report.html import write_report
    from defect_mf_flows.report.methods import methods, write_references
    from defect_mf_flows.report.pdf import find_browser

    if pdf:
        find_browser()  # rather before the work than after it
    where = place(campaign, folder, site)
    results = where.results()
    fireworks = where.fireworks()
    page = write_report(results, output or where.report_path(), fireworks=fireworks)
    write_tables(results, table_folder(page))
    write_references(methods(results, fireworks=fireworks), table_folder(page))
    click.echo(page)
    if pdf:
        _print(page)


@main.command()
@click.argument("campaigns", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option(
    "-o", "--output", type=_PAGE, default=Path("comparison.html"), show_default=True,
    help="HTML file to write.",
)  # fmt: skip
@_PDF
@refusing
def compare(campaigns: tuple[Path, ...], output: Path, pdf: bool) -> None:
    """Compare finished campaigns on one page: ground states, levels, errors, cost.

    Each of CAMPAIGNS is a folder with results.json, that file under any name, or a campaign
    file whose folder is campaigns/NAME.
    """
    from defect_mf_flows.report.compare import load_results, render_comparison
    from defect_mf_flows.report.page import write_page
    from defect_mf_flows.report.pdf import find_browser

    if pdf:
        find_browser()
    found = [
        place(path, None, None).results()
        if path.suffix in (".yaml", ".yml")
        else load_results(path)
        for path in campaigns
    ]
    page = write_page(render_comparison(found), output)
    click.echo(page)
    if pdf:
        _print(page)


def _print(page: Path) -> None:
    from defect_mf_flows.report.pdf import print_pdf

    click.echo(print_pdf(page, page.with_suffix(".pdf")))
