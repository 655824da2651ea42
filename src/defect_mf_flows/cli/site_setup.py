"""Commands that prepare a site: init, setup."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from defect_mf_flows.cli.app import main, refusing
from defect_mf_flows.cli.site import HERE


@main.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option("--host", default="localhost", show_default=True, help="Of the MongoDB server.")
@click.option("--port", type=click.IntRange(1, 65535), default=27017, show_default=True)
@click.option(
    "--database", default="defect_mf", show_default=True, help="For workflows and documents."
)
@click.option("--user", help="MongoDB user of the workers; none: a server without passwords.")
@click.option(
    "--password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the password on its only line, mode 600. [default: DEFECT_MF_PASSWORD]",
)
@click.option(
    "--store-password/--no-store-password",
    default=True,
    show_default=True,
    help="Whether the password is written into the files, which then have mode 600; qlaunch and "
    "lpad need it there. Without, every command needs DEFECT_MF_PASSWORD.",
)
@click.option("--authsource", "source", help="Database that holds the user. [default: --database]")
@click.option("--tls", is_flag=True, help="Encrypt the connection.")
@click.option(
    "--tls-ca-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True, resolve_path=True),
    help="Certificate authority to trust; implies --tls.",
)
@click.option("--cpu-queue", default="cpu", show_default=True, help="Slurm partition.")
@click.option("--gpu-queue", default="gpu", show_default=True, help="Slurm partition.")
@click.option("--account", help="Slurm account.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@refusing
def init(
    folder: Path, password_file: Path | None, store_password: bool, force: bool, **given: Any
) -> None:
    """Write the files of a site into DIR, filled in: server, workers, queues, settings.

    The same folder is given to every other command of a site as --site or in DEFECT_MF_SITE;
    it must be visible from the cluster's nodes.
    """
    from defect_mf_flows.site.files import SiteValues, own_command, write_site_files
    from defect_mf_flows.site.secrets import PASSWORD_VARIABLE, read_password

    user = given["user"]
    if password_file and not user:
        raise click.UsageError("--password-file needs --user.")
    password = read_password(password_file) if password_file else os.environ.get(PASSWORD_VARIABLE)
    values = SiteValues(
        folder=folder.expanduser().resolve(),
        command=own_command(),
        password=password if user and store_password else None,
        **given,
    )
    for path in write_site_files(values, force=force):
        click.echo(path)
    if user and values.password is None:
        click.echo(f"no password is stored: set {PASSWORD_VARIABLE} for every command.")
    click.echo(f"next: defect-mf setup --site {folder}")


@main.command()
@HERE
@click.option("--admin-user", help="Who may make indexes, roles and users. [default: site's user]")
@click.option(
    "--admin-password-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with that password, mode 600. [default: DEFECT_MF_ADMIN_PASSWORD]",
)
@click.option(
    "--admin-authsource", default="admin", show_default=True, help="Database that holds that user."
)
@click.option(
    "--create-worker-user",
    is_flag=True,
    help="Also make the user that the site's files name, with a role that can drop nothing.",
)
@click.option(
    "--print-role",
    is_flag=True,
    help="Print the mongosh commands that make role and user, and stop.",
)
@refusing
def setup(
    folder: Path,
    admin_user: str | None,
    admin_password_file: Path | None,
    admin_authsource: str,
    create_worker_user: bool,
    print_role: bool,
) -> None:
    """Prepare a site's database: counters, indexes, schema version. Harmless to repeat."""
    from defect_mf_flows.site.connection import Login, Site
    from defect_mf_flows.site.secrets import ADMIN_PASSWORD_VARIABLE, read_password
    from defect_mf_flows.site.setup import role_text, set_up

    site = Site.of(folder)
    if print_role:
        click.echo(role_text(site))
        return
    if admin_password_file and not admin_user:
        raise click.UsageError("--admin-password-file needs --admin-user.")
    admin = None
    if admin_user:
        password = (
            read_password(admin_password_file)
            if admin_password_file
            else os.environ.get(ADMIN_PASSWORD_VARIABLE)
        )
        if not password:
            raise click.UsageError(
                f"--admin-user needs --admin-password-file or {ADMIN_PASSWORD_VARIABLE}."
            )
        admin = Login(admin_user, password, admin_authsource)
    for line in set_up(site, admin=admin, create_user=create_worker_user):
        click.echo(line)
