"""High-fidelity single points on configuration coordinate diagrams, kept in the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jobflow import JobStore
from pymatgen.core import Structure

from defect_mf_flows.campaign import Campaign
from defect_mf_flows.core import ccd
from defect_mf_flows.core.charge import charge_of, spin_of
from defect_mf_flows.core.notation import charge_text
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.engines.reuse import find_finished, input_hash
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.jobs.common import run_here
from defect_mf_flows.results.ccd import Energies, ground_of
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind
from defect_mf_flows.schemas.ccd import CheckPoint, CoordinateDiagram
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.results import Results

#: Computes a start structure, or finds that it was computed.
SinglePoint = Callable[[StartStructure], Calculation]
#: A model that misses the checks by more does not give this curve, eV.
POOR_MODEL = 0.05


def single_points(campaign: Campaign, store: JobStore, folder: Path) -> SinglePoint:
    """Single points of a campaign's highest fidelity, computed here and kept in its store.

    Parameters
    ----------
    campaign
        Whose engine and settings.
    store
        Connected job store. A finished calculation of the same input is taken from it.
    folder
        Where engines with files run, each in a folder of its own.

    Returns
    -------
    callable
        From a start structure to its calculation.
    """
    name = campaign.roles.high
    settings = campaign.fidelities[name]
    maker = reference_maker(name, settings, CalculationKind.STATIC)

    def compute(start: StartStructure) -> Calculation:
        engine = maker.engine_record(start)
        key = None if engine is None else input_hash(start, maker.kind, settings, engine)
        known = None if key is None else find_finished(store, key, but="")
        if known is not None:
            return known
        job = maker.make(start)
        job.name = f"{start.defect} {charge_text(start.charge)} | {start.label} | {name}"
        return run_here(job, store, folder)

    return compute


def checked(
    found: CoordinateDiagram,
    results: Results,
    compute: SinglePoint,
    energies: Energies,
    *,
    points: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> CoordinateDiagram:
    """Compare both curves with high fidelity between the two verified minima.

    Parameters
    ----------
    found
        The diagram.
    results
        Of the campaign that it was made of.
    compute
        High fidelity.
    energies
        The model that the curves are of.
    points
        Per curve, both minima included; at least two.
    progress
        Called with points done and in all.

    Returns
    -------
    CoordinateDiagram
        With checks and the error of the model. Each charge counts from its own minimum, so
        that neither an offset of the energies nor one of a charge enters.

    Raises
    ------
    ResultsError
        If high fidelity fails at a charge's own minimum.
    """
    upper, lower = (ground_of(results, found.defect, c.charge) for c in found.curves)
    first, second = upper.structure, ccd.oriented(upper.structure, lower.structure)
    fractions = np.linspace(0, 1, points).tolist()
    checks: list[CheckPoint] = []
    rmse: dict[str, float] = {}
    notes = list(found.notes)
    for number, curve in enumerate(found.curves):
        spin = spin_of((first, second)[number])
        # The own minimum first: without it there is nothing to count from.
        ordered = fractions if number == 0 else fractions[::-1]
        cells = ccd.path(first, second, ordered, curve.charge, spin)
        starts = [
            _start(found.defect, cell, fraction)
            for cell, fraction in zip(cells, ordered, strict=True)
        ]
        done = []
        for start in starts:
            done.append(compute(start))
            progress(number * points + len(done), 2 * points)
            if len(done) == 1 and (failed := _failure(done[0])):
                raise ResultsError(
                    f"{_where(found.defect, start)}: high fidelity failed at the charge's own "
                    f"minimum ({failed}); mend the engine's settings, or leave --check out."
                )
        mine = _compared(done, energies(cells), [f * found.dq for f in ordered])
        checks += sorted(mine, key=lambda point: point.q)
        notes += [
            f"{_where(found.defect, start)}: high fidelity failed ({failed}); left out"
            for start, calculation in zip(starts, done, strict=True)
            if (failed := _failure(calculation))
        ]
        if len(mine) > 1:
            errors = [point.model - point.high for point in mine[1:]]
            error = float(np.sqrt(np.mean(np.square(errors))))
            rmse[f"{curve.charge:+d}"] = error
            if error > POOR_MODEL:
                notes.append(
                    f"charge {charge_text(curve.charge)}: the model misses high fidelity by "
                    f"{1000 * error:.0f} meV along the path; train it with labels from there "
                    "before using its curve"
                )
    return found.model_copy(update={"checks": checks, "check_rmse": rmse, "notes": notes})


def _start(defect: str, cell: Structure, fraction: float) -> StartStructure:
    return StartStructure(
        defect=defect,
        charge=charge_of(cell),
        spin=spin_of(cell),
        label=f"coordinate {fraction:.3f}",
        structure=cell,
    )


def _where(defect: str, start: StartStructure) -> str:
    return f"{defect} {charge_text(start.charge)}, {start.label}"


def _failure(done: Calculation) -> str:
    if done.failure is not None:
        return done.failure.message
    return "" if done.final_energy is not None else "no energy"


def _compared(
    done: list[Calculation], model: list[float], displacements: list[float]
) -> list[CheckPoint]:
    """Points that did not fail, from the first of them, which is the charge's own minimum."""
    zero = done[0].final_energy
    assert zero is not None
    return [
        CheckPoint(
            charge=calculation.charge,
            q=q,
            high=calculation.final_energy - zero,
            model=energy - model[0],
            calculation=calculation.job_uuid,
        )
        for calculation, energy, q in zip(done, model, displacements, strict=True)
        if calculation.final_energy is not None and not _failure(calculation)
    ]
