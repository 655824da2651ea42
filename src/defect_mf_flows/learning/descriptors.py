"""What a trained network sees in a defect: its features less those of the pristine host."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from defect_mf_flows.core.charge import to_atoms, with_charge, with_spin
from defect_mf_flows.core.groups import geometry_key
from defect_mf_flows.core.stratified import evenly_spaced
from defect_mf_flows.learning.batches import collate, to_atomic_data
from defect_mf_flows.learning.potential import Potential, default_dtype
from defect_mf_flows.schemas.dataset import Dataset
from defect_mf_flows.schemas.frame import Frame
from defect_mf_flows.schemas.model import DescriptorMap, Model, Projection
from defect_mf_flows.schemas.structures import symbols_of

MOST = 400  # frames of all defects together
FEWEST = 4  # below it two components say nothing
DIGITS = 5  # of a point, in units of the map's larger extent

Labelled = tuple[Frame, str]


def descriptor_maps(model: Model, frames: list[Frame], dataset: Dataset) -> list[DescriptorMap]:
    """Project the mean difference of descriptors, defect less pristine host, onto a plane.

    Parameters
    ----------
    model
        Trained model with its blob; of a committee the first member counts.
    frames, dataset
        That it was trained on, one frame per entry, with the host.

    Returns
    -------
    list of DescriptorMap
        One per defect with enough frames; none if the dataset has no host.

    Notes
    -----
    A descriptor is the invariant part of the node features of every layer. Each atom's counts
    from the mean of its element in the pristine host, and the mean is taken over the cell;
    atoms of elements that the host lacks are left out. Features do not depend on the head
    where the fidelities share one network; with the strategy ``delta`` they are those of the
    low-fidelity network. As in figure 3a of arXiv:2603.05238, except that the map without the
    charge comes from the same network, told one charge for every frame.
    """
    if dataset.host is None:
        return []
    known = {charge for charges in model.charges.values() for charge in charges}
    groups: dict[str, list[Labelled]] = defaultdict(list)
    seen = set()
    for frame, entry in zip(frames, dataset.entries, strict=True):
        # A geometry labelled at two fidelities is one point.
        key = geometry_key(frame)
        if entry.defect is not None and frame.charge in known and key not in seen:
            seen.add(key)
            groups[entry.defect].append((frame, entry.split.value))
    share = MOST // max(len(groups), 1)
    potential = Potential(model, head=model.heads[-1])
    return [
        _defect_map(potential, dataset.host.structure, defect, items, max(share, FEWEST))
        for defect, items in groups.items()
        if len(items) >= FEWEST
    ]


def _defect_map(
    potential: Potential, host: Structure, defect: str, items: list[Labelled], most: int
) -> DescriptorMap:
    chosen = _thinned(items, most)
    structures = [frame.structure for frame, _ in chosen]
    charges = [frame.charge for frame, _ in chosen]
    spins = [frame.spin for frame, _ in chosen]
    # The trained charge closest to neutral: the network knows no other.
    held = min(charges, key=lambda charge: (abs(charge), -charge))
    held_spin = spins[charges.index(held)]
    (pristine,) = features(potential, [host], [held], [held_spin])
    reference = _element_means(host, pristine)

    def means(told: list[int], electrons: list[int | None]) -> NDArray[np.float64]:
        found = features(potential, structures, told, electrons)
        rows = [
            _mean_difference(s, each, reference) for s, each in zip(structures, found, strict=True)
        ]
        return np.array(rows)

    return DescriptorMap(
        defect=defect,
        charges=charges,
        splits=[side for _, side in chosen],
        starts=[frame.lineage.start or "" for frame, _ in chosen],
        n_frames=len(items),
        held_charge=held,
        with_charge=project(means(charges, spins), charges),
        without_charge=project(
            means([held] * len(chosen), [held_spin] * len(chosen)),
            charges,
        ),
    )


def _thinned(items: list[Labelled], most: int) -> list[Labelled]:
    """Evenly spaced frames, as many of every charge as can be."""
    groups: dict[int, list[Labelled]] = defaultdict(list)
    for frame, side in items:
        groups[frame.charge].append((frame, side))
    each = max(2, most // len(groups))
    return [
        group[i] for _, group in sorted(groups.items()) for i in evenly_spaced(len(group), each)
    ]


def project(rows: NDArray[np.float64], charges: list[int]) -> Projection:
    """Project rows onto their first two principal components.

    Parameters
    ----------
    rows
        Shape (n_frames, n_features).
    charges
        One per row.

    Returns
    -------
    Projection
        With the share of the variance, and how well the charges lie apart in all dimensions.
    """
    from sklearn.decomposition import PCA
    from sklearn.metrics import silhouette_score

    found = PCA(n_components=2, svd_solver="full").fit(rows)
    points = found.transform(rows)
    extent = float(np.abs(points).max()) or 1.0
    kinds = len(set(charges))
    # Rows that are all alike have neither a variance nor clusters.
    alike = not np.ptp(rows, axis=0).any()
    return Projection(
        points=np.round(points / extent, DIGITS).tolist(),
        explained=(0.0, 0.0) if alike else tuple(found.explained_variance_ratio_.tolist()),
        separation=None
        if alike or not 1 < kinds < len(rows)
        else float(silhouette_score(rows, charges)),
    )


def _element_means(host: Structure, features: NDArray[np.float64]) -> dict[str, Any]:
    symbols = np.array(symbols_of(host))
    return {str(s): features[symbols == s].mean(axis=0) for s in np.unique(symbols)}


def _mean_difference(
    structure: Structure, features: NDArray[np.float64], reference: dict[str, Any]
) -> NDArray[np.float64]:
    symbols = symbols_of(structure)
    rows = [f - reference[s] for s, f in zip(symbols, features, strict=True) if s in reference]
    mean: NDArray[np.float64] = np.mean(rows, axis=0)
    return mean


def features(
    potential: Potential,
    structures: list[Structure],
    charges: list[int],
    spins: list[int | None],
    *,
    batch: int = 4,
) -> list[NDArray[np.float64]]:
    """Invariant node features of structures, told to be of given charges and spins.

    Parameters
    ----------
    potential
        Model.
    structures
        Geometries.
    charges, spins
        What the network is told of each.
    batch
        Structures per call.

    Returns
    -------
    list of numpy.ndarray
        Shape (n_atoms, n_features) each.
    """
    import torch

    document, found = potential.document, []
    atoms = [
        to_atoms(with_spin(with_charge(s, q), spin))
        for s, q, spin in zip(structures, charges, spins, strict=True)
    ]
    for start in range(0, len(atoms), batch):
        with default_dtype(potential.network):
            items = [
                to_atomic_data(
                    item,
                    head=potential.head,
                    heads=document.heads,
                    atomic_numbers=potential.numbers,
                    cutoff=potential.cutoff,
                    spin=document.learns_spin,
                )
                for item in atoms[start : start + batch]
            ]
            data = collate(items).to(potential.device)
        with torch.no_grad():
            rows = node_features(potential.network, data.to_dict())
        ends = data.ptr.tolist()
        values = rows.cpu().numpy().astype(float)
        found += [values[a:b] for a, b in pairwise(ends)]
    return found


def node_features(network: Any, data: dict[str, Any]) -> Any:
    """Invariant node features of all layers.

    Parameters
    ----------
    network
        mace's network, or one of those that this package makes of several.
    data
        mace's batch as a dictionary.

    Returns
    -------
    torch.Tensor
        Shape (n_atoms, n_features).
    """
    import torch

    from defect_mf_flows.learning.charge_terms import PerCharge
    from defect_mf_flows.learning.composites import Delta, LowOnly, restricted

    if isinstance(network, Delta | LowOnly):
        everything = torch.ones_like(data["head"], dtype=torch.bool)
        part, _ = restricted(data, everything)
        part["head"] = torch.zeros_like(data["head"])
        return node_features(network.low, part)
    if isinstance(network, PerCharge):
        whole = None
        for place, charge in enumerate(network.charges):
            graphs = data["total_charge"].round() == charge
            if not bool(graphs.any()):
                continue
            part, nodes = restricted(data, graphs)
            rows = node_features(network.networks[place], part)
            if whole is None:
                whole = rows.new_zeros((len(data["batch"]), rows.shape[1]))
            whole[nodes] = rows
        return whole
    output = network(data, training=False, compute_force=False)
    return output["node_feats"][:, invariant_columns(network)]


def invariant_columns(network: Any) -> list[int]:
    """Columns of mace's concatenated node features that do not change under rotation.

    Parameters
    ----------
    network
        mace's network.

    Returns
    -------
    list of int
        Scalars of every layer.
    """
    columns: list[int] = []
    first = 0
    for product in network.products:
        irreps = product.linear.irreps_out
        for part, (_, irrep) in zip(irreps.slices(), irreps, strict=True):
            if irrep.l == 0:
                columns += range(first + part.start, first + part.stop)
        first += irreps.dim
    return columns
