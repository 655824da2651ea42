"""Nonradiative capture coefficients of a configuration coordinate diagram (nonrad)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from defect_mf_flows.errors import ResultsError
from defect_mf_flows.schemas.ccd import Capture, CoordinateDiagram

#: Width of the Gaussians that stand for energy conservation, in units of the smaller phonon
#: energy. nonrad's own interpolation needs numpy.trapz, which numpy 2.4 no longer has; this
#: width agrees with it within 4 % from 100 to 600 K.
SMEARING = 0.6


@dataclass(frozen=True)
class CaptureInputs:
    """What a capture coefficient needs beyond the diagram.

    Attributes
    ----------
    carrier
        ``"electron"`` or ``"hole"``.
    coupling
        Electron-phonon matrix element between band and defect state, eV/(amu^(1/2) Angstrom):
        from wave functions, which no potential has.
    degeneracy
        Equivalent final geometries.
    temperatures
        K.
    """

    carrier: str
    coupling: float
    degeneracy: int = 1
    temperatures: tuple[float, ...] = (300.0,)


def capture_coefficients(
    found: CoordinateDiagram, inputs: CaptureInputs, *, volume: float
) -> Capture:
    """Capture coefficient of a carrier, in the harmonic one-dimensional model.

    Parameters
    ----------
    found
        The diagram, with band edges.
    inputs
        Carrier, coupling, degeneracy, temperatures.
    volume
        Of the cell in which the coupling was computed, Angstrom^3.

    Returns
    -------
    Capture
        Without Sommerfeld factor.

    Raises
    ------
    ResultsError
        If nonrad is not installed, or the diagram does not say what the capture sets free.
    """
    barrier = next((b for b in found.barriers if b.carrier == inputs.carrier), None)
    if barrier is None:
        raise ResultsError(
            f"{found.defect}: no {inputs.carrier} capture without level and band edges; the "
            "high-fidelity engine must give the host's band edges."
        )
    if barrier.energy <= 0:
        raise ResultsError(
            f"{found.defect}: {inputs.carrier} capture costs {-barrier.energy:.3f} eV: the level "
            "lies outside the gap, so there is nothing to capture."
        )
    curves = {curve.charge: curve for curve in found.curves}
    phonons = [curves[q].phonon_energy for q in (barrier.initial, barrier.final)]
    smearing = SMEARING * min(phonons)
    values = _nonrad(found.dq, barrier.energy, phonons, smearing, volume, inputs)
    return Capture(
        carrier=inputs.carrier,
        initial=barrier.initial,
        final=barrier.final,
        coupling=inputs.coupling,
        degeneracy=inputs.degeneracy,
        volume=volume,
        smearing=smearing,
        temperatures=list(inputs.temperatures),
        coefficients=values,
    )


def _nonrad(
    dq: float,
    energy: float,
    phonons: Sequence[float],
    smearing: float,
    volume: float,
    inputs: CaptureInputs,
) -> list[float]:
    try:
        from nonrad import get_C
    except ModuleNotFoundError as error:
        raise ResultsError(
            f"{error.name} is not installed; pip install 'defect-mf-flows[capture]'."
        ) from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the number of phonons, which is then large
        found = get_C(
            dq,
            energy,
            *phonons,
            inputs.coupling,
            volume,
            g=inputs.degeneracy,
            T=np.array(inputs.temperatures, dtype=float),
            sigma=smearing,
        )
    return [float(value) for value in np.atleast_1d(found)]
