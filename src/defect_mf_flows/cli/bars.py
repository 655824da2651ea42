"""Progress bars of commands that compute in this process."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout

from rich.console import Console

from defect_mf_flows.remarks import ignore_remarks


@contextmanager
def progress_bars() -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Make a bar per name on a terminal, and nothing elsewhere.

    Yields
    ------
    callable
        Called with a name; what it returns is called with what is done and how much there is.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda what: lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bars:

        def start(what: str) -> Callable[[int, int], None]:
            task = bars.add_task(what, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield start


@contextmanager
def results_alone() -> Iterator[None]:
    """Keep what other packages say out of the output: mace prints, pymatgen and torch warn."""
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        ignore_remarks()
        warnings.filterwarnings("ignore", category=FutureWarning)  # of libraries' libraries
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield
