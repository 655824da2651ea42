"""Vibrations of the charge states of a defect, and their share in its levels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from defect_mf_flows.core.charge import charge_of
from defect_mf_flows.core.notation import charge_text
from defect_mf_flows.core.vibrations import level_shifts
from defect_mf_flows.learning.potential import Potential
from defect_mf_flows.learning.vibrations import (
    Progress,
    VibrationOptions,
    quasi_harmonic,
    vibrations,
)
from defect_mf_flows.results.cells import ModelCells
from defect_mf_flows.schemas.vibrations import LevelShift, VibrationReport, Vibrations

#: A relaxation that moved an atom further than this went to another place, Angstrom.
FAR = 0.3
ONLY_THE_DEFECT = (
    "shifts hold the defect's vibrations alone: the band edges move with temperature too, often "
    "by more"
)
ONE_VOLUME = (
    "quasi-harmonic: a model that was trained on cells of one volume extrapolates; compare its "
    "equation of state with the method's own before believing an expansion"
)


def vibration_report(
    cells: ModelCells,
    options: VibrationOptions,
    *,
    strains: Sequence[float] = (),
    device: str = "cpu",
    progress: Callable[[str], Progress] = lambda what: lambda done, total: None,
) -> VibrationReport:
    """Vibrations of every cell, and the shifts of the levels between them.

    Parameters
    ----------
    cells
        Charge states of one defect, each at or near a minimum, and their model.
    options
        How.
    strains
        Linear strains for the quasi-harmonic approximation; none without.
    device
        torch device.
    progress
        Called with what is computed; what it returns is called with cells done and in all.

    Returns
    -------
    VibrationReport

    Raises
    ------
    VibrationError
        If a cell has no minimum.
    """
    potential = Potential(cells.model, head=cells.head, device=device, dtype="float64")
    states = [
        vibrations(
            potential,
            cell.structure,
            options,
            defect=cell.defect,
            progress=progress(f"charge {charge_text(charge_of(cell.structure))}"),
        )
        for cell in cells.cells
    ]
    shifts = [_shift(a, b, cells) for a, b in pairwise(states)]
    volumes = [
        quasi_harmonic(
            potential,
            s,
            strains,
            options,
            progress=progress(f"charge {charge_text(s.charge)}, volumes"),
        )
        for s in (states if strains else [])
    ]
    notes = [*cells.notes, *(note for s in states for note in _notes(s))]
    notes += [ONLY_THE_DEFECT] * bool(shifts) + [ONE_VOLUME] * bool(volumes)
    return VibrationReport(
        source=cells.source,
        head=cells.head,
        states=states,
        shifts=shifts,
        quasi_harmonic=volumes,
        notes=notes,
    )


def _shift(upper: Vibrations, lower: Vibrations, cells: ModelCells) -> LevelShift:
    return LevelShift(
        upper=upper.charge,
        lower=lower.charge,
        static=cells.levels.get((upper.charge, lower.charge)),
        temperatures=[t.temperature for t in upper.thermal],
        shifts=level_shifts(
            upper.charge,
            [t.free_energy for t in upper.thermal],
            lower.charge,
            [t.free_energy for t in lower.thermal],
        ),
    )


def _notes(state: Vibrations) -> list[str]:
    notes = []
    name = f"charge {charge_text(state.charge)}"
    if state.followed:
        notes.append(
            f"{name}: relaxed into a saddle point {state.followed} time(s) and went on downhill"
        )
    if state.moved > FAR:
        notes.append(
            f"{name}: the model's minimum lies {state.moved:.2f} A from the given geometry; its "
            "vibrations are those of another minimum, or the model is poor there"
        )
    if state.softened:
        notes.append(
            f"{name}: {state.softened} mode(s) within the noise of the forces, taken at its limit"
        )
    return notes
