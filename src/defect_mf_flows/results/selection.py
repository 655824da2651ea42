"""Which of the stored documents are meant: names and values, never a query from outside."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from defect_mf_flows.errors import ResultsError
from defect_mf_flows.jobs.common import Stage
from defect_mf_flows.schemas.base import Document
from defect_mf_flows.schemas.calculation import CalculationKind

#: What the queries of this package search by: keys of one compound index each.
INDEXES: tuple[tuple[str, ...], ...] = (
    ("output.@class", "metadata.campaign_hash", "completed_at", "uuid"),
    ("output.@class", "completed_at", "uuid"),
    ("output.@class", "output.fidelity", "output.defect", "output.charge", "completed_at"),
    ("metadata.campaign", "completed_at"),
    ("metadata.host_hash", "output.@class"),
    ("metadata.host", "output.@class"),
    ("metadata.stage", "completed_at"),
    ("output.input_hash",),
)

_HASH = re.compile(r"[0-9a-f]{64}")
STATES = ("converged", "failed")


class _Any:
    def __repr__(self) -> str:
        return "ANY"


#: Stands for "do not ask for this", because ``defect=None`` means the pristine host.
ANY: Any = _Any()


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What to look for; whatever is not given does not matter.

    Every value may also be a list, of which one must fit.

    Parameters
    ----------
    campaign
        Name of a campaign, or its hash (64 hexadecimal digits).
    host
        Reduced formula of the host, or the hash of the campaign's host cell.
    defect
        Name as doped gives it, or None for the pristine host.
    charge
        Charge state.
    fidelity
        Name of the fidelity.
    stage
        Stage of the campaign, for example ``"low fidelity"``.
    state
        ``"converged"`` or ``"failed"``, of calculations.
    kind
        ``"relax"`` or ``"static"``, of calculations.
    since, until
        Time at which the job was completed, as date, time or ISO text: from the first on, and
        before the second. A date as ``until`` includes that day.

    Raises
    ------
    ResultsError
        If a value is none that could be stored.
    """

    campaign: Any = ANY
    host: Any = ANY
    defect: Any = ANY
    charge: Any = ANY
    fidelity: Any = ANY
    stage: Any = ANY
    state: Any = ANY
    kind: Any = ANY
    since: Any = None
    until: Any = None

    def __post_init__(self) -> None:
        for name in ("campaign", "host", "fidelity"):
            _check(name, getattr(self, name), str)
        _check("defect", self.defect, str, type(None))
        _check("charge", self.charge, int)
        _check("stage", self.stage, str, among=[stage.value for stage in Stage])
        _check("state", self.state, str, among=STATES)
        _check("kind", self.kind, str, among=[kind.value for kind in CalculationKind])

    def criteria(self, kind: type[Document]) -> dict[str, Any]:
        """Turn the selection into a database query for documents of one class.

        Parameters
        ----------
        kind
            Class of the documents.

        Returns
        -------
        dict
            Query of MongoDB.
        """
        found: dict[str, Any] = {"output.@class": kind.__name__}
        found |= _by_hash_or_name(self.campaign, "metadata.campaign_hash", "metadata.campaign")
        found |= _by_hash_or_name(self.host, "metadata.host_hash", "metadata.host")
        for name in ("defect", "charge", "fidelity", "kind"):
            value = getattr(self, name)
            if value is not ANY:
                # A document's own field was checked when it was made; metadata were not.
                place = "output" if name in kind.model_fields else "metadata"
                found[f"{place}.{name}"] = _one_of(value)
        if self.stage is not ANY:
            found["metadata.stage"] = _one_of(self.stage)
        if self.state is not ANY and set(listed(self.state)) != set(STATES):
            found |= _state(listed(self.state)[0])
        found |= _between(self.since, self.until)
        return found


def listed(value: Any) -> list[Any]:
    """Return the values that a filter accepts, one or several."""
    return list(value) if isinstance(value, list | tuple | set | frozenset) else [value]


def _check(name: str, value: Any, *kinds: type, among: Any = None) -> None:
    if value is ANY:
        return
    for item in listed(value):
        # A mapping would reach the database as an operator.
        wrong = not isinstance(item, kinds) or isinstance(item, bool)
        if wrong or (among is not None and str(item) not in among):
            wanted = f"one of {list(among)}" if among else " or ".join(k.__name__ for k in kinds)
            raise ResultsError(f"{name}: {item!r} cannot be asked for; give {wanted}.")


def _one_of(value: Any) -> Any:
    values = [str(v) if isinstance(v, str) else v for v in listed(value)]
    return values[0] if len(values) == 1 else {"$in": values}


def _by_hash_or_name(value: Any, hashed: str, named: str) -> dict[str, Any]:
    if value is ANY:
        return {}
    hashes = [v for v in listed(value) if _HASH.fullmatch(v)]
    names = [v for v in listed(value) if not _HASH.fullmatch(v)]
    if hashes and names:
        raise ResultsError(f"{named.partition('.')[2]}: give names or hashes, not both.")
    return {hashed: _one_of(hashes)} if hashes else {named: _one_of(names)}


def _state(state: str) -> dict[str, Any]:
    if state == "failed":
        return {"output.failure": {"$ne": None}}
    return {"output.converged": True, "output.failure": None}


def _between(since: Any, until: Any) -> dict[str, Any]:
    limits = {}
    if since is not None:
        limits["$gte"] = _moment(since, "since").isoformat()
    if until is not None:
        limits["$lt"] = _moment(until, "until", whole_day=True).isoformat()
    return {"completed_at": limits} if limits else {}


def _moment(value: Any, name: str, *, whole_day: bool = False) -> datetime:
    """Read a date or time; jobflow stores local time without a zone."""
    if isinstance(value, str):
        try:
            value = date.fromisoformat(value) if len(value) <= 10 else datetime.fromisoformat(value)
        except ValueError as error:
            raise ResultsError(f"{name}: {error}; write 2026-01-31 or 2026-01-31T12:00.") from None
    if isinstance(value, datetime):
        return value.astimezone().replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, date):
        midnight = datetime(value.year, value.month, value.day)
        return midnight + timedelta(days=1) if whole_day else midnight
    raise ResultsError(f"{name}: {value!r} is no date; write 2026-01-31 or 2026-01-31T12:00.")
