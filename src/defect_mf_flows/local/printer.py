"""Progress on the terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from defect_mf_flows.launchpad.progress import Progress
from defect_mf_flows.report.spent import spent_lines
from defect_mf_flows.results.spent import Spent

PLAIN_SECONDS = 20.0
MAX_NAMES = 6


class ProgressPrinter:
    """Show progress: a live table on a terminal, else a line now and then.

    Use it as a context manager, and pass it as ``on_progress``.

    Parameters
    ----------
    console
        Where to print; standard output by default.
    interval
        Seconds between plain lines.
    """

    def __init__(self, console: Console | None = None, interval: float = PLAIN_SECONDS) -> None:
        self.console = console or Console()
        self.interval = interval
        self._live: Live | None = None
        self._last_time: float | None = None
        self._latest: Progress | None = None
        self._printed: Progress | None = None

    def __enter__(self) -> ProgressPrinter:
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()
        elif self._latest is not None and self._latest is not self._printed:
            self._print_line(self._latest)

    def __call__(self, progress: Progress) -> None:
        """Show a snapshot."""
        self._latest = progress
        if self._live is not None:
            self._live.update(render(progress))
            return
        now = time.monotonic()
        if self._last_time is None or now - self._last_time >= self.interval:
            self._last_time = now
            self._print_line(progress)

    def _print_line(self, progress: Progress) -> None:
        self._printed = progress
        self.console.print(plain_line(progress), highlight=False, soft_wrap=True, markup=False)


def plain_line(progress: Progress) -> str:
    """Return a snapshot in one line.

    Parameters
    ----------
    progress
        The snapshot.
    """
    stages = ", ".join(f"{name} {s.done}/{s.total}" for name, s in progress.stages.items())
    parts = [f"{progress.done}/{progress.total} jobs done", f"{len(progress.running)} running"]
    if progress.failed:
        parts.append(f"{len(progress.failed)} failed")
    return f"{', '.join(parts)}, {_times(progress)} ({stages})"


def render(progress: Progress) -> Group:
    """Return a snapshot as a table per stage with a summary below.

    Parameters
    ----------
    progress
        The snapshot.
    """
    return _group(progress, f", {_times(progress)}", ())


def render_status(progress: Progress, spent: Sequence[Spent]) -> Group:
    """Return the same table for somebody who looks in, with what was spent and what failed.

    Parameters
    ----------
    progress
        The snapshot. How long the campaign has run nobody has measured.
    spent
        Per fidelity.
    """
    to_go = "" if progress.complete or progress.remaining is None else _to_go(progress.remaining)
    return _group(progress, to_go, spent_lines(spent))


def _group(progress: Progress, times: str, more: Sequence[str]) -> Group:
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    for heading in ("done", "running", "failed", "mean"):
        table.add_column(heading, justify="right")
    for name, stage in progress.stages.items():
        mean = "" if stage.mean_seconds is None else duration(stage.mean_seconds)
        failed = Text(str(stage.failed or ""), style="red")
        table.add_row(
            Text(name), f"{stage.done}/{stage.total}", str(stage.running or ""), failed, mean
        )
    summary = f"{progress.done}/{progress.total} jobs done{times}"
    names = [_names("running", progress.running), _names("failed", progress.failed)]
    lines = [summary, *names, *more]
    return Group(table, *(Text(line) for line in lines if line))


def duration(seconds: float) -> str:
    """Return a duration for people, such as ``1 h 05 min``.

    Parameters
    ----------
    seconds
        The duration.
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _times(progress: Progress) -> str:
    elapsed = f"elapsed {duration(progress.elapsed)}"
    return elapsed if progress.remaining is None else elapsed + _to_go(progress.remaining)


def _to_go(seconds: float) -> str:
    return f", about {duration(seconds)} to go"


def _names(label: str, names: tuple[str, ...]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:MAX_NAMES])
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"{label}: {shown}{more}"
