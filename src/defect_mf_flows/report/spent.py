"""What a campaign has spent so far, and what failed, in lines for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from defect_mf_flows.report.formatting import plural
from defect_mf_flows.results.spent import Spent


def spent_lines(parts: Sequence[Spent]) -> list[str]:
    """Say what every fidelity has cost, and how many of its calculations failed, and why.

    Parameters
    ----------
    parts
        Per fidelity.
    """
    lines = [
        f"spent: {one.fidelity} {plural(one.calls, 'call')} in "
        f"{plural(one.calculations, 'calculation')}, {one.core_seconds:.0f} core-seconds"
        for one in parts
    ]
    for one in parts:
        if one.failed:
            reasons = ", ".join(f"{count} {reason}" for reason, count in one.failed.items())
            lines.append(
                f"failed calculations: {one.fidelity} {sum(one.failed.values())} of "
                f"{one.calculations} ({reasons.replace('_', ' ')})"
            )
    return lines
