"""Splits that put a whole relaxation on one side, with every label that stems from it."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping

from defect_mf_flows.campaign import SplitSettings
from defect_mf_flows.errors import DatasetError
from defect_mf_flows.schemas.dataset import DatasetEntry, Split


def split_relaxations(
    relaxations: dict[str, str],
    *,
    settings: SplitSettings,
    seed: int,
    labels: Mapping[str, int] | None = None,
) -> dict[str, Split]:
    """Assign relaxations to training, validation and test.

    Parameters
    ----------
    relaxations
        Key of a relaxation -> its stratum (defect and charge), so that every charge is
        represented on every side.
    settings
        Shares.
    seed
        Campaign seed.
    labels
        High-fidelity labels per relaxation. Those that have some test and validate first,
        which would otherwise say nothing of the head that matters, but at least half train where
        others can be held out instead. With ``split.labels`` no larger share of them is.

    Returns
    -------
    dict
        Side of every relaxation. At least one relaxation of each stratum trains, and from
        three relaxations on one validates and one tests, but for what ``split.labels`` keeps.
    """
    have = labels or {}
    strata: dict[str, list[str]] = defaultdict(list)
    for key, stratum in relaxations.items():
        strata[stratum].append(key)
    ranked = {s: sorted(keys, key=lambda key: _rank(seed, s, key)) for s, keys in strata.items()}
    held = _labelled_to_hold_out(list(ranked.values()), have, share=settings.labels, seed=seed)
    sides: dict[str, Split] = {}
    for keys in ranked.values():
        ordered = _held_out_first(keys, have, held)
        room = len(ordered) - 1
        if settings.labels is not None:
            room = min(room, sum(key in held or not have.get(key) for key in keys))
        n_valid = min(max(1, round(settings.valid * len(ordered))), room - 1) if room >= 2 else 0
        n_test = min(max(1, round(settings.test * len(ordered))), room - n_valid) if room else 0
        for position, key in enumerate(ordered):
            if position < n_test:
                sides[key] = Split.TEST
            elif position < n_test + n_valid:
                sides[key] = Split.VALID
            else:
                sides[key] = Split.TRAIN
    return sides


def _labelled_to_hold_out(
    strata: list[list[str]], labels: Mapping[str, int], *, share: float | None, seed: int
) -> set[str]:
    """The first half of each stratum's labelled relaxations, of all no more than the share."""
    labelled = [[key for key in keys if labels.get(key)] for keys in strata]
    halves = [key for keys in labelled for key in keys[: len(keys) // 2]]
    if share is None:
        return set(halves)
    most = int(share * sum(len(keys) for keys in labelled))
    return set(sorted(halves, key=lambda key: _rank(seed, "labels", key))[:most])


def _held_out_first(keys: list[str], labels: Mapping[str, int], held: set[str]) -> list[str]:
    """Labelled relaxations to hold out, then those without labels, then the other labelled ones."""
    labelled = [key for key in keys if labels.get(key)]
    without = [key for key in keys if not labels.get(key)]
    return [
        *(key for key in labelled if key in held),
        *without,
        *(key for key in labelled if key not in held),
    ]


def _rank(seed: int, stratum: str, key: str) -> str:
    return hashlib.sha256(f"{seed}|{stratum}|{key}".encode()).hexdigest()


def share_side(key: str, *, settings: SplitSettings, seed: int) -> Split:
    """Side of a key by its hash alone: about the shares, whatever else there is."""
    place = int(_rank(seed, "frame", key)[:12], 16) / 16**12
    if place < settings.test:
        return Split.TEST
    return Split.VALID if place < settings.test + settings.valid else Split.TRAIN


def check_no_leak(entries: list[DatasetEntry], *, by: str = "relaxation") -> None:
    """Refuse a dataset in which one relaxation, or one geometry, is on two sides.

    Parameters
    ----------
    entries
        With their sides.
    by
        What the split keeps together; ``"frame"`` lets a relaxation be on several sides.

    Raises
    ------
    DatasetError
        Naming the relaxation or the frame.
    """
    sides: dict[str, Split] = {}
    for entry in entries:
        keys = [f"frame {entry.frame.content_hash}"]
        if by != "frame":
            keys.insert(0, f"relaxation {entry.relaxation}")
        for key in keys:
            if sides.setdefault(key, entry.split) != entry.split:
                raise DatasetError(
                    f"{key} is in {sides[key]} and in {entry.split}; split by relaxation."
                )
