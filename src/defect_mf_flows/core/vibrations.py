"""Harmonic vibrations by finite displacements (phonopy), and their thermodynamics (ASE)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.core.ccd import HBAR
from defect_mf_flows.core.charge import charge_of, charged_structure, spin_of, with_spin
from defect_mf_flows.core.notation import charge_text
from defect_mf_flows.errors import VibrationError
from defect_mf_flows.schemas.structures import symbols_of
from defect_mf_flows.schemas.vibrations import QuasiHarmonic, Thermal

if TYPE_CHECKING:
    from phonopy import Phonopy

#: Forces (eV/Angstrom, shape (n_atoms, 3)) of charged structures.
Forces = Callable[[list[Structure]], list[np.ndarray]]
#: Modes below this energy are noise of the forces, eV (0.12 THz, 4 cm^-1).
NOISE = 0.0005
#: Structures per call of the forces, so that a progress bar has something to show.
_CHUNK = 8


@dataclass(frozen=True)
class Modes:
    """Normal modes of a cell without its translations.

    Attributes
    ----------
    energies
        Ascending, eV, shape (3 n_atoms - 3,); negative for imaginary frequencies.
    vectors
        Cartesian displacements of unit length, shape (3 n_atoms - 3, n_atoms, 3).
    translation
        Largest energy of a translation before the sum rule was imposed, eV.
    max_force
        At the geometry, eV/Angstrom.
    n_displacements
        Force calls.
    """

    energies: np.ndarray
    vectors: np.ndarray
    translation: float
    max_force: float
    n_displacements: int


def normal_modes(
    structure: Structure,
    forces: Forces,
    *,
    fmax: float = 0.002,
    step: float = 0.01,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Modes:
    """Normal modes of a minimum at the centre of the Brillouin zone.

    Parameters
    ----------
    structure
        A charged, relaxed cell; every displaced copy carries its charge and spin.
    forces
        Where forces come from.
    fmax
        Largest force that a minimum may have, eV/Angstrom.
    step
        Displacement, Angstrom.
    progress
        Called with cells done and in all.

    Returns
    -------
    Modes
        Imaginary ones included; see :func:`stable_energies`.

    Raises
    ------
    VibrationError
        If a force is larger than ``fmax``.
    """
    residual = np.linalg.norm(forces([structure])[0], axis=1)
    worst = int(residual.argmax())
    if not residual[worst] <= fmax:
        raise VibrationError(
            f"{_name(structure)} is at no minimum: {residual[worst]:.4f} eV/A on atom {worst}, "
            f"and {fmax:g} is allowed; relax it further on this head, or raise the limit (--fmax)."
        )
    phonon, n_displacements = _force_constants(structure, forces, step, progress)
    masses = np.array([float(site.specie.atomic_mass) for site in structure])
    raw = _dynamical(np.array(phonon.force_constants), masses)
    phonon.symmetrize_force_constants(show_drift=False)
    energies, vectors = _solve(_dynamical(np.array(phonon.force_constants), masses), masses)
    shifts = _translations(masses)
    return Modes(
        energies=energies,
        vectors=vectors,
        translation=float(np.abs(_energy(np.linalg.eigvalsh(shifts.T @ raw @ shifts))).max()),
        max_force=float(residual[worst]),
        n_displacements=n_displacements,
    )


def curvature(structure: Structure, forces: Forces, *, step: float = 0.02) -> np.ndarray:
    """Second derivatives of the energy at any geometry, minimum or not.

    Parameters
    ----------
    structure
        A charged cell; every displaced copy carries its charge and spin.
    forces
        Where forces come from.
    step
        Displacement, Angstrom.

    Returns
    -------
    numpy.ndarray
        Shape (3 n_atoms, 3 n_atoms), symmetric, eV/Angstrom^2; no translation costs energy.
    """
    phonon, _ = _force_constants(structure, forces, step)
    phonon.symmetrize_force_constants(show_drift=False)
    return _matrix(np.array(phonon.force_constants))


def _force_constants(
    structure: Structure,
    forces: Forces,
    step: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Phonopy, int]:
    """Phonopy with the force constants of a cell, as computed, and the force calls they took."""
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    cell = PhonopyAtoms(
        symbols=symbols_of(structure),
        cell=structure.lattice.matrix,
        scaled_positions=structure.frac_coords % 1.0,
    )
    phonon = Phonopy(cell, np.eye(3, dtype=int), primitive_matrix=np.eye(3))
    phonon.generate_displacements(distance=step)
    displaced = [_like(structure, found) for found in phonon.supercells_with_displacements or []]
    found: list[np.ndarray] = []
    for start in range(0, len(displaced), _CHUNK):
        found += forces(displaced[start : start + _CHUNK])
        progress(len(found), len(displaced))
    phonon.forces = np.array(found)
    phonon.produce_force_constants()
    return phonon, len(displaced)


def _like(structure: Structure, displaced: object) -> Structure:
    positions = displaced.positions  # type: ignore[attr-defined]
    made = charged_structure(
        structure.lattice.matrix,
        symbols_of(structure),
        positions,
        charge_of(structure),
    )
    return with_spin(made, spin_of(structure))


def _dynamical(constants: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Dynamical matrix at the zone centre, eV/(amu A^2), shape (3N, 3N)."""
    root = np.repeat(np.sqrt(masses), 3)
    return _matrix(constants) / np.outer(root, root)


def _matrix(constants: np.ndarray) -> np.ndarray:
    """Force constants, shape (N, N, 3, 3), as a symmetric matrix, shape (3N, 3N)."""
    n = len(constants)
    matrix = constants.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n)
    return np.asarray(0.5 * (matrix + matrix.T))


def _translations(masses: np.ndarray) -> np.ndarray:
    """Mass-weighted translations, orthonormal columns, shape (3N, 3)."""
    return np.kron(np.sqrt(masses / masses.sum())[:, None], np.eye(3))


def _energy(eigenvalues: np.ndarray) -> np.ndarray:
    return np.asarray(HBAR * np.sign(eigenvalues) * np.sqrt(np.abs(eigenvalues)))


def _solve(matrix: np.ndarray, masses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # The complement of the translations, so that no soft mode is taken for one of them.
    full, _ = np.linalg.qr(np.hstack([_translations(masses), np.eye(len(matrix))]))
    inner = full[:, 3 : len(matrix)]
    values, inside = np.linalg.eigh(inner.T @ matrix @ inner)
    vectors = (inner @ inside).T.reshape(len(values), len(masses), 3)
    vectors = vectors / np.sqrt(masses)[None, :, None]
    return _energy(values), vectors / np.linalg.norm(vectors, axis=(1, 2))[:, None, None]


def stable_energies(modes: Modes, *, where: str, noise: float = NOISE) -> tuple[np.ndarray, int]:
    """Phonon energies of a minimum.

    Parameters
    ----------
    modes
        Of the minimum.
    where
        Whose they are, for the message.
    noise
        Modes below it, imaginary ones up to it, count as this energy, eV. Left out, or left
        soft, each would weigh more in a free energy than all the others.

    Returns
    -------
    energies, softened
        Ascending, eV, and how many were raised.

    Raises
    ------
    VibrationError
        If a mode is imaginary beyond the noise.
    """
    imaginary = modes.energies[modes.energies < -noise]
    if len(imaginary):
        atom = int(np.linalg.norm(modes.vectors[0], axis=1).argmax())
        raise VibrationError(
            f"{where}: {len(imaginary)} imaginary mode(s), the softest "
            f"{1000 * abs(imaginary[0]):.2f}i meV, strongest on atom {atom}: a saddle point, whose "
            "free energy has no meaning; follow the mode downhill (--follow 3), or train with "
            "labels near this geometry."
        )
    return np.maximum(modes.energies, noise), int((modes.energies < noise).sum())


def pushed(structure: Structure, modes: Modes, *, length: float = 0.1) -> Structure:
    """Push a cell along its softest mode.

    Parameters
    ----------
    structure
        Charged cell.
    modes
        Of that cell.
    length
        Of the largest displacement of an atom, Angstrom.

    Returns
    -------
    Structure
        Same charge and spin.
    """
    vector = modes.vectors[0]
    moved = vector * length / np.linalg.norm(vector, axis=1).max()
    made = charged_structure(
        structure.lattice.matrix,
        symbols_of(structure),
        structure.cart_coords + moved,
        charge_of(structure),
    )
    return with_spin(made, spin_of(structure))


def thermodynamics(energies: np.ndarray, temperatures: Sequence[float]) -> list[Thermal]:
    """Free energy, internal energy and entropy of harmonic modes (ASE).

    Parameters
    ----------
    energies
        Phonon energies, eV, all positive.
    temperatures
        K; 0 gives the zero-point energy.

    Returns
    -------
    list of Thermal
        In the order of the temperatures.
    """
    from ase.thermochemistry import HarmonicThermo

    harmonic = HarmonicThermo([float(e) for e in energies])
    rows = []
    for kelvin in temperatures:
        if kelvin == 0:
            zero = 0.5 * float(np.sum(energies))
            rows.append(Thermal(temperature=0, free_energy=zero, internal_energy=zero, entropy=0))
            continue
        rows.append(
            Thermal(
                temperature=kelvin,
                free_energy=float(harmonic.get_helmholtz_energy(kelvin, verbose=False)),
                internal_energy=float(harmonic.get_internal_energy(kelvin, verbose=False)),
                entropy=float(harmonic.get_entropy(kelvin, verbose=False)),
            )
        )
    return rows


def level_shifts(
    upper: int, upper_free: Sequence[float], lower: int, lower_free: Sequence[float]
) -> list[float]:
    """What vibrations add to the level between two charges.

    Parameters
    ----------
    upper, lower
        The more positive charge, and the other one.
    upper_free, lower_free
        Their vibrational free energies at the same temperatures, eV per cell.

    Returns
    -------
    list of float
        eV, per temperature: the level is where both formation energies are equal.
    """
    if upper <= lower:
        raise VibrationError(f"charges {upper:+d} and {lower:+d}: give the more positive first.")
    pairs = zip(upper_free, lower_free, strict=True)
    return [(low - high) / (upper - lower) for high, low in pairs]


def scaled(structure: Structure, strain: float) -> Structure:
    """Scale a cell and all in it, charge and spin kept.

    Parameters
    ----------
    structure
        Charged cell.
    strain
        Linear strain; 0.01 makes it one per cent longer.
    """
    made = charged_structure(
        structure.lattice.matrix * (1 + strain),
        symbols_of(structure),
        structure.cart_coords * (1 + strain),
        charge_of(structure),
    )
    return with_spin(made, spin_of(structure))


def quasi_harmonic(
    defect: str | None,
    charge: int,
    strains: Sequence[float],
    volumes: Sequence[float],
    energies: Sequence[float],
    thermal: Sequence[Sequence[Thermal]],
) -> QuasiHarmonic:
    """Volume of lowest free energy at each temperature (Vinet's equation of state, pymatgen).

    Parameters
    ----------
    defect, charge
        Whose cells.
    strains, volumes, energies
        Linear strain, Angstrom^3 and static energy (eV) of each cell.
    thermal
        Thermodynamics of each cell at the same temperatures.

    Returns
    -------
    QuasiHarmonic

    Raises
    ------
    VibrationError
        If there are fewer than five volumes, or the lowest lies at or beyond their ends.
    """
    from pymatgen.analysis.eos import EOS

    if len(volumes) < 5:
        raise VibrationError(f"{len(volumes)} volumes: an equation of state needs at least five.")
    kelvins = [row.temperature for row in thermal[0]]
    free, best, bulk = [], [], []
    for number, kelvin in enumerate(kelvins):
        total = [e + rows[number].free_energy for e, rows in zip(energies, thermal, strict=True)]
        inside = min(volumes) < volumes[int(np.argmin(total))] < max(volumes)
        try:
            fit = EOS("vinet").fit(list(volumes), total) if inside else None
        except Exception:  # pymatgen's and scipy's, where a curve has no minimum
            fit = None
        if fit is None or not min(volumes) <= fit.v0 <= max(volumes):
            raise VibrationError(
                f"charge {charge_text(charge)} at {kelvin:g} K: the free energy is lowest at an "
                f"end of the strains {min(strains):g} to {max(strains):g}; give larger ones "
                "(--strain)."
            )
        free.append(float(fit.e0))
        best.append(float(fit.v0))
        bulk.append(float(fit.b0_GPa))
    expansion = np.gradient(np.log(best), kelvins) if len(kelvins) > 1 else [float("nan")]
    return QuasiHarmonic(
        defect=defect,
        charge=charge,
        strains=list(strains),
        volumes=list(volumes),
        energies=list(energies),
        temperatures=kelvins,
        free_energies=free,
        equilibrium=best,
        expansion=[float(a) for a in expansion],
        bulk_modulus=bulk,
    )


def _name(structure: Structure) -> str:
    formula = structure.composition.formula.replace(" ", "")
    return f"{formula} with charge {charge_text(charge_of(structure))}"
