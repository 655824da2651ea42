"""What a campaign's reference calculations have cost so far, and how many of them failed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jobflow import JobStore

from defect_mf_flows.schemas.calculation import Calculation


@dataclass(frozen=True)
class Spent:
    """Reference calculations of one fidelity.

    Attributes
    ----------
    fidelity
        Its name.
    calculations
        How many were stored, those that failed among them.
    calls
        Energy-and-force evaluations, those that guided relaxations of another fidelity among them.
    core_seconds
        Wall time times the cores that the jobs asked of the queue, 1 where they asked for none.
    failed
        Number of calculations per reason of failure, the commonest first. Their jobs are done:
        a failure is a result, and nothing that failed trains or is believed.
    """

    fidelity: str
    calculations: int
    calls: int
    core_seconds: float
    failed: dict[str, int]


def spent(
    store: JobStore, campaign_hash: str, *, cores: Callable[[int], int] = lambda _: 1
) -> tuple[Spent, ...]:
    """Sum up the reference calculations of a campaign per fidelity.

    Parameters
    ----------
    store
        A job store, connected.
    campaign_hash
        Which campaign.
    cores
        Number of cores of a Firework, by its id (0 where it is not known).

    Returns
    -------
    tuple of Spent
        By name of the fidelity.
    """
    criteria = {"output.@class": Calculation.__name__, "metadata.campaign_hash": campaign_hash}
    wanted = ["uuid", "index", "metadata.fw_id"]
    names = ("fidelity", "n_calls", "seconds", "failure.reason", "guide.fidelity", "guide.calls")
    wanted += [f"output.{name}" for name in names]
    newest: dict[str, dict[str, Any]] = {}
    for row in store.query(criteria, properties=wanted):
        if row["uuid"] not in newest or row["index"] > newest[row["uuid"]]["index"]:
            newest[row["uuid"]] = row
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    guiding: Counter[str] = Counter()
    for row in newest.values():
        fw_id = (row.get("metadata") or {}).get("fw_id") or 0
        output = row["output"]
        if guide := output.get("guide"):
            guiding[guide["fidelity"]] += guide["calls"]
        groups[output["fidelity"]].append(
            {**output, "core_seconds": output["seconds"] * cores(fw_id)}
        )
    return tuple(_sum(name, groups[name], guiding[name]) for name in sorted({*groups, *guiding}))


def _sum(fidelity: str, group: list[dict[str, Any]], guiding: int) -> Spent:
    reasons = Counter(
        str(getattr(reason, "value", reason))
        for one in group
        if (reason := (one.get("failure") or {}).get("reason")) is not None
    )
    return Spent(
        fidelity,
        len(group),
        sum(one["n_calls"] for one in group) + guiding,
        sum(one["core_seconds"] for one in group),
        dict(reasons.most_common()),
    )
