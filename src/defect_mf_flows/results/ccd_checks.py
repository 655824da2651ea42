"""High-fidelity single points on configuration coordinate diagrams, kept in the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jobflow import JobStore, run_locally

from defect_mf_flows.campaign import Campaign
from defect_mf_flows.core import ccd
from defect_mf_flows.core.charge import spin_of
from defect_mf_flows.core.notation import charge_text
from defect_mf_flows.engines import reference_maker
from defect_mf_flows.engines.reuse import find_finished, input_hash
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.jobs.common import read_output
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
        folder.mkdir(parents=True, exist_ok=True)
        run_locally(job, store=store, create_folders=True, root_dir=folder, log=False)
        return read_output(store, job.uuid, Calculation, load=True)

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
        model = energies(cells)
        mine: list[CheckPoint] = []
        zero = None
        for k, (fraction, cell) in enumerate(zip(ordered, cells, strict=True)):
            start = StartStructure(
                defect=found.defect,
                charge=curve.charge,
                spin=spin,
                label=f"coordinate {fraction:.3f}",
                structure=cell,
            )
            done = compute(start)
            progress(number * points + k + 1, 2 * points)
            where = f"charge {charge_text(curve.charge)}, {start.label}"
            if done.failure is not None or done.final_energy is None:
                reason = done.failure.message if done.failure else "no energy"
                if zero is None:
                    raise ResultsError(
                        f"{found.defect} {where}: high fidelity failed at the charge's own "
                        f"minimum ({reason}); mend the engine's settings, or leave --check out."
                    )
                notes.append(f"{where}: high fidelity failed ({reason}); left out")
                continue
            zero = done.final_energy if zero is None else zero
            mine.append(
                CheckPoint(
                    charge=curve.charge,
                    q=fraction * found.dq,
                    high=done.final_energy - zero,
                    model=model[k] - model[0],
                    calculation=done.job_uuid,
                )
            )
        checks += sorted(mine, key=lambda point: point.q)
        errors = [point.model - point.high for point in mine[1:]]
        if errors:
            rmse[f"{curve.charge:+d}"] = float(np.sqrt(np.mean(np.square(errors))))
            if rmse[f"{curve.charge:+d}"] > POOR_MODEL:
                notes.append(
                    f"charge {charge_text(curve.charge)}: the model misses high fidelity by "
                    f"{1000 * rmse[f'{curve.charge:+d}']:.0f} meV along the path; train it with "
                    "labels from there before using its curve"
                )
    return found.model_copy(update={"checks": checks, "check_rmse": rmse, "notes": notes})
