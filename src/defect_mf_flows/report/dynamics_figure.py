"""Dynamics of a charged cell as text and as a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from defect_mf_flows.core.notation import MINUS, charge_text
from defect_mf_flows.report.picture import new_picture, save_picture
from defect_mf_flows.report.theme import BLUE, CYCLE, GREEN, GREY, VERMILION
from defect_mf_flows.schemas.dynamics import DynamicsEnd, DynamicsReport

#: More bonds than this share one colour each and are not named.
NAMED = 6


def dynamics_lines(found: DynamicsReport) -> Iterator[str]:
    """Yield the numbers of a trajectory as lines of text."""
    who, settings = found.identity, found.identity.settings
    yield (
        f"{who.defect or 'cell'}, charge {charge_text(who.charge)}, head {who.head}, Langevin at "
        f"{settings.temperature:g} K, {settings.timestep:g} fs"
    )
    began = f", {found.continued_from} of them by earlier calls" if found.continued_from else ""
    yield (
        f"{found.trajectory}: {found.steps} steps{began}, {len(found.times)} frames, "
        f"{found.times[-1] / 1000:.3f} ps"
    )
    if found.mean_temperature is not None:
        yield (
            f"second half: {found.mean_temperature:.0f} K, standard deviation "
            f"{found.temperature_spread:.0f} K"
        )
    late = slice(len(found.times) // 2, None)
    for name, lengths in found.bonds.items():
        values = np.array(lengths[late])
        yield (
            f"bond {name}: {lengths[0]:.3f} A at the start, then {values.mean():.3f} A, "
            f"{values.min():.3f} to {values.max():.3f}"
        )
    yield f"farthest atom: {found.farthest:.2f} A from its start"
    if found.end is DynamicsEnd.EXPLODED:
        yield (
            f"EXPLODED at {found.message}; the trajectory ends before. The model is wrong there: "
            "try a shorter --timestep, else label geometries like the last frame's."
        )
    for note in found.notes:
        yield f"note  {note}"


def write_dynamics(found: DynamicsReport, path: Path) -> None:
    """Draw temperature, energy and the defect's bonds against time.

    Parameters
    ----------
    found
        The trajectory.
    path
        File to write; its ending says as what.

    Raises
    ------
    ResultsError
        If the ending is unknown.
    """
    ratios = [1, 1, 1.6] if found.bonds else [1, 1]
    figure = new_picture(path, 6.4, 0.8 + 1.6 * sum(ratios))
    axes = figure.subplots(len(ratios), 1, sharex=True, height_ratios=ratios)
    picoseconds = np.array(found.times) / 1000
    target = found.identity.settings.temperature
    axes[0].plot(picoseconds, found.temperatures, color=BLUE, lw=1)
    axes[0].axhline(target, color=GREY, lw=0.9, ls="--", zorder=0)
    axes[0].set_ylabel("T (K)")
    axes[0].set_ylim(bottom=0)
    energies = np.array(found.energies)
    axes[1].plot(picoseconds, energies - energies[0], color=GREEN, lw=1)
    axes[1].set_ylabel("E − E(0) (eV)")
    if found.bonds:
        _bonds(axes[2], picoseconds, found.bonds)
    if found.end is DynamicsEnd.EXPLODED:
        for axis in axes:
            axis.axvline(picoseconds[-1], color=VERMILION, lw=1.2)
        axes[0].annotate(
            "exploded", (picoseconds[-1], 0.96), xycoords=("data", "axes fraction"),
            xytext=(-4, 0), textcoords="offset points", ha="right", va="top", color=VERMILION,
            fontsize=9,
        )  # fmt: skip
    axes[-1].set_xlabel("time (ps)")
    for axis in axes:
        axis.tick_params(labelsize=9)
        axis.set_xlim(0, picoseconds[-1] or 1.0)
    figure.align_ylabels(axes)
    who = found.identity
    figure.suptitle(
        f"{who.defect or 'cell'}, charge {charge_text(who.charge, minus=MINUS)}, "
        f"{target:g} K on head {who.head}",
        fontsize=11,
    )
    save_picture(figure, path)


def _bonds(axis: Any, picoseconds: np.ndarray, bonds: dict[str, list[float]]) -> None:
    named = len(bonds) <= NAMED
    for (name, lengths), colour in zip(bonds.items(), CYCLE * len(bonds), strict=False):
        axis.plot(picoseconds, lengths, lw=1, color=colour, label=name if named else None)
    axis.set_ylabel("bonds (Å)")
    if named:
        low, high = axis.get_ylim()
        axis.set_ylim(low, high + 0.28 * (high - low))
        axis.legend(fontsize=8, frameon=False, ncols=3, loc="upper center")
