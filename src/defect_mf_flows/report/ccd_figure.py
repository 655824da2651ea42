"""Configuration coordinate diagram as a picture and as text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from defect_mf_flows.core.ccd import HBAR
from defect_mf_flows.core.notation import charge_text
from defect_mf_flows.report.picture import new_picture, save_picture
from defect_mf_flows.report.theme import BLUE, GREY, ORANGE
from defect_mf_flows.schemas.ccd import CoordinateDiagram, Curve


def ccd_lines(found: CoordinateDiagram) -> Iterator[str]:
    """Yield the numbers of a diagram as lines of text."""
    a, b = (charge_text(c.charge) for c in found.curves)
    yield f"{found.defect} {a} and {b}: dQ = {found.dq:.3f} amu^1/2 A, energies of {found.source}"
    for curve in found.curves:
        yield (
            f"  charge {charge_text(curve.charge):>2}: effective mode "
            f"{1000 * curve.phonon_energy:.1f} meV, Huang-Rhys factor "
            f"{found.huang_rhys[f'{curve.charge:+d}']:.2f}, "
            f"parabola within {1000 * curve.fit_rmse:.1f} meV"
        )
        yield from _quartic(curve)
    if found.level is not None:
        yield f"  level ({a}/{b}) {found.level:.3f} eV above the VBM ({found.level_from})"
    for item in found.barriers:
        heights = [
            "no crossing" if h is None else f"{h:.3f} eV"
            for h in (item.sampled, item.harmonic, item.anharmonic)
        ]
        yield (
            f"  {item.carrier} capture {charge_text(item.initial)} -> {charge_text(item.final)}: "
            f"{_released(item.energy)}, barrier {heights[0]} "
            f"(parabolas: {heights[1]}, quartics: {heights[2]})"
        )
    for charge, rmse in found.check_rmse.items():
        mine = [point for point in found.checks if f"{point.charge:+d}" == charge]
        worst = max(abs(point.model - point.high) for point in mine)
        yield (
            f"  charge {charge_text(int(charge)):>2}: model against high fidelity on {len(mine)} "
            f"points, each from its own minimum: RMSE {1000 * rmse:.1f} meV, largest "
            f"{1000 * worst:.1f} meV"
        )
    for made in found.capture:
        for kelvin, value in zip(made.temperatures, made.coefficients, strict=True):
            yield (
                f"  {made.carrier} capture at {kelvin:g} K: {value:.2e} cm^3/s (coupling "
                f"{made.coupling:g} eV/(amu^1/2 A), degeneracy {made.degeneracy}, no Sommerfeld "
                "factor)"
            )
    for note in found.notes:
        yield f"note  {note}"


def _quartic(curve: Curve) -> Iterator[str]:
    fit = curve.anharmonic
    if fit is None:
        yield "              no quartic: too few points, or it has no minimum"
        return
    first = "not held" if fit.fundamental is None else f"{1000 * fit.fundamental:.1f} meV"
    yield (
        f"              quartic within {1000 * fit.fit_rmse:.1f} meV: curvature "
        f"{1000 * fit.phonon_energy:.1f} meV, first excitation {first}"
    )


def _released(energy: float) -> str:
    return f"sets {energy:.3f} eV free" if energy >= 0 else f"costs {-energy:.3f} eV"


def write_ccd(found: CoordinateDiagram, path: Path) -> None:
    """Draw both curves, aligned by the level, with their parabolas.

    Parameters
    ----------
    found
        The diagram.
    path
        File to write; its ending says as what.

    Raises
    ------
    ResultsError
        If the ending is unknown.
    """
    figure = new_picture(path, 5.6, 4.2)
    axis = figure.subplots()
    known = found.level is not None and found.gap is not None
    a, b = (charge_text(c.charge) for c in found.curves)
    # Electron capture: the neutral end of the process carries the free electron.
    shift = (found.gap or 0.0) - (found.level or 0.0) if known else 0.0
    names = (f"{a} + electron in the conduction band" if known else a, b)
    tops: list[float] = []
    bottoms: list[float] = []
    for curve, colour, zero, name in zip(
        found.curves, (ORANGE, BLUE), (shift, 0.0), names, strict=True
    ):
        q, e = np.array(curve.q), np.array(curve.energies) + zero
        axis.plot(q, e, "o", ms=3.5, color=colour, label=name)
        fine = np.linspace(q[0], q[-1], 300)
        omega = curve.phonon_energy / HBAR
        axis.plot(fine, zero + 0.5 * (omega * (fine - curve.minimum)) ** 2, "-", lw=1.2,
                  color=colour, alpha=0.8)  # fmt: skip
        if curve.anharmonic is not None:
            quartic = np.polynomial.Polynomial(curve.anharmonic.coefficients)
            base = float(np.mean(np.array(curve.energies) - quartic(np.array(curve.q))))
            axis.plot(fine, zero + base + quartic(fine), "--", lw=1.0, color=colour, alpha=0.8)
        tops += _checks(axis, found, curve, zero, colour)
        inside = (q >= -0.3 * found.dq) & (q <= 1.3 * found.dq)
        tops.append(float(e[inside].max()))
        bottoms.append(float(e[inside].min()))
    for x in (0.0, found.dq):
        axis.axvline(x, ls=":", lw=0.8, color=GREY, zorder=0)
    low = min(0.0, shift, *bottoms)
    span = max(max(tops) - low, 0.05)
    # Room above the curves for the legend.
    axis.set_ylim(low - 0.08 * span, low + 1.4 * span)
    axis.set_xlabel("Q (amu$^{1/2}$ Å)")
    axis.set_ylabel("energy (eV)")
    axis.set_title(f"{found.defect}, {a} and {b}: $\\Delta Q$ = {found.dq:.2f} amu$^{{1/2}}$ Å",
                   fontsize=11)  # fmt: skip
    axis.plot([], [], "-", lw=1.2, color=GREY, label="parabola at the minimum")
    if any(curve.anharmonic is not None for curve in found.curves):
        axis.plot([], [], "--", lw=1.0, color=GREY, label="quartic")
    if found.checks:
        axis.plot([], [], "s", ms=7, mfc="none", mec=GREY, mew=1.3, label="high fidelity")
    axis.legend(fontsize=8, loc="upper center", ncols=2, framealpha=0.85, edgecolor="none")
    save_picture(figure, path)


def _checks(
    axis: Any, found: CoordinateDiagram, curve: Curve, zero: float, colour: str
) -> list[float]:
    """Draw the check points of a curve, from its own minimum, and return their energies."""
    mine = [point for point in found.checks if point.charge == curve.charge]
    own = next((point for point in mine if point.high == 0.0), None)
    if own is None:
        return []
    base = zero + float(np.interp(own.q, curve.q, curve.energies))
    heights = [base + point.high for point in mine]
    axis.plot(
        [point.q for point in mine], heights, "s", ms=7, mfc="none", mec=colour, mew=1.3, zorder=4
    )
    return heights
