"""Results of one campaign."""

from __future__ import annotations

from typing import Any

from jobflow import JobStore

from defect_mf_flows.errors import ResultsError
from defect_mf_flows.jobs.common import read_output
from defect_mf_flows.results.records import Records
from defect_mf_flows.schemas.defect import DefectSet
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.results import Results


class CampaignResults(Records):
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
    >>> CampaignResults(store).models()
    []
    """

    def __init__(self, store: JobStore, *, campaign_hash: str | None = None) -> None:
        fixed: dict[str, Any] = {} if campaign_hash is None else {"campaign": campaign_hash}
        super().__init__(store, **fixed)

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
        found = list(self.uuids(Results))
        if not found:
            raise ResultsError(
                "the campaign has no results yet; `defect-mf status` shows how far it is."
            )
        return read_output(self.store, found[-1], Results, load=True)

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
