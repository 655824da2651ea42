"""Documents of many campaigns as pandas DataFrames, read without their arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jobflow import JobStore

from defect_mf_flows.results.selection import ANY, Selection, listed
from defect_mf_flows.schemas.base import Document, check_version
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.schemas.model import HeadMetrics, Model
from defect_mf_flows.schemas.results import GroundState, Results, TransitionLevel

if TYPE_CHECKING:
    import pandas as pd

_LABELS = ("campaign", "campaign_hash", "host", "host_hash")
_COMPUTED = (
    "defect", "charge", "fidelity", "kind", "start", "spin", "n_atoms", "converged",
    "final_energy", "n_frames", "n_calls", "seconds", "input_hash", "reused_from", "calls_saved",
)  # fmt: skip
_LARGE = {"structure", "schema_version"}


def _rows(
    store: JobStore, selection: Selection, kind: type[Document], fields: list[str]
) -> Iterator[dict[str, Any]]:
    """Stored content of some fields, oldest document first; newer layouts are refused."""
    wanted = ["schema_version", *fields]
    properties = {f"output.{field}": 1 for field in wanted}
    properties |= {"uuid": 1, "name": 1, "completed_at": 1, "metadata": 1, "_id": 0}
    for row in store.docs_store.query(
        selection.criteria(kind), properties=properties, sort={"completed_at": 1, "uuid": 1}
    ):
        check_version(row["output"], f"{kind.__name__} of job {row['uuid']}")
        yield row


def _labels(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row["metadata"].get(name) for name in _LABELS}


def _frame(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows, columns=columns)


def calculations(store: JobStore, selection: Selection) -> pd.DataFrame:
    """Reference calculations, one per row."""
    made = ("uuid", "name", *_LABELS, "stage", *_COMPUTED)
    found = []
    for row in _rows(store, selection, Calculation, [*_COMPUTED, "failure", "engine"]):
        output, failure = row["output"], row["output"].get("failure")
        found.append(
            {
                "uuid": row["uuid"],
                "name": row.get("name"),
                **_labels(row),
                "stage": row["metadata"].get("stage"),
                **{field: output.get(field) for field in _COMPUTED},
                "state": "failed" if failure else "converged" if output["converged"] else "open",
                "reason": failure["reason"] if failure else None,
                "message": failure["message"] if failure else None,
                "engine": output["engine"]["name"],
                "engine_version": output["engine"]["version"],
                "completed_at": row["completed_at"],
            }
        )
    rest = ("state", "reason", "message", "engine", "engine_version", "completed_at")
    return _frame(found, [*made, *rest])


def ground_states(store: JobStore, selection: Selection) -> pd.DataFrame:
    """Verified ground states, one charge state per row."""
    columns = [f for f in GroundState.model_fields if f not in _LARGE]
    found = []
    for row in _finished(store, selection, "ground_states"):
        fidelity = row["output"]["fidelities"]["high"]
        for item in row["output"]["ground_states"]:
            if _fits(selection, defect=item["defect"], charge=[item["charge"]], fidelity=fidelity):
                values = {field: item.get(field) for field in columns}
                found.append({**_labels(row), "fidelity": fidelity, **values})
    return _frame(found, [*_LABELS, "fidelity", *columns])


def transition_levels(store: JobStore, selection: Selection) -> pd.DataFrame:
    """Transition levels, one per row."""
    columns = [f for f in TransitionLevel.model_fields if f not in _LARGE]
    found = []
    for row in _finished(store, selection, "transition_levels", "correction"):
        output = row["output"]
        fidelity = output["fidelities"]["high"]
        for item in output["transition_levels"]:
            charges = [item["from_charge"], item["to_charge"]]
            if _fits(selection, defect=item["defect"], charge=charges, fidelity=fidelity):
                values = {field: item.get(field) for field in columns}
                values["correction"] = output["correction"]
                found.append({**_labels(row), "fidelity": fidelity, **values})
    return _frame(found, [*_LABELS, "fidelity", *columns, "correction"])


def metrics(store: JobStore, selection: Selection) -> pd.DataFrame:
    """Errors of every trained model per head, charge and split."""
    own = [f for f in HeadMetrics.model_fields if f not in {*_LARGE, "head"}]
    found = []
    wanted = _of_whole_campaigns(selection)
    for row in _rows(store, wanted, Model, ["metrics", "model_hash"]):
        for item in row["output"]["metrics"]:
            if _fits(selection, charge=[item["charge"]], fidelity=item["head"]):
                found.append(
                    {
                        **_labels(row),
                        "model": row["uuid"],
                        "model_hash": row["output"]["model_hash"],
                        "completed_at": row["completed_at"],
                        "fidelity": item["head"],
                        **{field: item.get(field) for field in own},
                    }
                )
    return _frame(found, [*_LABELS, "model", "model_hash", "completed_at", "fidelity", *own])


def _of_whole_campaigns(selection: Selection) -> Selection:
    """Leave to :func:`_fits` what these documents hold many of."""
    return Selection(
        campaign=selection.campaign,
        host=selection.host,
        stage=selection.stage,
        since=selection.since,
        until=selection.until,
    )


def _finished(store: JobStore, selection: Selection, *fields: str) -> list[dict[str, Any]]:
    """Newest results of every campaign."""
    newest = {}
    for row in _rows(
        store, _of_whole_campaigns(selection), Results, ["campaign_hash", "fidelities", *fields]
    ):
        newest[row["output"]["campaign_hash"]] = row
    return list(newest.values())


def _fits(selection: Selection, *, charge: list[int], fidelity: str, defect: Any = ANY) -> bool:
    if selection.charge is not ANY and not set(listed(selection.charge)) & set(charge):
        return False
    if defect is not ANY and selection.defect is not ANY and defect not in listed(selection.defect):
        return False
    return selection.fidelity is ANY or fidelity in listed(selection.fidelity)
