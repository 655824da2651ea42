"""`defect-mf import`: calculations that somebody already has."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from defect_mf_flows.cli.app import SITE, main, refusing

if TYPE_CHECKING:
    from jobflow import JobStore

    from defect_mf_flows.importing.identify import Host
    from defect_mf_flows.importing.plan import Plan

DEFAULT = "imported"
READ = (
    "vasprun.xml and OUTCAR (also .gz), *.extxyz, *.xyz, *.db, outputs of GPAW and CP2K "
    "(*.txt, *.log, *.out)"
)
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_+-]{0,49}$")


@main.command("import")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--fidelity", required=True, help="Name of the method, for example hse06; frames carry it."
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the database; a campaign's folder can be one. [default: imported]",
)
@SITE
@click.option(
    "--bulk",
    type=click.Path(path_type=Path),
    help="Pristine supercell (POSCAR, CIF, OUTCAR, ...), if it is not among the calculations.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be stored, and stop.")
@click.option("--strict", is_flag=True, help="Store nothing if anything is refused.")
@refusing
def import_(
    paths: tuple[Path, ...],
    fidelity: str,
    folder: Path | None,
    site: Path | None,
    bulk: Path | None,
    dry_run: bool,
    strict: bool,
) -> None:
    """Store calculations that were done elsewhere, every ionic step as a frame.

    Walks PATHS and reads VASP (vasprun.xml, OUTCAR, also gzipped or cut off), GPAW, CP2K,
    extended XYZ and ASE databases. Charge, defect and method come from the files; the folder's
    name is only compared with them. Calculations of another method than the rest are refused,
    copies are counted once, and nothing that the store holds is changed.
    """
    from defect_mf_flows.errors import ImportingError
    from defect_mf_flows.importing.rows import State
    from defect_mf_flows.importing.storing import StoredImports, carry_out

    if not _NAME.match(fidelity):
        raise click.UsageError(
            f"--fidelity {fidelity!r}: letters, digits, _, + and -, at most 50, as in a campaign."
        )
    host = None if bulk is None else _bulk(bulk)
    with ExitStack() as stack:
        store = stack.enter_context(_existing(folder, site))
        known = None if store is None else StoredImports(store, fidelity)
        plan = _plan(list(paths), fidelity, known, host)
        _print(plan, paths)
        if dry_run:
            click.echo("dry run: nothing was stored.")
            return
        refused = plan.of(State.REFUSED)
        if not plan.of(State.NEW) and not plan.of(State.STORED):
            raise ImportingError("nothing could be imported; the messages above say why.")
        if strict and refused:
            raise ImportingError(f"--strict: {len(refused)} refused, so nothing was stored.")
        if store is None:
            from defect_mf_flows.local.imports import open_for_import

            store = stack.enter_context(open_for_import(_place(folder)))
        with _bar("storing", total=len(plan.of(State.NEW))) as advance:
            done = carry_out(plan, store, progress=lambda row: advance())
    for message in done.messages:
        click.echo(f"refused   {message}")
    where = site if folder is None and site is not None else folder or Path(DEFAULT)
    added = f"{done.calculations} calculations, {done.frames} frames added."
    click.echo(f"{where}: {added if done.calculations else 'nothing added.'}")


def _place(folder: Path | None) -> Path:
    return (folder or Path(DEFAULT)).expanduser().resolve()


@contextmanager
def _existing(folder: Path | None, site: Path | None) -> Iterator[JobStore | None]:
    """The store to compare with; None for a folder that has none yet."""
    if folder is None and site is not None:
        from defect_mf_flows.cli.query import open_results

        with open_results(None, site) as store:
            yield store
        return
    from defect_mf_flows.local.imports import is_new, open_for_import

    if is_new(_place(folder)):
        yield None
        return
    with open_for_import(_place(folder)) as store:
        yield store


def _plan(paths: list[Path], fidelity: str, known: Any, host: Host | None) -> Plan:
    from defect_mf_flows.importing.plan import make_plan
    from defect_mf_flows.importing.walk import walk

    unreadable: list[str] = []
    with _bar("reading") as advance:
        plan = make_plan(
            walk(paths, unreadable=unreadable.append),
            fidelity,
            known=known,
            bulk=host,
            progress=lambda row: advance(),
        )
    plan.messages += unreadable
    return plan


@contextmanager
def _bar(what: str, total: int | None = None) -> Iterator[Callable[[], None]]:
    """A progress bar on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        with nullcontext():
            yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)


def _print(plan: Plan, paths: tuple[Path, ...]) -> None:
    from defect_mf_flows.errors import ImportingError
    from defect_mf_flows.importing.table import messages, plan_table, summary

    if not plan.rows:
        raise ImportingError(
            f"no calculation found in {', '.join(map(str, paths))}. Files that are read: {READ}."
        )
    console = Console()
    # A pipe has no width; a table that is cut loses charges.
    width = None if console.is_terminal else 200
    Console(width=width).print(plan_table(plan))
    for line in messages(plan):
        click.echo(line)
    click.echo(summary(plan))


def _bulk(path: Path) -> Host:
    """The pristine cell that the user names, from a structure file or a calculation."""
    from defect_mf_flows.importing.plan import host_from_file

    return host_from_file(path)
