"""The command group, and what its commands share."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from defect_mf_flows.errors import DefectMFError

CAMPAIGN = click.argument("campaign", type=click.Path(path_type=Path))
FOLDER = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the campaign's database, logs and results. [default: campaigns/NAME]",
)


def use_fireworks_config(
    context: click.Context, parameter: click.Parameter, folder: Path | None
) -> Path | None:
    """Let FireWorks, which reads its settings when it is imported, read those of the site."""
    if folder is not None and (path := folder.expanduser().resolve() / "FW_config.yaml").is_file():
        os.environ.setdefault("FW_CONFIG_FILE", str(path))
    return folder


SITE = click.option(
    "--site",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="DEFECT_MF_SITE",
    show_envvar=True,
    callback=use_fireworks_config,
    help="Folder of a site's files, for campaigns that were submitted.",
)


def refusing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the package's own errors into one message and exit status 1."""

    @wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except DefectMFError as error:
            raise click.ClickException(str(error)) from error
        except Exception as error:
            if "pymongo" not in sys.modules:  # importing it takes longer than --help should
                raise
            from pymongo.errors import PyMongoError

            from defect_mf_flows.site.trouble import explain

            if not isinstance(error, PyMongoError):
                raise
            raise click.ClickException(str(explain(error))) from None

    return wrapped


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="defect-mf-flows")
@click.option("-v", "--verbose", count=True, help="More messages; twice for debugging.")
def main(verbose: int) -> None:
    """Ground states and transition levels of charged point defects.

    A campaign file says what to compute: a host, defects, a cheap and an expensive method.
    `run` computes it on this machine and continues where it was interrupted; `submit` hands it
    to the workers of a site.
    """
    levels = [logging.WARNING, logging.INFO, logging.DEBUG]
    logging.basicConfig(level=levels[min(verbose, 2)], format="%(levelname)s %(name)s: %(message)s")
