"""Vibrations of a charged minimum on one head of a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.core import vibrations as core
from defect_mf_flows.core.charge import charge_of, spin_of
from defect_mf_flows.core.notation import charge_text
from defect_mf_flows.errors import VibrationError
from defect_mf_flows.learning.flock import relax_here
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.relaxed import Limits
from defect_mf_flows.schemas.vibrations import QuasiHarmonic, Vibrations

#: Called with cells done and cells in all.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class VibrationOptions:
    """How vibrations are computed.

    Attributes
    ----------
    temperatures
        K.
    fmax
        Largest force of a minimum, eV/Angstrom.
    steps
        Most FIRE steps of a relaxation; 0 takes geometries as they are.
    step
        Finite displacement, Angstrom.
    follow
        How often a relaxation that ended in a saddle point may go on downhill.
    """

    temperatures: tuple[float, ...] = (0.0, 300.0, 600.0, 900.0)
    fmax: float = 0.002
    steps: int = 2000
    step: float = 0.01
    follow: int = 0


def vibrations(
    potential: Potential,
    structure: Structure,
    options: VibrationOptions | None = None,
    *,
    defect: str | None = None,
    progress: Progress = lambda done, total: None,
) -> Vibrations:
    """Harmonic vibrations of a charged cell on the potential's head, at fixed cell.

    Parameters
    ----------
    potential
        Model and head; ``float64`` keeps rounding out of the differences.
    structure
        Charged cell near the minimum, or at it.
    options
        How.
    defect
        Its name, for messages and the document.
    progress
        Called after some displaced cells.

    Returns
    -------
    Vibrations

    Raises
    ------
    VibrationError
        If the geometry is no minimum, or the relaxation ends at none.
    ChargeError
        If the head was not trained on the charge or spin.
    """
    options = options or VibrationOptions()
    where = f"{defect or 'the cell'} {charge_text(charge_of(structure))}"
    here, followed = structure, 0
    while True:
        here = _relaxed(potential, here, options, where) if options.steps else here
        modes = core.normal_modes(
            here,
            lambda cells: [forces for _, forces in potential.predict(cells)],
            fmax=options.fmax,
            step=options.step,
            progress=progress,
        )
        if modes.energies[0] >= -core.NOISE or followed >= options.follow or not options.steps:
            break
        here, followed = core.pushed(here, modes), followed + 1
    energies, softened = core.stable_energies(modes, where=where)
    shift = here.frac_coords - structure.frac_coords
    shift = structure.lattice.get_cartesian_coords(shift - np.round(shift))
    return Vibrations(
        defect=defect,
        charge=charge_of(here),
        spin=spin_of(here),
        head=potential.head,
        model_hash=potential.document.model_hash,
        energy=potential.predict([here])[0][0],
        volume=here.volume,
        max_force=modes.max_force,
        moved=float(np.linalg.norm(shift, axis=1).max()),
        followed=followed,
        step=options.step,
        n_displacements=modes.n_displacements,
        phonon_energies=energies.tolist(),
        softest=float(modes.energies[0]),
        softened=softened,
        translation=modes.translation,
        thermal=core.thermodynamics(energies, options.temperatures),
        structure=here,
    )


def _relaxed(
    potential: Potential, structure: Structure, options: VibrationOptions, where: str
) -> Structure:
    # Below the limit: it is compared with the forces again, perhaps of another batch.
    (end,) = relax_here([structure], potential, Limits(0.9 * options.fmax, options.steps))
    if end.problem is not None:
        raise VibrationError(f"{where}: the relaxation on {potential.head} failed: {end.message}.")
    if not end.converged:
        raise VibrationError(
            f"{where}: not relaxed to {options.fmax:g} eV/A in {options.steps} steps on "
            f"{potential.head}; allow more (--steps), or larger forces (--fmax)."
        )
    return end.structure


def quasi_harmonic(
    potential: Potential,
    minimum: Vibrations,
    strains: Sequence[float],
    options: VibrationOptions | None = None,
    *,
    progress: Progress = lambda done, total: None,
) -> QuasiHarmonic:
    """Vibrations of a minimum in cells scaled with the lattice of the host.

    Parameters
    ----------
    potential
        Model and head. A model that saw one volume alone extrapolates here.
    minimum
        At the volume of the campaign; relaxed anew in every scaled cell.
    strains
        Linear strains of the cell, at least five.
    options
        How; geometries are always relaxed.
    progress
        Called after some displaced cells of a volume.

    Returns
    -------
    QuasiHarmonic

    Raises
    ------
    VibrationError
        If a cell has no minimum, or the free energy none among the volumes.
    """
    options = options or VibrationOptions()
    found = [
        vibrations(
            potential,
            core.scaled(minimum.structure, strain),
            options,
            defect=f"{minimum.defect or 'the cell'} at strain {strain:+g}, charge",
            progress=progress,
        )
        for strain in strains
    ]
    return core.quasi_harmonic(
        minimum.defect,
        minimum.charge,
        strains,
        [v.volume for v in found],
        [v.energy for v in found],
        [v.thermal for v in found],
    )
