"""The query API over a campaign's job store, the same for library, CLI and report."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from jobflow import JobStore

from defect_mf_flows.errors import ResultsError
from defect_mf_flows.jobs.common import read_output
from defect_mf_flows.schemas.base import Document
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.schemas.defect import DefectSet
from defect_mf_flows.schemas.frame import Frame
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.results import Results

D = TypeVar("D", bound=Document)


class CampaignResults:
    """Results of one campaign, read from any connected job store.

    Parameters
    ----------
    store
        Connected job store: MongoDB, or the on-disk store of ``--serial``.
    campaign_hash
        Campaign, or None for the store's only one.

    Examples
    --------
    >>> from jobflow import JobStore
    >>> from maggma.stores import MemoryStore
    >>> store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    >>> store.connect()
    >>> CampaignResults(store).count(Calculation)
    0
    """

    def __init__(self, store: JobStore, *, campaign_hash: str | None = None) -> None:
        self.store, self.campaign_hash = store, campaign_hash

    def results(self) -> Results:
        """The newest ``Results`` document, everything loaded.

        Returns
        -------
        Results
            What ``results.json`` and the report show.

        Raises
        ------
        ResultsError
            If the campaign has not finished.
        """
        found = self._uuids(Results)
        if not found:
            raise ResultsError(
                "the campaign has no results yet; `defect-mf status` shows how far it is."
            )
        return read_output(self.store, found[-1], Results, load=True)

    def documents(self, kind: type[D], /, *, load: bool = False, **filters: Any) -> Iterator[D]:
        """Every stored document of one kind, in the order in which they were finished.

        Parameters
        ----------
        kind
            Document class, for example ``Model``.
        load
            Also load arrays and files.
        **filters
            Fields of the document and their values, for example ``charge=-1``.

        Yields
        ------
        Document
            One at a time.
        """
        for uuid in self._uuids(kind, **filters):
            yield read_output(self.store, uuid, kind, load=load)

    def frames(self, **filters: Any) -> Iterator[Frame]:
        """Every frame of the reference calculations, streamed.

        Parameters
        ----------
        **filters
            Fields of the calculation: ``fidelity``, ``defect``, ``charge``, ``kind``.

        Yields
        ------
        Frame
            Checked against its hash.
        """
        for calculation in self.documents(Calculation, load=True, **filters):
            yield from calculation.frames

    def models(self) -> list[Model]:
        """Trained models, oldest first, with their files."""
        return list(self.documents(Model, load=True))

    def defects(self) -> DefectSet:
        """Host and defects.

        Raises
        ------
        ResultsError
            If that stage has not finished.
        """
        for found in self.documents(DefectSet, load=True):
            return found
        raise ResultsError("the campaign has not generated its defects yet.")

    def count(self, kind: type[Document], /, **filters: Any) -> int:
        """Number of stored documents of one kind."""
        return len(self._uuids(kind, **filters))

    def _uuids(self, kind: type[Document], /, **filters: Any) -> list[str]:
        criteria: dict[str, Any] = {"output.@class": kind.__name__}
        criteria |= {f"output.{key}": value for key, value in filters.items()}
        if self.campaign_hash is not None:
            criteria["metadata.campaign_hash"] = self.campaign_hash
        rows = self.store.query(criteria, properties=["uuid", "completed_at"])
        ordered = sorted(rows, key=lambda row: str(row.get("completed_at", "")))
        return list(dict.fromkeys(row["uuid"] for row in ordered))


def results_json(results: Results) -> str:
    """Results as JSON text, with keys in a fixed order.

    Parameters
    ----------
    results
        The document.

    Returns
    -------
    str
        What ``results.json`` holds.
    """
    return json.dumps(results.model_dump(mode="json"), indent=2) + "\n"


def write_results(results: Results, path: Path) -> Path:
    """Write ``results.json``; a kill leaves the old file or the new one.

    Parameters
    ----------
    results
        The document.
    path
        File to write.

    Returns
    -------
    Path
        The same path.
    """
    temporary = path.with_suffix(".tmp")
    temporary.write_text(results_json(results))
    temporary.replace(path)
    return path
