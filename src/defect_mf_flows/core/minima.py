"""From the ends of relaxations to unique minima: threshold, deduplication, what became of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.campaign import MatchSettings
from defect_mf_flows.core.charge import charge_of, with_charge
from defect_mf_flows.core.fate import fate_of, parts_of
from defect_mf_flows.core.matching import LOCAL_RADIUS, SameMinimum, soap_distance, soap_vectors
from defect_mf_flows.core.symmetry import Geometry, Operation, displacement, operations_of
from defect_mf_flows.schemas.defect import Defect
from defect_mf_flows.schemas.search import Fate, FateKind, Minimum, Threshold

#: Where the middle of the gap may lie: noise of relaxations is below, other minima are above.
WINDOW = (1e-5, 2e-3)
#: A gap narrower than this factor does not tell noise from minima.
LEAST_GAP = 2.0
#: Ends whose distances are looked at; more say nothing new.
SAMPLE = 500
#: Below the first fraction of the threshold SOAP alone decides, as it does above the second;
#: between them the geometries are compared atom by atom.
SURE, HOPELESS = 0.01, 5.0
#: A site of the same kind lies this close to where an operation of the host takes a defect;
#: relaxed interstitials are a little off, Angstrom.
SAME_SITE = 0.5
#: Where no operation leads back: the geometry is moved as it is.
SHIFT = Operation(np.eye(3), np.zeros(3))

Confirm = Callable[[int, int, float], bool]


def choose_threshold(
    energies: list[float], vectors: np.ndarray, *, settings: MatchSettings
) -> Threshold:
    """Choose the SOAP distance of one minimum where the data leave the widest gap.

    Parameters
    ----------
    energies
        eV per cell.
    vectors
        SOAP vectors, shape (n, n_features).
    settings
        The energy gate, and a threshold if one is set.

    Returns
    -------
    Threshold
        The middle of the widest gap, on a logarithmic scale, among distances of ends that are
        close in energy; the default where there is none.
    """
    if not settings.auto:
        return Threshold(value=settings.soap, chosen=False)
    order = np.argsort(energies, kind="stable")
    if len(order) > SAMPLE:
        order = order[np.linspace(0, len(order) - 1, SAMPLE).round().astype(int)]
    chosen, heights = vectors[order], np.asarray(energies, dtype=float)[order]
    found = []
    for i in range(len(order) - 1):
        last = int(np.searchsorted(heights, heights[i] + settings.energy, side="right"))
        found.append(0.5 * ((chosen[i + 1 : last] - chosen[i]) ** 2).sum(axis=1))
    distances = np.concatenate(found) if found else np.empty(0)
    steps = np.unique(np.maximum(distances, 1e-12))
    middles = np.sqrt(steps[1:] * steps[:-1])
    gaps = np.where((middles > WINDOW[0]) & (middles < WINDOW[1]), steps[1:] / steps[:-1], 0.0)
    widest = int(gaps.argmax()) if len(gaps) else 0
    if not len(gaps) or gaps[widest] < LEAST_GAP:
        return Threshold(value=settings.soap, chosen=False, n_pairs=len(distances))
    below, above = float(steps[widest]), float(steps[widest + 1])
    return Threshold(
        value=float(np.sqrt(below * above)),
        chosen=True,
        below=below,
        above=above,
        n_pairs=len(distances),
    )


def unique_minima(
    energies: list[float],
    vectors: np.ndarray,
    *,
    same: SameMinimum,
    confirm: Confirm | None = None,
) -> tuple[list[int], list[int]]:
    """Merge relaxed structures into unique minima.

    Parameters
    ----------
    energies
        eV per cell, on one energy scale.
    vectors
        SOAP vectors, shape (n, n_features).
    same
        The criterion.
    confirm
        Asked for two indices and their distance, wherever ``same`` holds; None: it suffices.

    Returns
    -------
    representatives
        Index of the lowest member of each minimum, lowest minimum first.
    labels
        For each structure the position of its minimum in ``representatives``.

    Notes
    -----
    Each structure, from the lowest up, joins the lowest minimum that it matches. Minima are kept
    in a grid over energy and the first principal components of the vectors: a projection never
    lengthens a distance, so whatever matches lies in the same or a neighbouring cell, and the
    result is that of comparing with all minima.
    """
    vectors = np.asarray(vectors, dtype=float)
    keys = _grid(np.asarray(energies, dtype=float), vectors, same)
    steps = list(product((-1, 0, 1), repeat=keys.shape[1])) if len(keys) else []
    cells: dict[tuple[int, ...], list[int]] = {}
    representatives: list[int] = []
    labels = [-1] * len(energies)
    for index in np.argsort(energies, kind="stable"):
        i = int(index)
        key = tuple(keys[i].tolist())
        near = sorted(
            number
            for step in steps
            for number in cells.get(tuple(a + b for a, b in zip(key, step, strict=True)), ())
        )
        for number in near:
            j = representatives[number]
            distance = soap_distance(vectors[i], vectors[j])
            if same(distance, energies[i] - energies[j]) and (
                confirm is None or confirm(i, j, distance)
            ):
                labels[i] = number
                break
        else:
            labels[i] = len(representatives)
            cells.setdefault(key, []).append(len(representatives))
            representatives.append(i)
    return representatives, labels


def _grid(energies: np.ndarray, vectors: np.ndarray, same: SameMinimum) -> np.ndarray:
    """Cells of a grid as wide as what still matches, shape (n, up to 4)."""
    if not len(vectors):
        return np.empty((0, 0), dtype=int)
    sample = vectors[:: max(1, len(vectors) // 1000)]
    axes = np.linalg.svd(sample - sample.mean(axis=0), full_matrices=False)[2][:3]
    reach = np.sqrt(2 * same.soap)  # of the vectors' difference, of which soap is half the square
    coordinates = np.column_stack([energies / same.energy, (vectors @ axes.T) / reach])
    return np.asarray(np.floor(coordinates * (1 - 1e-9)), dtype=int)


@dataclass(frozen=True)
class Found:
    """Unique minima of one charge state.

    Attributes
    ----------
    minima
        The lowest first.
    labels
        For each relaxation the position of its minimum.
    threshold
        When two were the same.
    """

    minima: list[Minimum]
    labels: list[int]
    threshold: Threshold


class Matcher:
    """Tells minima of one defect apart.

    Parameters
    ----------
    defect
        The defect, with its unrelaxed cell.
    host
        The pristine supercell.
    settings
        Threshold, energy gate and displacement.
    """

    def __init__(self, defect: Defect, host: Structure, settings: MatchSettings) -> None:
        self.defect, self.host, self.settings = defect, host, settings
        self.operations = operations_of(defect.supercell)
        self.parts = parts_of(defect.supercell, host, bond=defect.neighbour_distance)

    def collect(
        self, structures: list[Structure], energies: list[float], starts: list[str]
    ) -> Found:
        """Merge the ends of relaxations of one charge state into minima.

        Ends that are symmetry copies of each other are one minimum, also where the defect went
        to an equivalent site; of such a minimum the lowest member at the defect's own site
        stands for it.

        Parameters
        ----------
        structures, energies, starts
            Final geometry, energy (eV per cell) and start label of every relaxation.
        """
        if not structures:
            return Found([], [], Threshold(value=self.settings.soap, chosen=False))
        fates, settled = self._settled(structures)
        vectors = soap_vectors(settled, self.defect.site)
        geometries = [Geometry.of(structure) for structure in settled]
        threshold = choose_threshold(energies, vectors, settings=self.settings)

        def confirm(i: int, j: int, distance: float) -> bool:
            if distance <= SURE * threshold.value:
                return True
            return self.alike(geometries[i], geometries[j])

        widest = SameMinimum(HOPELESS * threshold.value, self.settings.energy)
        representatives, labels = unique_minima(energies, vectors, same=widest, confirm=confirm)
        minima = []
        for number in range(len(representatives)):
            members = [i for i, label in enumerate(labels) if label == number]
            members.sort(key=lambda i: energies[i])
            home = [i for i in members if fates[i].kind is not FateKind.MIGRATED]
            index = (home or members)[0]
            minima.append(
                Minimum(
                    structure=structures[index],
                    energy=energies[index],
                    starts=[starts[index], *(starts[i] for i in members if i != index)],
                    fate=fates[index],
                    soap=vectors[index],
                )
            )
        return Found(minima, labels, threshold)

    def alike(self, one: Geometry, other: Geometry) -> bool:
        """Whether no atom near the defect differs by more than the limit, up to symmetry."""
        found = displacement(one, other, self.defect.site, self.operations, radius=LOCAL_RADIUS)
        return found <= self.settings.displacement

    def same_geometry(self, one: Structure, other: Structure) -> bool:
        """Whether two geometries of the defect are one, whatever their energies.

        Parameters
        ----------
        one, other
            In cells of the host's size, up to symmetry; a defect that moved to an equivalent
            site is moved back.
        """
        _, settled = self._settled([one, other])
        return self.alike(*map(Geometry.of, settled))

    def _settled(self, structures: list[Structure]) -> tuple[list[Fate], list[Structure]]:
        """What became of each defect, and geometries with migrated ones brought back."""
        fates, settled = [], []
        for structure in structures:
            fate, place = fate_of(structure, self.defect, self.host, self.parts)
            moved = structure
            if fate.kind is FateKind.MIGRATED:
                back = self._way_back(place)
                fate = fate.model_copy(update={"equivalent": back is not None})
                moved = self._brought_back(structure, place, back or SHIFT)
            fates.append(fate)
            settled.append(moved)
        return fates, settled

    def _brought_back(self, structure: Structure, place: np.ndarray, by: Operation) -> Structure:
        """The geometry with the defect at its own site, where SOAP looks."""
        shift = np.array(self.defect.site) - by(place[None, :])[0]
        places = by(structure.frac_coords) + shift
        moved = Structure(structure.lattice, structure.species, places)
        return with_charge(moved, charge_of(structure))

    def _way_back(self, place: np.ndarray) -> Operation | None:
        """The host's operation that takes a place to the defect's own site; None: there is none.

        A translation where one does; in wurtzite, say, half of the equivalent sites need a screw
        axis or a glide.
        """
        return next((o for o in self._host_operations if self._home(o, place)), None)

    def _home(self, operation: Operation, place: np.ndarray) -> bool:
        away = operation(place[None, :])[0] - np.array(self.defect.site)
        away = (away - np.round(away)) @ self.host.lattice.matrix
        return bool(np.linalg.norm(away) < SAME_SITE)

    @cached_property
    def _host_operations(self) -> list[Operation]:
        return operations_of(self.host)
