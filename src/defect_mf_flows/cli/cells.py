"""Which cell a command computes, and with which model: of a campaign, or from files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from defect_mf_flows.cli.app import FOLDER, SITE

if TYPE_CHECKING:
    from defect_mf_flows.results.cells import ModelCells

_OPTIONS = (
    click.argument("campaign", required=False, type=click.Path(path_type=Path)),
    FOLDER,
    SITE,
    click.option("--defect", help="Defect of the campaign, for example v_Zn. [default: the only]"),
    click.option(
        "--charge",
        "charges",
        multiple=True,
        type=int,
        help="Charge state, repeatedly for several. [default: all of the campaign]",
    ),
    click.option("--head", help="Head of the model. [default: high fidelity]"),
    click.option(
        "--model",
        "model_folder",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        help="Instead of a CAMPAIGN: folder that `defect-mf train` made.",
    ),
    click.option(
        "--structure",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="With --model: POSCAR, CIF, or extended XYZ with the charge.",
    ),
    click.option("--spin", type=click.IntRange(0), help="With --model: unpaired electrons."),
    click.option("--device", default="cpu", show_default=True, help="torch device."),
)


def cell_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument and options that say which cells; see :class:`CellChoice`."""
    return reduce(lambda inner, option: option(inner), reversed(_OPTIONS), command)


@dataclass(frozen=True)
class CellChoice:
    """What was given on the command line."""

    campaign: Path | None
    folder: Path | None
    site: Path | None
    defect: str | None
    charges: tuple[int, ...]
    head: str | None
    model_folder: Path | None
    structure: Path | None
    spin: int | None

    def read(self, around: tuple[float, float, float] | None = None) -> ModelCells:
        """Read cells and model.

        Parameters
        ----------
        around
            Fractional coordinates of the defect in a file.
        """
        files = self.model_folder is not None or self.structure is not None
        if files == (self.campaign is not None):
            raise click.UsageError("give a CAMPAIGN, or --model and --structure.")
        if not files:
            if self.spin is not None or around is not None:
                raise click.UsageError("--spin and --around go with --structure.")
            return self._of_campaign()
        if self.model_folder is None or self.structure is None:
            raise click.UsageError("--model and --structure go together.")
        if self.defect is not None or self.folder is not None:
            raise click.UsageError("--defect and --folder go with a CAMPAIGN.")
        if len(self.charges) > 1:
            raise click.UsageError("a structure has one --charge.")
        from defect_mf_flows.learning.models import read_model
        from defect_mf_flows.results.cells import file_cells

        model, _ = read_model(self.model_folder)
        charge = self.charges[0] if self.charges else None
        return file_cells(
            model, self.structure, charge=charge, spin=self.spin, head=self.head, site=around
        )

    def _of_campaign(self) -> ModelCells:
        from defect_mf_flows.campaign import campaign_hash, load_campaign
        from defect_mf_flows.cli.query import open_results
        from defect_mf_flows.local.campaign import campaign_folder
        from defect_mf_flows.results import CampaignResults
        from defect_mf_flows.results.cells import campaign_cells

        assert self.campaign is not None
        key = campaign_hash(*load_campaign(self.campaign))
        folder = self.folder
        if folder is None and self.site is None:
            folder = campaign_folder(self.campaign, None)
        with open_results(folder, self.site) as store:
            return campaign_cells(
                CampaignResults(store, campaign_hash=key),
                self.defect,
                self.charges,
                head=self.head,
            )
