"""Tables and curves of a measure against the share of high-fidelity labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from defect_mf_flows.benchmark.metrics import bootstrap
from defect_mf_flows.benchmark.sizes import Job
from defect_mf_flows.benchmark.writing import Page, curves

#: Title with the method of the high labels, key of the row, factor.
MEASURES = (
    ("Near minima: {} energy above the minimum of the charge, RMSE in meV per cell", "near", 1),
    (
        "All geometries: {} energy above the minimum of the charge, RMSE in meV per cell",
        "energy",
        1,
    ),
    ("{} forces near minima, RMSE in meV/A", "force", 1),
    ("Pairs of relaxation ends of one charge in the right order, %", "signs", 100),
)


class ShareTables:
    """Rows of a benchmark by arm and share of labels.

    Parameters
    ----------
    kind
        What an arm is: head of the first column.
    names
        Arms, in the order of the tables.
    job
        Its shares of high-fidelity labels, ascending, and the method of its labels.
    rows
        One per training, each with ``arm``, ``share``, ``labels`` and the measures.
    """

    def __init__(
        self,
        kind: str,
        names: Sequence[str],
        job: Job,
        rows: list[dict[str, Any]],
    ) -> None:
        self.kind, self.names, self.shares = kind, list(names), list(job.size.shares)
        self.method = job.pool.method
        self.groups: dict[tuple[str, float], list[dict[str, Any]]] = defaultdict(list)
        for row in rows:
            self.groups[row["arm"], row["share"]].append(row)
        near = any(np.isfinite(row["near"]) for row in rows)
        # A pool of short relaxations may hold out nothing near a minimum.
        self._key, self.where = ("near", "near minima") if near else ("energy", "all geometries")

    def mean(self, name: str, share: float) -> float:
        """Mean energy error over seeds, meV per cell, of the geometries named by ``where``."""
        return float(np.mean([row[self._key] for row in self.groups[name, share]]))

    def write_errors(self, page: Page) -> None:
        """One table per measure."""
        header = [self.kind, *(self._column(share) for share in self.shares)]
        for title, key, factor in MEASURES:
            page.table(
                title.format(self.method),
                header,
                [[n, *self._cells(n, key, factor)] for n in self.names],
            )

    def draw(self, page: Page) -> None:
        """Energy error against the share, one curve per arm."""
        page.figure(
            curves(
                {
                    name: [
                        (100 * share, bootstrap([r[self._key] for r in self.groups[name, share]]))
                        for share in self.shares
                    ]
                    for name in self.names
                },
                f"{self.method} labels, % of low-fidelity frames",
                f"energy above the minimum,\n{self.where}: RMSE in meV per cell",
            )
        )

    def _cells(self, name: str, key: str, factor: float) -> list[str]:
        return [
            str(bootstrap([factor * row[key] for row in self.groups[name, share]]))
            for share in self.shares
        ]

    def _column(self, share: float) -> str:
        found = sorted({row["labels"] for n in self.names for row in self.groups[n, share]} - {0})
        count = f"{found[0]}" if len(found) == 1 else f"{found[0]}-{found[-1]}"
        return f"{100 * share:g} % ({count} labels)"
