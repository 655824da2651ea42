"""Stored documents of any number of campaigns, streamed from any job store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from ase import Atoms
from jobflow import JobStore
from pymatgen.core import Structure

from defect_mf_flows.core.charge import frame_to_atoms, frame_to_structure
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.jobs.common import read_output
from defect_mf_flows.results import tables
from defect_mf_flows.results.selection import Selection
from defect_mf_flows.schemas.base import Document
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.schemas.frame import Frame

if TYPE_CHECKING:
    import pandas as pd

D = TypeVar("D", bound=Document)


class Records:
    """Everything a job store holds, of one campaign or of all.

    Methods take the fields of :class:`~defect_mf_flows.results.Selection` as keywords:
    ``campaign``, ``host``, ``defect``, ``charge``, ``fidelity``, ``stage``, ``state``,
    ``kind``, ``since``, ``until``.

    Parameters
    ----------
    store
        Connected job store: MongoDB, or the on-disk store of ``--serial``.
    **fixed
        What every query of this object asks for.

    Examples
    --------
    >>> from jobflow import JobStore
    >>> from maggma.stores import MemoryStore
    >>> store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
    >>> store.connect()
    >>> records = Records(store, host="ZnS")
    >>> records.count(Calculation, charge=-1, state="converged")
    0
    >>> records.count(Calculation, charge={"$gt": 0})
    Traceback (most recent call last):
        ...
    defect_mf_flows.errors.ResultsError: charge: {'$gt': 0} cannot be asked for; give int.
    """

    def __init__(self, store: JobStore, **fixed: Any) -> None:
        self.store, self._fixed = store, fixed
        self.select()

    def select(self, **filters: Any) -> Selection:
        """Return the selection of a query, what is fixed included.

        Raises
        ------
        ResultsError
            If a filter is unknown, or has a value that cannot be asked for.
        """
        unknown = set(self._fixed | filters) - set(Selection.__dataclass_fields__)
        if unknown:
            raise ResultsError(
                f"{', '.join(sorted(unknown))} cannot be asked for; choose from "
                f"{', '.join(Selection.__dataclass_fields__)}."
            )
        for name in set(self._fixed) & set(filters):
            if self._fixed[name] != filters[name]:
                raise ResultsError(
                    f"{name}: only {self._fixed[name]!r} can be asked for here; use "
                    "Records(store) for others."
                )
        return Selection(**(self._fixed | filters))

    def documents(self, kind: type[D], /, *, load: bool = False, **filters: Any) -> Iterator[D]:
        """Every stored document of one kind, in the order in which they were finished.

        Parameters
        ----------
        kind
            Document class, for example ``Model``.
        load
            Also load arrays and files.
        **filters
            See the class.

        Yields
        ------
        Document
            One at a time; what lies in the additional store is loaded for one at a time.
        """
        for uuid in self.uuids(kind, **filters):
            yield read_output(self.store, uuid, kind, load=load)

    def frames(self, **filters: Any) -> Iterator[Frame]:
        """Every frame of the reference calculations, streamed.

        Parameters
        ----------
        **filters
            See the class.

        Yields
        ------
        Frame
            Checked against its hash. The frames of one calculation are in memory at a time.
        """
        for calculation in self.documents(Calculation, load=True, **filters):
            yield from calculation.frames

    def atoms(self, **filters: Any) -> Iterator[Atoms]:
        """Every frame as ASE atoms.

        Yields
        ------
        Atoms
            ``info`` holds ``charge``, ``total_charge``, ``fidelity``, ``REF_energy`` (eV per
            cell), the lineage, and ``spin`` where it is known; ``arrays`` holds
            ``REF_forces``, shape (n_atoms, 3), eV/Angstrom.
        """
        for frame in self.frames(**filters):
            yield frame_to_atoms(frame)

    def structures(self, **filters: Any) -> Iterator[Structure]:
        """Every frame as a pymatgen structure.

        Yields
        ------
        Structure
            With its charge; ``properties`` hold ``charge``, ``fidelity``, ``energy`` (eV per
            cell), ``spin`` and the lineage.
        """
        for frame in self.frames(**filters):
            yield frame_to_structure(frame)

    def count(self, kind: type[Document], /, **filters: Any) -> int:
        """Number of stored documents of one kind."""
        return int(self.store.docs_store.count(self.select(**filters).criteria(kind)))

    def uuids(self, kind: type[Document], /, **filters: Any) -> Iterator[str]:
        """Yield the uuids of the jobs that made documents of one kind, oldest first."""
        rows = self.store.docs_store.query(
            self.select(**filters).criteria(kind),
            properties={"uuid": 1, "_id": 0},
            sort={"completed_at": 1, "uuid": 1},
        )
        last = None
        for row in rows:
            if row["uuid"] != last:
                last = row["uuid"]
                yield last

    # -- tables --------------------------------------------------------------------------

    def calculations(self, **filters: Any) -> pd.DataFrame:
        """Reference calculations, one per row, without their frames.

        Returns
        -------
        pandas.DataFrame
            Campaign, what was computed how, whether it converged and why not (``state``,
            ``reason``), ``final_energy`` (eV per cell), what it cost, from whom it was
            reused.
        """
        return tables.calculations(self.store, self.select(**filters))

    def ground_states(self, **filters: Any) -> pd.DataFrame:
        """Verified ground states of finished campaigns, one charge state per row.

        Returns
        -------
        pandas.DataFrame
            With ``fidelity`` (the one that verified) and ``energy_hf`` (eV per cell).
        """
        return tables.ground_states(self.store, self.select(**filters))

    def transition_levels(self, **filters: Any) -> pd.DataFrame:
        """Transition levels of finished campaigns, eV above the valence-band maximum.

        Returns
        -------
        pandas.DataFrame
            One level per row: ``model``, ``hf`` and ``low`` side by side. ``charge`` selects
            the levels from or to that charge.
        """
        return tables.transition_levels(self.store, self.select(**filters))

    def metrics(self, **filters: Any) -> pd.DataFrame:
        """Errors of every trained model per head (``fidelity``), charge and split.

        Returns
        -------
        pandas.DataFrame
            meV per cell, meV per atom, meV/Angstrom.
        """
        return tables.metrics(self.store, self.select(**filters))
