"""The status of a site's campaigns on the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group
from rich.table import Table
from rich.text import Text

from defect_mf_flows.report.formatting import duration, plural
from defect_mf_flows.report.spent import spent_lines
from defect_mf_flows.site.recovery import Findings
from defect_mf_flows.site.status import COLUMNS, CampaignLine, SiteStatus

MAX_NAMES = 6
_COLORS = {"fizzled": "red", "running": "green", "paused": "yellow"}


def render_status(status: SiteStatus) -> Group:
    """Return a campaign's status as a table with what there is to say about it below.

    Parameters
    ----------
    status
        The status.
    """
    # A state is shown if any job is in it; the usual ones always.
    always = ("waiting", "ready", "running", "done", "fizzled")
    names = dict.fromkeys(COLUMNS.values())
    columns = [name for name in names if name in always or status.count(name)]
    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    table.add_column("category")
    for name in columns:
        table.add_column(name, justify="right")
    for line in status.stages:
        cells = [Text(str(line.counts.get(n) or ""), style=_COLORS.get(n, "")) for n in columns]
        table.add_row(Text(line.stage), Text(line.category), *cells)
    head = f"{status.name} ({status.key[:16]}): {status.state}, {_progress(status)}"
    return Group(Text(head), table, *(Text(line) for line in _remarks(status)))


def render_campaigns(lines: list[CampaignLine]) -> Group:
    """Return a table with a line per campaign.

    Parameters
    ----------
    lines
        The campaigns.
    """
    if not lines:
        return Group(Text("no campaign was submitted to this site yet."))
    table = Table(box=None, pad_edge=False)
    for name in ("campaign", "hash", "state"):
        table.add_column(name)
    for name in ("done", "running", "fizzled"):
        table.add_column(name, justify="right")
    for line in lines:
        table.add_row(
            Text(line.name),
            line.key[:16],
            Text(line.state),
            f"{line.done}/{line.total}",
            str(line.running or ""),
            Text(str(line.fizzled or ""), style="red"),
        )
    return Group(table)


def finding_lines(findings: Findings, *, mended: bool = False) -> list[str]:
    """Say what killed processes left behind.

    Parameters
    ----------
    findings
        What was found.
    mended
        Whether it was mended, or is only reported.
    """
    kinds = [
        (len(findings.lost), "lost run", "its worker has been silent for long"),
        (len(findings.unrecorded), "unrecorded end", "finished, unknown to the workflow"),
        (len(findings.unreserved), "lost reservation", "its queue job is gone"),
        (len(findings.stuck), "stuck job", "taken by a worker that died before it began"),
        (findings.torn + findings.orphans, "half-written job", "of a killed process"),
        (int(findings.stale_lock is not None), "stale lock", f"of {findings.stale_lock}"),
    ]
    lines = [f"{plural(count, noun)} ({what})" for count, noun, what in kinds if count]
    named = [f"  {run.name} ({run.fw_id}) on {run.worker}" for run in findings.lost]
    if not lines:
        return []
    end = "mended" if mended else "`defect-mf retry` mends that"
    return [f"left behind: {', '.join(lines)}; {end}", *named]


def _progress(status: SiteStatus) -> str:
    parts = [f"{status.count('done')}/{status.total} jobs done"]
    if status.remaining is not None and status.state in ("running", "queued"):
        parts.append(f"about {duration(status.remaining)} to go for the jobs known so far")
    return ", ".join(parts)


def _remarks(status: SiteStatus) -> Iterator[str]:
    for name, worker in list(status.running.items())[:MAX_NAMES]:
        yield f"running: {name} on {worker}"
    if len(status.running) > MAX_NAMES:
        yield f"running: {len(status.running) - MAX_NAMES} more"
    for failed in status.failed:
        jobs = [f"{name} ({fw_id})" for fw_id, name in failed.jobs.items()]
        more = f" and {len(jobs) - MAX_NAMES} more" if len(jobs) > MAX_NAMES else ""
        yield f"fizzled: {len(jobs)} x {failed.reason}"
        yield f"  {', '.join(jobs[:MAX_NAMES])}{more}"
    yield from finding_lines(status.findings)
    if status.lost:
        causes = ", ".join(f"{count} by {cause}" for cause, count in sorted(status.lost.items()))
        yield f"lost and given back so far: {causes}"
    for version, count in sorted(status.other_versions.items()):
        yield f"{plural(count, 'unfinished job')} of version {version} of this package"
    yield from spent_lines(status.spent)
