"""What was left out of the labels, in one sentence for whoever then has too few."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from defect_mf_flows.core.notation import charge_text
from defect_mf_flows.schemas.calculation import Failure


def told_left_out(excluded: Iterable[Failure], fidelity: str) -> str:
    """Say how much of a fidelity was left out and why, with an example of the commonest reason.

    Parameters
    ----------
    excluded
        Calculations and frames that were left out of a dataset.
    fidelity
        Of which.

    Returns
    -------
    str
        One sentence; that nothing was left out, if so.
    """
    mine = [failure for failure in excluded if failure.fidelity == fidelity]
    if not mine:
        return f"nothing of {fidelity} was left out."
    counts = Counter(failure.reason for failure in mine).most_common()
    first = next(failure for failure in mine if failure.reason is counts[0][0])
    listed = ", ".join(f"{reason.value} {n}" for reason, n in counts)
    where = "host"
    if first.defect is not None:
        where = f"{first.defect} {charge_text(first.charge)}, {first.start}"
    return f"of {fidelity}, {len(mine)} were left out ({listed}; {where}: {first.message})."
