"""Picks spread over charge, basin, energy and step; even spacing along a relaxation."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from defect_mf_flows.campaign import PickSettings
from defect_mf_flows.schemas.frame import Frame


def evenly_spaced(n_frames: int, count: int) -> list[int]:
    """Indices of evenly spaced frames, the first and the last included.

    Parameters
    ----------
    n_frames
        Length of the relaxation.
    count
        Frames wanted; all of them if the relaxation is shorter.

    Returns
    -------
    list of int
        Ascending. Evenly spaced frames beat DIRECT sampling at equal size in npj Comput.
        Mater. 10, 121 (2024).
    """
    if n_frames <= count:
        return list(range(n_frames))
    return sorted({int(i) for i in np.linspace(0, n_frames - 1, count).round()})


@dataclass(frozen=True)
class Candidate:
    """A low-fidelity frame that may be chosen.

    Attributes
    ----------
    frame
        The frame.
    basin
        Unique minimum in which its relaxation ended.
    progress
        0 at the start of the relaxation, 1 at its end.
    is_end
        True for the last frame of the relaxation that reaches the basin's lowest energy.
    """

    frame: Frame
    basin: int
    progress: float
    is_end: bool


def pick_stratified(
    candidates: list[Candidate], *, settings: PickSettings, seed: int
) -> tuple[list[int], dict[str, int]]:
    """Choose frames for high fidelity over charge x basin x energy x step.

    Parameters
    ----------
    candidates
        All low-fidelity frames of the dataset.
    settings
        Share and number of bins.
    seed
        The same seed and candidates give the same picks.

    Returns
    -------
    chosen
        Indices into ``candidates``, ascending.
    strata
        Picks per stratum.

    Notes
    -----
    The lowest end point of every basin of every charge is always in, even beyond the share:
    without it no model can place the basin. The rest of the budget goes, frame by frame, to
    the defect and charge that is furthest behind its share of the frames, and there to the
    stratum that is. Strata are often more than labels: chance decides between those that
    have none, so that no charge goes without because of its name.
    """
    if not candidates:
        return [], {}
    strata = _strata(candidates, settings)
    chosen = {i for i, item in enumerate(candidates) if item.is_end}
    budget = max(len(chosen), round(settings.fraction * len(candidates)))
    rng = np.random.default_rng(seed)
    queues = {
        key: [int(i) for i in rng.permutation([m for m in members if m not in chosen])]
        for key, members in sorted(strata.items())
    }
    taken = {key: sum(m in chosen for m in members) for key, members in strata.items()}
    sizes = {key: len(members) for key, members in strata.items()}
    order = [str(key) for key in rng.permutation(sorted(strata))]
    while len(chosen) < budget:
        open_strata = [key for key in order if queues[key]]
        if not open_strata:
            break
        key = _furthest_behind(open_strata, taken, sizes)
        chosen.add(queues[key].pop())
        taken[key] += 1
    return sorted(chosen), {key: taken[key] for key in sorted(taken) if taken[key]}


def _furthest_behind(open_strata: list[str], taken: dict[str, int], sizes: dict[str, int]) -> str:
    """The first of the strata with the smallest share taken, in the state with the smallest."""
    states: dict[str, list[str]] = defaultdict(list)
    for key in sizes:
        states[_state(key)].append(key)
    shares = {
        state: sum(taken[k] for k in keys) / sum(sizes[k] for k in keys)
        for state, keys in states.items()
    }
    return min(open_strata, key=lambda k: (shares[_state(k)], taken[k] / sizes[k]))


def _state(stratum: str) -> str:
    """Defect and charge of a stratum."""
    return stratum.rsplit("|", 3)[0]


def _strata(candidates: list[Candidate], settings: PickSettings) -> dict[str, list[int]]:
    groups: dict[tuple[str | None, int, int], list[int]] = defaultdict(list)
    for i, item in enumerate(candidates):
        groups[item.frame.lineage.defect, item.frame.charge, item.basin].append(i)
    strata: dict[str, list[int]] = defaultdict(list)
    for (defect, charge, basin), members in groups.items():
        energies = np.array([candidates[i].frame.energy for i in members])
        ranks = energies.argsort(kind="stable").argsort(kind="stable")
        for i, rank in zip(members, ranks, strict=True):
            energy_bin = int(rank * settings.energy_bins / len(members))
            step_bin = min(int(candidates[i].progress * settings.step_bins), settings.step_bins - 1)
            strata[f"{defect}|{charge:+d}|b{basin}|e{energy_bin}|s{step_bin}"].append(i)
    return strata
