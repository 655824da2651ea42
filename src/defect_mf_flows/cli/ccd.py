"""`defect-mf ccd`: configuration coordinate diagram of two charge states."""

from __future__ import annotations

from pathlib import Path

import click

from defect_mf_flows.cli.app import CAMPAIGN, FOLDER, SITE, main, refusing

_OUT = click.Path(path_type=Path, dir_okay=False)


@main.command()
@CAMPAIGN
@FOLDER
@SITE
@click.option("--defect", required=True, help="Defect, for example v_Zn.")
@click.option("--charges", nargs=2, type=int, required=True, help="Two charges: 0 -1.")
@click.option("--points", type=click.IntRange(11), default=45, show_default=True)
@click.option("--json", "json_file", type=_OUT, help="Write everything.")
@click.option("--figure", type=_OUT, help="Draw it (.png, .svg, .pdf).")
@refusing
def ccd(
    campaign: Path,
    folder: Path | None,
    site: Path | None,
    defect: str,
    charges: tuple[int, int],
    points: int,
    json_file: Path | None,
    figure: Path | None,
) -> None:
    """Curves, effective modes, Huang-Rhys factors and capture barriers of a finished campaign.

    The model's high head computes both charges along the line between their verified minima.
    """
    from defect_mf_flows.campaign import campaign_hash, load_campaign
    from defect_mf_flows.cli.query import open_results
    from defect_mf_flows.local.campaign import campaign_folder
    from defect_mf_flows.report.ccd_figure import ccd_lines, write_ccd
    from defect_mf_flows.results import CampaignResults
    from defect_mf_flows.results.ccd import coordinate_diagram, model_energies

    key = campaign_hash(*load_campaign(campaign))
    if folder is None and site is None:
        folder = campaign_folder(campaign, None)
    with open_results(folder, site) as store:
        stored = CampaignResults(store, campaign_hash=key)
        results = stored.results()
        head = results.fidelities["high"]
        energies = model_energies(stored, head)
    found = coordinate_diagram(
        results, defect, charges, energies, source=f"the model's head {head}", points=points
    )
    for line in ccd_lines(found):
        click.echo(line)
    if json_file is not None:
        json_file.write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if figure is not None:
        write_ccd(found, figure)
