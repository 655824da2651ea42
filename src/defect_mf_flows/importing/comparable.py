"""Which calculations may stand under one name of a fidelity, and what keeps others out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

#: Settings of one element; only elements that both cells hold are compared.
_PER_ELEMENT = ("POTCAR ", "LDAUL ", "LDAUU ", "LDAUJ ")
_TOLERANCE = 1e-3


class Comparable(Protocol):
    """What is compared."""

    label: str
    method: dict[str, Any]
    accuracy: dict[str, Any]
    kpoints: str
    cell: np.ndarray


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Settings that differ, as text.

    Parameters
    ----------
    one, other
        Settings; those per element count where both have them.

    Returns
    -------
    list of str
        ``"ENCUT 400 instead of 500"`` for each, in the order of the names.
    """
    found = []
    for name in sorted(set(one) | set(other)):
        if name.startswith(_PER_ELEMENT) and not (name in one and name in other):
            continue
        mine, reference = one.get(name), other.get(name)
        if not _same(mine, reference):
            found.append(f"{name} {_shown(mine)} instead of {_shown(reference)}")
    return found


def _same(one: Any, other: Any) -> bool:
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    if numbers and not isinstance(one, bool) and not isinstance(other, bool):
        return abs(one - other) <= _TOLERANCE * max(abs(one), abs(other))
    return bool(one == other)


def _shown(value: Any) -> str:
    if value is None:
        return "(not set)"
    return f"{value:g}" if isinstance(value, float) else str(value)


class Reference:
    """Settings of a fidelity that others are compared with.

    Parameters
    ----------
    stored
        Methods and k-points of what the store already holds under the fidelity's name.
    rows
        What is to be imported.

    Notes
    -----
    What the store holds goes first. Otherwise the settings of most calculations are the
    reference, and of several equally frequent ones the first.
    """

    def __init__(self, stored: Iterable[Comparable], rows: Iterable[Comparable]) -> None:
        fixed, new = [r for r in stored if r.method], [r for r in rows if r.method]
        self.count = 0
        self.method = self._common(fixed or new)
        agreeing = [r for r in (*fixed, *new) if not differences(r.method, self.method)]
        for row in agreeing:
            self.method = {**row.method, **self.method}
        self._grids: list[tuple[np.ndarray, str]] = []
        self._choose_grids(fixed)
        self._choose_grids(agreeing)
        self.accuracy = self._accuracy([*fixed, *agreeing])

    @staticmethod
    def _general(method: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
        return tuple(
            sorted((k, str(v)) for k, v in method.items() if not k.startswith(_PER_ELEMENT))
        )

    def _common(self, rows: list[Comparable]) -> dict[str, Any]:
        if not rows:
            return {}
        counts = Counter(self._general(row.method) for row in rows)
        most, self.count = counts.most_common(1)[0]
        same = [row.method for row in rows if self._general(row.method) == most]
        per_element: dict[str, Counter[Any]] = {}
        for method in same:
            for name, value in method.items():
                per_element.setdefault(name, Counter())[value] += 1
        return {name: values.most_common(1)[0][0] for name, values in per_element.items()}

    def _choose_grids(self, rows: list[Comparable]) -> None:
        """The commonest grid on each lattice that has none yet."""
        found: list[tuple[np.ndarray, Counter[str]]] = []
        for row in rows:
            if not row.kpoints or self._grid(row.cell):
                continue
            for cell, counts in found:
                if np.allclose(cell, row.cell, atol=2e-3):
                    counts[row.kpoints] += 1
                    break
            else:
                found.append((row.cell, Counter([row.kpoints])))
        self._grids += [(cell, counts.most_common(1)[0][0]) for cell, counts in found]

    def _grid(self, cell: np.ndarray) -> str:
        return next((g for c, g in self._grids if np.allclose(c, cell, atol=2e-3)), "")

    @staticmethod
    def _accuracy(rows: list[Comparable]) -> dict[str, Any]:
        names = {name for row in rows for name in row.accuracy}
        return {
            name: Counter(str(r.accuracy.get(name)) for r in rows).most_common(1)[0][0]
            for name in names
        }

    def refusals(self, row: Comparable) -> list[str]:
        """What keeps a calculation out of the fidelity."""
        if not row.method or not self.method:
            return []
        found = differences(row.method, self.method)
        grid = self._grid(row.cell)
        if row.kpoints and grid and row.kpoints != grid:
            found.append(f"k-points {row.kpoints} instead of {grid}")
        return found

    def remarks(self, row: Comparable) -> list[str]:
        """Settings of the numerics that differ; reported, not refused."""
        return [
            f"{name} {value} instead of {self.accuracy[name]}"
            for name, value in sorted(row.accuracy.items())
            if str(value) != self.accuracy.get(name, str(value))
        ]
