"""Which frames get a high-fidelity label: one option, several ways.

Quotas go to every defect and charge in proportion to its frames, at least one each, so that
no way of sampling leaves a charge state without a label.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable

import numpy as np
from ase import Atoms
from pymatgen.core import Structure

from defect_mf_flows.campaign import PickSettings
from defect_mf_flows.core.stratified import Candidate, evenly_spaced, pick_stratified
from defect_mf_flows.schemas.structures import symbols_of

Chooser = Callable[[list[Candidate], int, np.random.Generator], list[int]]


def pick(
    candidates: list[Candidate], *, settings: PickSettings, seed: int
) -> tuple[list[int], dict[str, int]]:
    """Choose frames for high fidelity.

    Parameters
    ----------
    candidates
        All low-fidelity frames of the dataset.
    settings
        Sampler and share.
    seed
        The same seed and candidates give the same picks.

    Returns
    -------
    chosen
        Indices into ``candidates``, ascending.
    strata
        Picks per stratum; per defect and charge where the sampler knows no other.
    """
    if settings.sampler == "stratified":
        return pick_stratified(candidates, settings=settings, seed=seed)
    groups: dict[str, list[int]] = defaultdict(list)
    for i, item in enumerate(candidates):
        groups[f"{item.frame.lineage.defect}|{item.frame.charge:+d}"].append(i)
    budget = max(len(groups), round(settings.fraction * len(candidates)))
    sizes = {key: len(members) for key, members in sorted(groups.items())}
    chosen: list[int] = []
    for number, (key, quota) in enumerate(quotas(sizes, budget).items()):
        rng = np.random.default_rng([seed, number])
        own = [candidates[i] for i in groups[key]]
        found = CHOOSERS[settings.sampler](own, quota, rng)
        chosen += [groups[key][k] for k in found]
    counts = Counter(
        f"{candidates[i].frame.lineage.defect}|{candidates[i].frame.charge:+d}" for i in chosen
    )
    return sorted(chosen), dict(sorted(counts.items()))


def quotas(sizes: dict[str, int], budget: int) -> dict[str, int]:
    """Share a budget over groups in proportion to their sizes, at least one each.

    Parameters
    ----------
    sizes
        Members per group.
    budget
        To share; more than there are members counts as all.

    Returns
    -------
    dict
        Sums up to the budget, which is at least the number of groups.
    """
    total = sum(sizes.values())
    budget = min(max(budget, sum(size > 0 for size in sizes.values())), total)
    given = {key: min(1, size) for key, size in sizes.items()}
    while sum(given.values()) < budget:
        open_groups = [key for key, size in sizes.items() if given[key] < size]
        behind = max(open_groups, key=lambda k: (sizes[k] * budget / total - given[k], k))
        given[behind] += 1
    return given


def _even(own: list[Candidate], quota: int, rng: np.random.Generator) -> list[int]:
    """Evenly spaced along each relaxation, which all get as equal a share as possible."""
    relaxations: dict[str, list[int]] = defaultdict(list)
    for i, item in enumerate(own):
        relaxations[item.frame.lineage.start].append(i)
    order = [sorted(relaxations)[k] for k in rng.permutation(len(relaxations))]
    sizes = {key: len(relaxations[key]) for key in order}
    given = dict.fromkeys(order, 0)
    while sum(given.values()) < min(quota, len(own)):
        behind = min((k for k in order if given[k] < sizes[k]), key=lambda k: given[k])
        given[behind] += 1
    chosen = []
    for key, count in given.items():
        members = sorted(relaxations[key], key=lambda i: own[i].progress)
        # A single frame is the end: minima are what the model must know.
        places = [len(members) - 1] if count == 1 else evenly_spaced(len(members), count)
        chosen += [members[k] for k in places] if count else []
    return chosen


def _random(own: list[Candidate], quota: int, rng: np.random.Generator) -> list[int]:
    return [int(i) for i in rng.permutation(len(own))[:quota]]


def _farthest(own: list[Candidate], quota: int, rng: np.random.Generator) -> list[int]:
    """Farthest points: each next frame is the one least like all that were chosen."""
    vectors = mean_soap([item.frame.structure for item in own])
    return farthest_points(vectors, quota, first=int(rng.integers(len(own))))


def farthest_points(vectors: np.ndarray, count: int, *, first: int = 0) -> list[int]:
    """Choose points so that each next one is the one least like all that were chosen.

    Parameters
    ----------
    vectors
        Shape (n_points, n_features).
    count
        How many; more than there are counts as all.
    first
        Index of the first.

    Returns
    -------
    list of int
        Indices in the order in which they were chosen.
    """
    chosen = [first]
    distances = np.linalg.norm(vectors - vectors[first], axis=1)
    while len(chosen) < min(count, len(vectors)):
        distances[chosen[-1]] = -1.0
        chosen.append(int(distances.argmax()))
        distances = np.minimum(distances, np.linalg.norm(vectors - vectors[chosen[-1]], axis=1))
    return chosen


def _direct(own: list[Candidate], quota: int, rng: np.random.Generator) -> list[int]:
    """DIRECT: scale, principal components with more than unit variance, BIRCH, one per cluster."""
    from sklearn.cluster import Birch
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    quota = min(quota, len(own))
    vectors = mean_soap([item.frame.structure for item in own])
    scaled = StandardScaler().fit_transform(vectors)
    components = PCA().fit(scaled)
    kept = max(1, int((components.explained_variance_ > 1.0).sum()))
    weights = components.explained_variance_ratio_[:kept]
    features = StandardScaler().fit_transform(components.transform(scaled)[:, :kept]) * weights
    # The threshold must not merge frames before there are as many clusters as labels.
    labels = Birch(threshold=1e-6, n_clusters=quota).fit_predict(features)
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        centre = features[members].mean(axis=0)
        nearest = np.linalg.norm(features[members] - centre, axis=1).argmin()
        chosen.append(int(members[nearest]))
    rest = [int(i) for i in rng.permutation(len(own)) if int(i) not in chosen]
    return [*chosen, *rest[: quota - len(chosen)]]


CHOOSERS: dict[str, Chooser] = {
    "even": _even,
    "random": _random,
    "farthest": _farthest,
    "direct": _direct,
}


def mean_soap(structures: list[Structure]) -> np.ndarray:
    """SOAP vectors averaged over the atoms of each structure.

    Parameters
    ----------
    structures
        Geometries; elements may differ.

    Returns
    -------
    numpy.ndarray
        Shape (n_structures, n_features).
    """
    from dscribe.descriptors import SOAP

    species = sorted({symbol for item in structures for symbol in symbols_of(item)})
    soap = SOAP(
        species=species, r_cut=5.0, n_max=6, l_max=4, sigma=0.5, periodic=True, average="outer"
    )
    rows = [
        soap.create(
            Atoms(
                symbols_of(item),
                scaled_positions=item.frac_coords % 1.0,  # dscribe misses images of others
                cell=item.lattice.matrix,
                pbc=True,
            )
        )
        for item in structures
    ]
    return np.asarray(rows)
