"""How unlike its training set a geometry is to a network, atom by atom."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from defect_mf_flows.core.charge import charge_of, spin_of, with_spin
from defect_mf_flows.core.groups import geometry_key
from defect_mf_flows.core.references import composition_key
from defect_mf_flows.core.samplers import farthest_points
from defect_mf_flows.core.stratified import evenly_spaced
from defect_mf_flows.core.trust import trusted_distance
from defect_mf_flows.errors import TrainingError
from defect_mf_flows.learning.descriptors import features
from defect_mf_flows.learning.evaluation import learned
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.relaxed import Relaxed
from defect_mf_flows.schemas.dataset import Dataset, Split
from defect_mf_flows.schemas.familiarity import Environments, Familiarity
from defect_mf_flows.schemas.frame import Frame
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.structures import symbols_of

#: Environments that are kept per element.
MOST = 3000
#: Share of the variance that the principal components keep.
VARIANCE = 0.999
#: Decimals of the stored points; distances that matter are of the order of one.
DIGITS = 4
#: Geometries on the way of a relaxation that are looked at.
LOOKS = 12

Rows = NDArray[np.float64]


def familiarity(model: Model, frames: list[Frame], dataset: Dataset) -> Familiarity:
    """Collect what a model has seen, and how its errors grow away from it.

    Parameters
    ----------
    model
        Trained model with its blob; of a committee the first member counts.
    frames, dataset
        That it was trained on, one frame per entry.

    Returns
    -------
    Familiarity
        Of the geometries that trained at any fidelity.

    Notes
    -----
    Features do not depend on the head where the fidelities share one network; with the strategy
    ``delta`` they are those of the low-fidelity network.
    """
    sides = [entry.split for entry in dataset.entries]
    trained = {
        geometry_key(frame): with_spin(frame.structure, frame.spin)
        for frame, side in zip(frames, sides, strict=True)
        if side is Split.TRAIN
    }
    potential = Potential(model, head=model.heads[-1])
    rows: dict[str, list[Rows]] = defaultdict(list)
    for atoms in _by_element(potential, list(trained.values())):
        for element, found in atoms.items():
            rows[element].append(found)
    known = [_environments(element, np.vstack(found)) for element, found in sorted(rows.items())]
    held = [
        frame
        for frame, side in zip(frames, sides, strict=True)
        if side is not Split.TRAIN and frame.fidelity in model.heads and learned(model, frame)
    ]
    seen = Familiarity(environments=known, distances=[], errors=[])
    return seen.model_copy(
        update={
            "distances": unfamiliarity(
                seen, potential, [with_spin(f.structure, f.spin) for f in held]
            ),
            "errors": _errors(model, held),
        }
    )


def unfamiliarity(
    known: Familiarity, potential: Potential, structures: list[Structure]
) -> list[float]:
    """Distance of the atom least like any that trained from the nearest that did.

    Parameters
    ----------
    known
        Of the potential's model.
    potential
        Any head.
    structures
        Charged structures.

    Returns
    -------
    list of float
        Per structure; infinite where it has an element that did not train.
    """
    from sklearn.neighbors import NearestNeighbors

    trees = {
        item.element: (
            np.array(item.mean),
            np.array(item.axes),
            NearestNeighbors(n_neighbors=1).fit(np.array(item.points)),
        )
        for item in known.environments
    }
    found = []
    for atoms in _by_element(potential, structures):
        farthest = 0.0 if set(atoms) <= set(trees) else math.inf
        for element, rows in atoms.items():
            if element in trees:
                mean, axes, tree = trees[element]
                distances, _ = tree.kneighbors((rows - mean) @ axes)
                farthest = max(farthest, float(distances.max()))
        found.append(farthest)
    return found


class Trust:
    """Where a search may believe its model.

    Parameters
    ----------
    model
        With its blob and its familiarity.
    error
        Root mean square error that may be, eV per cell.
    device
        torch device.

    Raises
    ------
    TrainingError
        If the model has no familiarity, or no label was held out from its training.
    """

    def __init__(self, model: Model, *, error: float, device: str) -> None:
        if model.familiarity is None:
            raise TrainingError(
                "the model does not say what it has seen, which search.trust needs; train it with "
                "TrainMaker(familiarity=True), or remove search.trust."
            )
        self.known, self.error = model.familiarity, error
        self.limit = trusted_distance(self.known.distances, self.known.errors, error=error)
        self.potential = Potential(model, head=model.heads[-1], device=device)

    def doubts(self, ends: list[Relaxed]) -> list[str | None]:
        """Say of each end why it is not believed; None where it is, or where there is no end."""
        sound = [k for k, end in enumerate(ends) if end.problem is None]
        found: list[str | None] = [None] * len(ends)
        far = unfamiliarity(self.known, self.potential, [ends[k].structure for k in sound])
        for k, distance in zip(sound, far, strict=True):
            if distance > self.limit:
                found[k] = (
                    f"surroundings at {distance:.2f} from all that trained: beyond "
                    f"{self.limit:.2f}, held-out labels are off by more than {self.error:g} eV"
                )
        return found

    def left_at(self, end: Relaxed) -> Structure | None:
        """Geometry with which a relaxation left what the model knows; None if it never knew it.

        Parameters
        ----------
        end
            With its trajectory, the end of which is unfamiliar.
        """
        if end.trajectory is None or not len(end.trajectory.energies):
            return None
        steps = evenly_spaced(len(end.trajectory.energies), LOOKS)
        ways = [end.at(step) for step in steps]
        far = unfamiliarity(self.known, self.potential, ways)
        familiar = [k for k, distance in enumerate(far) if distance <= self.limit]
        if not familiar or familiar[-1] + 1 == len(ways):
            return None
        return ways[familiar[-1] + 1]


def _by_element(potential: Potential, structures: list[Structure]) -> list[dict[str, Rows]]:
    """Features of every structure's atoms, by element."""
    told = [charge_of(s) for s in structures]
    rows = features(potential, structures, told, [spin_of(s) for s in structures])
    found = []
    for structure, each in zip(structures, rows, strict=True):
        symbols = np.array(symbols_of(structure))
        found.append({str(element): each[symbols == element] for element in np.unique(symbols)})
    return found


def _environments(element: str, rows: Rows) -> Environments:
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(rows)
    components = PCA(n_components=VARIANCE, svd_solver="full").fit(scaler.transform(rows))
    axes = (components.components_ / scaler.scale_).T
    points = (rows - scaler.mean_) @ axes
    chosen = farthest_points(points, MOST)
    return Environments(
        element=element,
        mean=scaler.mean_,
        axes=axes,
        points=np.round(points[chosen], DIGITS),
    )


def _errors(model: Model, held: list[Frame]) -> list[float]:
    """Errors of labels on their own heads, less the median of head, defect, charge and cell."""
    groups: dict[tuple[str, str | None, int, str], list[int]] = defaultdict(list)
    for k, frame in enumerate(held):
        # A cell of another size, as imports have, counts its energies from another zero.
        cell = composition_key(frame.structure)
        groups[frame.fidelity, frame.lineage.defect, frame.charge, cell].append(k)
    errors = np.zeros(len(held))
    for (head, *_), places in groups.items():
        potential = Potential(model, head=head)
        told = [with_spin(held[k].structure, held[k].spin) for k in places]
        energies = [energy for energy, _ in potential.interaction(told)]
        off = np.array(energies) - np.array([held[k].energy for k in places])
        errors[places] = off - np.median(off)
    return [float(error) for error in errors]
