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
@click.option(
    "--check",
    type=click.IntRange(2),
    metavar="N",
    help="Compute N high-fidelity single points per curve, both minima included, on this machine.",
)
@click.option(
    "--capture",
    type=click.Choice(["electron", "hole"]),
    help="Capture coefficient; needs --coupling.",
)
@click.option(
    "--coupling", type=float, metavar="W",
    help="Electron-phonon matrix element from wave functions, eV/(amu^1/2 A).",
)  # fmt: skip
@click.option(
    "--degeneracy", type=click.IntRange(1), default=1, show_default=True,
    help="Equivalent final geometries, for --capture.",
)  # fmt: skip
@click.option(
    "--temperature", "temperatures", multiple=True, type=click.FloatRange(1, 5000), metavar="K",
    help="For --capture, repeatedly for several. [default: 300]",
)  # fmt: skip
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
    check: int | None,
    capture: str | None,
    coupling: float | None,
    degeneracy: int,
    temperatures: tuple[float, ...],
    json_file: Path | None,
    figure: Path | None,
) -> None:
    """Curves, effective modes, Huang-Rhys factors and capture barriers of a finished campaign.

    The model's high head computes both charges along the line between their verified minima.
    Single points of --check are kept in the campaign's database; a second call reads them.
    """
    if (capture is None) != (coupling is None):
        raise click.UsageError("--capture and --coupling go together.")
    from defect_mf_flows.campaign import campaign_hash, load_campaign
    from defect_mf_flows.cli.bars import progress_bars, results_alone
    from defect_mf_flows.cli.query import open_results
    from defect_mf_flows.local.campaign import campaign_folder
    from defect_mf_flows.report.ccd_figure import ccd_lines, write_ccd
    from defect_mf_flows.report.picture import check_ending
    from defect_mf_flows.results import CampaignResults
    from defect_mf_flows.results.ccd import coordinate_diagram, ground_of, model_energies

    check_ending(figure)
    read, host = load_campaign(campaign)
    key = campaign_hash(read, host)
    if folder is None and site is None:
        folder = campaign_folder(campaign, None)
    with results_alone(), progress_bars() as bars, open_results(folder, site) as store:
        stored = CampaignResults(store, campaign_hash=key)
        results = stored.results()
        head = results.fidelities["high"]
        energies = model_energies(stored, head)
        found = coordinate_diagram(
            results, defect, charges, energies, source=f"the model's head {head}", points=points
        )
        if check is not None:
            from defect_mf_flows.results.ccd_checks import checked, single_points

            compute = single_points(read, store, (folder or Path()) / "ccd_checks")
            found = checked(
                found,
                results,
                compute,
                energies,
                points=check,
                progress=bars("high-fidelity points"),
            )
    if capture is not None and coupling is not None:
        from defect_mf_flows.core.capture import CaptureInputs, capture_coefficients

        inputs = CaptureInputs(capture, coupling, degeneracy, temperatures or (300.0,))
        volume = ground_of(results, defect, found.curves[0].charge).structure.volume
        made = capture_coefficients(found, inputs, volume=volume)
        found = found.model_copy(update={"capture": [made]})
    for line in ccd_lines(found):
        click.echo(line)
    if json_file is not None:
        json_file.write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
    if figure is not None:
        write_ccd(found, figure)
