"""Vibrations of charge states as text and as a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from defect_mf_flows.core.notation import MINUS, charge_text
from defect_mf_flows.core.vibrations import level_shifts, thermodynamics
from defect_mf_flows.report.picture import new_picture, save_picture
from defect_mf_flows.report.theme import CYCLE, GREY
from defect_mf_flows.schemas.vibrations import VibrationReport, Vibrations

#: Width of the Gaussians that make a spectrum of the modes, eV.
WIDTH = 0.0008
#: The figure's axis reaches this far where only lower temperatures were asked for, K.
LEAST = 300.0


def vibration_lines(found: VibrationReport) -> Iterator[str]:
    """Yield the numbers of a report as lines of text."""
    name = found.states[0].defect or found.source
    yield f"{name}: harmonic vibrations at fixed cell, head {found.head}, {found.source}"
    yield "charge  modes  meV: softest  mean  highest   moved A   max force eV/A"
    for state in found.states:
        energies = 1000 * np.array(state.phonon_energies)
        yield (
            f"{charge_text(state.charge):>6}  {len(energies):>5}  {1000 * state.softest:>12.2f}"
            f"  {energies.mean():>4.1f}  {energies[-1]:>7.1f}   {state.moved:>7.3f}"
            f"   {state.max_force:>14.4f}"
        )
    yield "charge  T K     F eV       U eV      S meV/K   (vibrations, per cell)"
    for state in found.states:
        for row in state.thermal:
            yield (
                f"{charge_text(state.charge):>6}  {row.temperature:<6g}{row.free_energy:>8.4f}"
                f"  {row.internal_energy:>9.4f}  {1000 * row.entropy:>10.4f}"
            )
    for shift in found.shifts:
        pair = f"({charge_text(shift.upper)}/{charge_text(shift.lower)})"
        for kelvin, value in zip(shift.temperatures, shift.shifts, strict=True):
            level = "" if shift.static is None else f", level {shift.static + value:.3f} eV"
            yield f"level {pair} at {kelvin:g} K: {1000 * value:+.1f} meV{level}"
    for item in found.quasi_harmonic:
        for number, kelvin in enumerate(item.temperatures):
            yield (
                f"quasi-harmonic {charge_text(item.charge)} at {kelvin:g} K: V = "
                f"{item.equilibrium[number]:.2f} A^3, expansion "
                f"{1e6 * item.expansion[number]:.1f}e-6 /K, F = {item.free_energies[number]:.4f} eV"
            )
    for note in found.notes:
        yield f"note  {note}"


def write_vibrations(found: VibrationReport, path: Path) -> None:
    """Draw free energies and level shifts against temperature, and the spectra of the modes.

    Parameters
    ----------
    found
        The report.
    path
        File to write; its ending says as what.

    Raises
    ------
    ResultsError
        If the ending is unknown.
    """
    panels = [_free, _spectra, *([_shifts] if found.shifts else [])]
    figure = new_picture(path, 3.7 * len(panels), 3.5)
    top = max([LEAST, *(row.temperature for state in found.states for row in state.thermal)])
    for axis, draw in zip(figure.subplots(1, len(panels)), panels, strict=True):
        draw(axis, found, np.linspace(0, top, 121))
        axis.tick_params(labelsize=9)
    name = found.states[0].defect or found.source
    figure.suptitle(f"{name}, vibrations on head {found.head}", fontsize=11)
    save_picture(figure, path)


def _label(charge: int) -> str:
    return f"charge {charge_text(charge, minus=MINUS)}"


def _free_energies(state: Vibrations, kelvins: np.ndarray) -> np.ndarray:
    rows = thermodynamics(np.array(state.phonon_energies), kelvins.tolist())
    return np.array([row.free_energy for row in rows])


def _free(axis: Any, found: VibrationReport, kelvins: np.ndarray) -> None:
    for state, colour in zip(found.states, CYCLE, strict=False):
        axis.plot(kelvins, _free_energies(state, kelvins), color=colour, label=_label(state.charge))
        axis.plot(
            [row.temperature for row in state.thermal],
            [row.free_energy for row in state.thermal],
            "o", ms=4, color=colour,
        )  # fmt: skip
    axis.set_xlabel("temperature (K)")
    axis.set_ylabel("vibrational free energy (eV per cell)")
    axis.set_xlim(0, kelvins[-1] * 1.03)
    axis.legend(fontsize=9, frameon=False)


def _spectra(axis: Any, found: VibrationReport, kelvins: np.ndarray) -> None:
    top = max(state.phonon_energies[-1] for state in found.states) + 4 * WIDTH
    grid = np.linspace(0, top, 400)
    for state, colour in zip(found.states, CYCLE, strict=False):
        modes = np.array(state.phonon_energies)
        peaks = np.exp(-0.5 * ((grid[:, None] - modes) / WIDTH) ** 2)
        density = peaks.sum(axis=1) / WIDTH / np.sqrt(2 * np.pi) / 1000
        axis.plot(1000 * grid, density, color=colour, lw=1.2)
        axis.fill_between(1000 * grid, density, color=colour, alpha=0.12, lw=0)
    axis.set_xlabel("phonon energy (meV)")
    axis.set_ylabel("modes per meV")
    axis.set_xlim(0, 1000 * top)
    axis.set_ylim(bottom=0)


def _shifts(axis: Any, found: VibrationReport, kelvins: np.ndarray) -> None:
    states = {state.charge: state for state in found.states}
    for number, shift in enumerate(found.shifts):
        free = [_free_energies(states[q], kelvins) for q in (shift.upper, shift.lower)]
        values = level_shifts(shift.upper, list(free[0]), shift.lower, list(free[1]))
        colour = CYCLE[(number + 2) % len(CYCLE)]
        pair = "/".join(charge_text(q, minus=MINUS) for q in (shift.upper, shift.lower))
        axis.plot(kelvins, 1000 * np.array(values), color=colour, label=f"({pair})")
        axis.plot(shift.temperatures, 1000 * np.array(shift.shifts), "o", ms=4, color=colour)
    axis.axhline(0, color=GREY, lw=0.8, zorder=0)
    axis.set_xlabel("temperature (K)")
    axis.set_ylabel("shift of the level (meV)")
    axis.set_xlim(0, kelvins[-1] * 1.03)
    axis.legend(fontsize=9, frameon=False)
