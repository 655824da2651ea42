"""Start structures: ShakeNBreak distortions, rattles and dimers around a defect."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
from pymatgen.core import Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from defect_mf_flows.campaign import DefectSettings, SearchSettings, StartSettings
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.core.defects import doped_entry, quiet
from defect_mf_flows.core.other_starts import (
    exchanged_vacancies,
    given_start,
    split_vacancies,
)
from defect_mf_flows.errors import CampaignError
from defect_mf_flows.schemas.calculation import Failure, FailureReason
from defect_mf_flows.schemas.defect import Defect, DefectSet, StartStructure

logger = logging.getLogger(__name__)

#: ShakeNBreak's default rattle, as a fraction of the shortest bond.
RATTLE = 0.1


def derived_seed(seed: int, *parts: object) -> int:
    """Derive a seed that depends on the campaign's seed and on what it is for.

    Parameters
    ----------
    seed
        Campaign seed.
    *parts
        What the seed is for; the same parts give the same seed on every machine.

    Returns
    -------
    int
        Between 1 and 2^31 - 1; ShakeNBreak takes 0 for "no seed".
    """
    text = "|".join(str(part) for part in (seed, *parts))
    return 1 + int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) % (2**31 - 2)


class StartMaker:
    """Makes the start structures of one defect in one charge state.

    Parameters
    ----------
    defect
        The defect, with doped's entry loaded.
    charge, spin
        Charge state and unpaired electrons.
    settings
        Increments, rattle, dimer length.
    seed
        Campaign seed.
    """

    def __init__(
        self, defect: Defect, *, charge: int, spin: int | None, settings: StartSettings, seed: int
    ) -> None:
        self.defect, self.charge, self.spin = defect, charge, spin
        self.settings, self.seed = settings, seed
        self.entry = doped_entry(defect, charge=charge)
        self.oxidation_states = self._oxidation_states()
        self.n_neighbours = max(self._excess_neighbours(), settings.min_neighbours)
        self.failures: list[Failure] = []

    def reference(self) -> list[StartStructure]:
        """Starts of the low-fidelity search.

        Returns
        -------
        list of StartStructure
            Unperturbed, distortions (0 % is the rattled structure), a dimer of every pair of
            neighbours that no symmetry of the cell maps onto another, every pair of neighbours
            distorted where that is asked for, and what the user gave.
        """
        starts = [self._start("Unperturbed", self.defect.supercell, None)]
        for factor in self.settings.distortions:
            starts += self._snb(f"Bond_Distortion_{100 * factor:.1f}%", 1 + factor)
        starts += self._dimers(salt="low")
        starts += self._pairs(self.settings.pair_distortions, salt="low")
        return starts + self._given()

    def surrogate(self, search: SearchSettings) -> list[StartStructure]:
        """Starts of the surrogate search: more than the reference search could afford.

        Parameters
        ----------
        search
            Factors, rattle amplitudes and number of seeds.

        Returns
        -------
        list of StartStructure
            The reference's distortions and dimers with other seeds, every pair of neighbours
            distorted, rattles of several amplitudes, atoms moved into a vacancy, and what the
            user gave.
        """
        starts = [self._start("Unperturbed", self.defect.supercell, None)]
        for factor in search.distortions:
            starts += self._snb(f"Bond_Distortion_{100 * factor:.1f}%", 1 + factor, salt="search")
        for amplitude in search.rattles:
            starts += self.rattled(amplitude)
        starts += self._dimers(salt="search")
        starts += self._pairs(search.pair_distortions, salt="search")
        if search.split_vacancies:
            starts += self._moved_in("Split", split_vacancies(self.defect))
        if search.exchanges:
            starts += self._moved_in("Exchange", exchanged_vacancies(self.defect))
        return starts + self._given()

    def rattled(
        self, amplitude: float, *, label: str | None = None, salt: str = "search"
    ) -> list[StartStructure]:
        """Every atom displaced, and no bond distorted.

        Parameters
        ----------
        amplitude
            Standard deviation of the displacements, as a fraction of the shortest bond.
        label
            Of the start; None: what it is by its amplitude.
        salt
            What the start is for: those of another salt are displaced otherwise.

        Returns
        -------
        list of StartStructure
            One; none if ShakeNBreak cannot make it, which is recorded.
        """
        name = label or f"Rattle_{amplitude:.2f}"
        stdev = amplitude * self.defect.neighbour_distance
        return self._displaced(name, self.defect.supercell, stdev, salt=salt)

    def _moved_in(self, name: str, found: list[tuple[int, Structure]]) -> list[StartStructure]:
        return [self._start(f"{name}_{self._names((atom,))}", s, None) for atom, s in found]

    def _dimers(self, *, salt: str) -> list[StartStructure]:
        pairs = inequivalent_pairs(self.defect)
        return [
            start
            for pair in pairs
            for start in self._dimer(
                "Dimer" if len(pairs) == 1 else f"Dimer_{self._names(pair)}", pair, salt=salt
            )
        ]

    def _pairs(self, factors: list[float], *, salt: str) -> list[StartStructure]:
        return [
            start
            for pair in (self.neighbour_pairs() if factors else [])
            for factor in factors
            for start in self._snb(
                f"Pair_{self._names(pair)}_{100 * factor:.1f}%",
                1 + factor,
                salt=salt,
                atoms=pair,
            )
        ]

    def _given(self) -> list[StartStructure]:
        starts = []
        for number, text in enumerate(self.settings.given.get(self.defect.name, [])):
            label = f"Given_{number}"
            try:
                starts.append(self._start(label, given_start(text, self.defect), None))
            except CampaignError as error:
                self._fail(label, str(error))
        return starts

    def _names(self, atoms: tuple[int, ...]) -> str:
        return "-".join(f"{self.defect.supercell[i].specie.symbol}{i}" for i in atoms)

    def neighbour_pairs(self) -> list[tuple[int, int]]:
        """All pairs of the defect's nearest neighbours, as indices into the cell."""
        return list(combinations(nearest_neighbours(self.defect), 2))

    # -- ShakeNBreak -------------------------------------------------------------------

    def _oxidation_states(self) -> dict[str, float]:
        from shakenbreak.input import Distortions

        with quiet():
            return dict(Distortions([self.entry]).oxidation_states or {})

    def _excess_neighbours(self) -> int:
        """Neighbours that ShakeNBreak would distort: one per excess electron or hole."""
        from shakenbreak.input import Distortions

        with quiet():
            made = Distortions(
                [self.entry], bond_distortions=[0.0], oxidation_states=self.oxidation_states
            ).apply_distortions()[1]
        charges = next(iter(made["defects"].values()))["charges"]
        return int(charges[self.charge]["num_nearest_neighbours"])

    def _snb(
        self,
        label: str,
        factor: float,
        *,
        salt: str = "low",
        atoms: tuple[int, ...] | None = None,
    ) -> list[StartStructure]:
        """One distortion with its own seed, or an empty list and a recorded failure."""
        from shakenbreak.input import distort_and_rattle_defect_entry

        seed = derived_seed(self.seed, salt, self.defect.name, self.charge, label)
        options: dict[str, Any] = {"oxidation_states": self.oxidation_states, "seed": seed}
        if atoms is not None:
            options["distorted_atoms"] = list(atoms)
        rattle = self.settings.rattle  # None: ShakeNBreak's own
        stdev = None if rattle is None else rattle * self.defect.neighbour_distance
        try:
            with quiet():
                made = distort_and_rattle_defect_entry(
                    self.entry,
                    num_nearest_neighbours=self.n_neighbours if atoms is None else len(atoms),
                    distortion_factor=factor,
                    stdev=stdev,
                    **options,
                )
        except Exception as error:  # one impossible distortion must not lose the others
            self._fail(label, f"{type(error).__name__}: {error}")
            return []
        structure = made["distorted_structure"]
        if len(structure) != len(self.defect.supercell):
            self._fail(label, f"{len(structure)} atoms instead of {len(self.defect.supercell)}")
            return []
        return [self._start(label, structure, seed)]

    def _dimer(self, label: str, pair: tuple[int, int], *, salt: str) -> list[StartStructure]:
        """One dimer; ShakeNBreak makes only that of the two atoms which are closest."""
        structure = with_bond(self.defect.supercell, pair, self.settings.dimer_length)
        stdev = (self.settings.rattle or RATTLE) * self.defect.neighbour_distance
        return self._displaced(label, structure, stdev, salt=salt, still=pair)

    def _displaced(
        self,
        label: str,
        structure: Structure,
        stdev: float,
        *,
        salt: str,
        still: tuple[int, ...] = (),
    ) -> list[StartStructure]:
        """Every atom displaced but those that stand still; ShakeNBreak's distortions keep some."""
        from shakenbreak.distortions import rattle

        seed = derived_seed(self.seed, salt, self.defect.name, self.charge, label)
        moving = [i for i in range(len(structure)) if i not in still]
        try:
            with quiet():
                structure = rattle(structure, stdev=stdev, active_atoms=moving, seed=seed)
        except Exception as error:  # one impossible distortion must not lose the others
            self._fail(label, f"{type(error).__name__}: {error}")
            return []
        return [self._start(label, structure, seed)]

    def _start(self, label: str, structure: Structure, seed: int | None) -> StartStructure:
        return StartStructure(
            defect=self.defect.name,
            charge=self.charge,
            spin=self.spin,
            label=label,
            structure=with_charge(structure, self.charge),
            seed=seed,
        )

    def _fail(self, label: str, message: str) -> None:
        logger.warning("%s %+d: no start %s: %s", self.defect.name, self.charge, label, message)
        self.failures.append(
            Failure(
                stage="starts",
                reason=FailureReason.START,
                message=message,
                defect=self.defect.name,
                charge=self.charge,
                start=label,
            )
        )


def start_makers(
    found: DefectSet, *, spins: DefectSettings, settings: StartSettings, seed: int
) -> Iterator[StartMaker]:
    """Makers of the start structures of every defect and charge.

    Parameters
    ----------
    found
        With doped's entries.
    spins
        Say the unpaired electrons of each charge state.
    settings, seed
        As for :class:`StartMaker`.

    Yields
    ------
    StartMaker
        In the order of defects and charges.
    """
    for defect in found.defects:
        for charge in defect.charges:
            spin = spins.spin_of(defect.name, charge)
            yield StartMaker(defect, charge=charge, spin=spin, settings=settings, seed=seed)


def nearest_neighbours(defect: Defect, *, tolerance: float = 1.15) -> list[int]:
    """Atoms of the defect's first shell.

    Parameters
    ----------
    defect
        The defect; for substitutions and interstitials the atom on the site is left out.
    tolerance
        Atoms up to this factor times the shortest distance belong to the shell.

    Returns
    -------
    list of int
        Indices into the defect cell, nearest first.
    """
    structure = defect.supercell
    distances = structure.lattice.get_all_distances([defect.site], structure.frac_coords)[0]
    order = [int(i) for i in np.argsort(distances, kind="stable") if distances[i] > 0.3]
    shell = distances[order[0]] * tolerance
    return [i for i in order if distances[i] <= shell]


def with_bond(structure: Structure, pair: tuple[int, int], length: float) -> Structure:
    """Push two atoms along the line between them until they are at a distance.

    Parameters
    ----------
    structure
        Any periodic structure; it is not changed.
    pair
        Indices of the atoms; their nearest images are meant.
    length
        Distance, Angstrom.

    Returns
    -------
    Structure
        A copy; the middle of the pair stays where it was.
    """
    one, other = pair
    distance, image = structure[one].distance_and_image(structure[other])
    line = structure[other].frac_coords + image - structure[one].frac_coords
    shift = 0.5 * (1 - length / distance) * line
    moved = structure.copy()
    moved.translate_sites([one], shift, frac_coords=True)
    moved.translate_sites([other], -shift, frac_coords=True)
    return moved


def inequivalent_pairs(defect: Defect, *, symprec: float = 0.05) -> list[tuple[int, int]]:
    """Pairs of nearest neighbours that no symmetry operation of the cell maps onto each other.

    Six pairs around a tetrahedral site are alike in the crystal, but not in a supercell that is
    short in one direction: their dimers can differ by half an eV.

    Parameters
    ----------
    defect
        The defect, unrelaxed.
    symprec
        Tolerance of the symmetry search, Angstrom.

    Returns
    -------
    list of tuple of int
        One pair of indices into the cell per class, nearest first.
    """
    structure, shell = defect.supercell, nearest_neighbours(defect)
    operations = SpacegroupAnalyzer(structure, symprec=symprec).get_symmetry_operations()
    places = structure.frac_coords
    images = []
    for operation in operations:
        moved = operation.operate_multi(places[shell])
        distances = structure.lattice.get_all_distances(moved, places)
        images.append(dict(zip(shell, distances.argmin(axis=1).tolist(), strict=True)))
    found: list[tuple[int, int]] = []
    known: set[frozenset[int]] = set()
    for pair in combinations(shell, 2):
        if frozenset(pair) not in known:
            found.append(pair)
            known.update(frozenset(image[i] for i in pair) for image in images)
    return found
