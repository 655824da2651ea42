"""From what VASP left to a Calculation: frames, failures, and the checks of charge and method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from pymatgen.core import Structure

from defect_mf_flows.campaign.vasp import VaspSettings
from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.engines.track import EXPLODED_FORCE
from defect_mf_flows.engines.vasp import handlers as watch
from defect_mf_flows.engines.vasp.method import (
    SOME_DISPERSION,
    accuracy_of,
    as_text,
    imposed_moment,
    method_of,
)
from defect_mf_flows.engines.vasp.outcar import RawStep
from defect_mf_flows.engines.vasp.running import Progress, fractional
from defect_mf_flows.engines.vasp.runs import Run
from defect_mf_flows.errors import ChargeError, FidelityError
from defect_mf_flows.schemas.calculation import (
    Calculation,
    CalculationKind,
    EngineRecord,
    Failure,
    FailureReason,
)
from defect_mf_flows.schemas.defect import StartStructure
from defect_mf_flows.schemas.frame import Frame, Lineage
from defect_mf_flows.schemas.structures import symbols_of

#: Executions in a row that may end without a new ionic step.
IDLE_EXECUTIONS = 3
MOST_EXECUTIONS = 50

_REASONS: list[tuple[str, FailureReason, str]] = [
    (watch.HIGH_ENERGY, FailureReason.HIGH_ENERGY, "stays above the relaxed unperturbed start"),
    (watch.EXPLODED, FailureReason.EXPLODED, "an atom has flown away"),
    (watch.POSITIVE, FailureReason.UNPHYSICAL_ENERGY, "the energy stays positive"),
    (watch.MEMORY, FailureReason.MEMORY, "out of memory with KPAR = 1; use more nodes"),
    ("out_of_memory", FailureReason.MEMORY, "out of memory with KPAR = 1; use more nodes"),
    ("Unconverged", FailureReason.SCF, "the SCF did not converge with any algorithm"),
    ("Non-converging job", FailureReason.SCF, "the SCF did not converge with any algorithm"),
]


@dataclass(frozen=True)
class CellOrder:
    """Order of a cell's atoms in POSCAR, where every element stands together.

    Attributes
    ----------
    indices
        Index into the frame's cell for every atom of POSCAR.
    """

    indices: tuple[int, ...]

    @classmethod
    def of(cls, structure: Structure) -> CellOrder:
        """Order of a structure; elements in the order in which they first appear."""
        symbols = symbols_of(structure)
        first = {symbol: symbols.index(symbol) for symbol in set(symbols)}
        return cls(tuple(sorted(range(len(symbols)), key=lambda i: (first[symbols[i]], i))))

    def grouped(self, structure: Structure) -> Structure:
        """The structure with the atoms in POSCAR's order."""
        return Structure.from_sites([structure[i] for i in self.indices])

    def restored(self, array: np.ndarray) -> np.ndarray:
        """Rows in POSCAR's order, back in the frame's order."""
        back = np.empty_like(array)
        back[list(self.indices)] = array
        return back


def check_run(run: Run, expected: Any, start: StartStructure, fidelity: str) -> None:
    """Refuse labels of another charge or method than the ones that were asked for.

    Parameters
    ----------
    run
        What VASP did.
    expected
        The INCAR that was written.
    start
        What should be computed.
    fidelity
        Name of the fidelity, for the message.

    Raises
    ------
    ChargeError
        If NELECT and the valences give another charge.
    FidelityError
        If a tag of the method differs; names it.
    """
    if run.charge is None:
        raise ChargeError(
            f"{run.source}: tells no NELECT and valences, and so no charge; remove the folder and "
            "run again."
        )
    if run.charge != start.charge:
        raise ChargeError(
            f"{run.source}: VASP computed charge {run.charge:+d} (NELECT {run.head.nelect:g} of "
            f"{run.head.valence:g}), not {start.charge:+d}; remove the folder and run again."
        )
    ours = symbols_of(CellOrder.of(start.structure).grouped(start.structure))
    if run.head.species != ours:
        raise FidelityError(
            f"{run.source}: its atoms are not those of {start.label}, in number, element or order; "
            "remove the folder and run again."
        )
    wanted, got = (
        _settings(tags, run.head.elements) for tags in (as_text(expected), run.head.tags)
    )
    for name in {**wanted, **got}:  # the functional is named first
        one, other = wanted.get(name), got.get(name)
        if name == "IVDW" and other == SOME_DISPERSION and one != "0":
            continue
        if one != other and not (isinstance(one, float) and np.isclose(one, other or 0, atol=1e-6)):
            raise FidelityError(
                f"{run.source}: {name} is {other}, but fidelity {fidelity!r} has {one}; these "
                "labels belong to another fidelity. Remove the folder and run again."
            )


def _settings(tags: dict[str, str], elements: list[str]) -> dict[str, Any]:
    accuracy = accuracy_of(tags)
    spin = {"ISPIN": accuracy["ISPIN"], "NUPDOWN": imposed_moment(tags)}
    if spin["NUPDOWN"] == 0:  # two equal channels are one
        spin = {"ISPIN": 1, "NUPDOWN": None}
    smearing = {name: accuracy[name] for name in ("ISMEAR", "SIGMA")}
    return {**method_of(tags, elements), **smearing, **spin}


def frames_of(
    steps: list[RawStep], start: StartStructure, order: CellOrder, *, fidelity: str, uuid: str
) -> list[Frame]:
    """Turn ionic steps into frames on the start's lattice, in the start's order of atoms.

    Parameters
    ----------
    steps
        With a converged SCF.
    start
        Charge, spin and lattice.
    order
        Of the atoms in POSCAR.
    fidelity, uuid
        Fidelity and calculation of the frames.

    Returns
    -------
    list of Frame
        Charge set by us; ``check_run`` has compared it with what VASP computed.

    Raises
    ------
    FidelityError
        If the lattice is not the start's.
    """
    frames = []
    symbols = symbols_of(start.structure)
    for number, step in enumerate(steps):
        lattice = start.structure.lattice
        if not np.allclose(step.cell, lattice.matrix, atol=1e-4):
            raise FidelityError(f"{uuid} step {number}: the cell has changed; ISIF must be 2.")
        positions = order.restored(fractional(step.positions, step.cell))
        lineage = Lineage(
            defect=start.defect,
            charge=start.charge,
            start=start.label,
            calculation=uuid,
            step=number,
        )
        frames.append(
            Frame(
                structure=with_charge(Structure(lattice, symbols, positions), start.charge),
                charge=start.charge,
                spin=start.spin,
                fidelity=fidelity,
                energy=step.energy,
                forces=None if step.forces is None else order.restored(step.forces),
                stress=step.stress,
                lineage=lineage,
            )
        )
    return frames


def calculation_of(
    progress: Progress,
    start: StartStructure,
    order: CellOrder,
    *,
    fidelity: str,
    kind: CalculationKind,
    settings: VaspSettings,
    limits: tuple[float, int],
    inputs: Any,
    uuid: str,
    more_calls: int = 0,
) -> Calculation:
    """Make the document of a calculation from all its executions.

    Parameters
    ----------
    progress
        What they have reached.
    start, order
        What was computed, and the order of its atoms in POSCAR.
    fidelity, kind, settings
        Of the Maker.
    limits
        Force threshold, eV/A, and ionic steps.
    inputs
        The input set that was written.
    uuid
        Of the calculation.
    more_calls
        Force calls outside the executions (guesses of the spin).

    Returns
    -------
    Calculation
        With a failure of reason ``walltime`` if it can continue.
    """
    finite = [s for s in progress.steps if _finite(s)]
    frames = frames_of(finite, start, order, fidelity=fidelity, uuid=uuid)
    failure = _failure(progress, frames, start, kind, settings, limits)
    last = progress.runs[-1] if progress.runs else None
    record = {
        **settings.model_dump(mode="json"),
        **written_inputs(inputs, start.charge),
        "magnetization": last.head.magnetization if last else None,
    }
    return Calculation(
        job_uuid=uuid,
        kind=kind,
        fidelity=fidelity,
        defect=start.defect,
        charge=start.charge,
        spin=start.spin,
        start=start.label,
        n_atoms=len(start.structure),
        converged=failure is None,
        failure=None
        if failure is None
        else Failure(
            stage=kind.value,
            reason=failure[0],
            message=failure[1],
            fidelity=fidelity,
            defect=start.defect,
            charge=start.charge,
            start=start.label,
        ),
        n_calls=progress.calls + more_calls,
        calls_saved=progress.saved,
        seconds=progress.seconds,
        engine=EngineRecord(
            name="vasp", version=last.head.version if last else "unknown", settings=record
        ),
        band_edges=last.edges if last and failure is None else None,
        frontier=last.frontier.levels if last and last.frontier and failure is None else None,
        site_potentials=_potentials(last, order) if last and failure is None else None,
        final_energy=frames[-1].energy if frames else None,
        final_structure=frames[-1].structure if frames else None,
        n_frames=len(frames),
        notes=progress.notes,
        frames=frames,
    )


def written_inputs(inputs: Any, charge: int) -> dict[str, Any]:
    """Say which inputs VASP got, as calculations record it.

    Parameters
    ----------
    inputs
        The input set that was written.
    charge
        Of the cell.

    Returns
    -------
    dict
        ``charge``, ``incar`` without moments, ``kpoints`` and headers of ``potcars``.
    """
    incar = {k: v for k, v in dict(inputs["INCAR"]).items() if k != "MAGMOM"}
    return {
        "charge": charge,
        "incar": {k: v if isinstance(v, bool | int | float) else str(v) for k, v in incar.items()},
        "kpoints": str(inputs["KPOINTS"]),
        "potcars": [p.header for p in inputs["POTCAR"]],
    }


def _potentials(run: Run, order: CellOrder) -> list[float] | None:
    found = run.site_potentials()
    if found is None:
        return None
    return [float(value) for value in order.restored(found)]


def unfinished(calculation: Calculation) -> bool:
    """Tell whether another execution would continue this one."""
    failure = calculation.failure
    return failure is not None and failure.reason is FailureReason.WALLTIME


def can_continue(progress: Progress) -> bool:
    """Tell whether another execution may add to one that was stopped or killed."""
    stopped = watch.WALLTIME in progress.errors or not progress.finished
    few = progress.idle < IDLE_EXECUTIONS and progress.executions < MOST_EXECUTIONS
    return stopped and few


def _failure(
    progress: Progress,
    frames: list[Frame],
    start: StartStructure,
    kind: CalculationKind,
    settings: VaspSettings,
    limits: tuple[float, int],
) -> tuple[FailureReason, str] | None:
    """Why a calculation is not what was asked for; None if it is."""
    fmax, most_steps = limits
    stopped = watch.WALLTIME in progress.errors
    for name, reason, message in _REASONS:
        # An SCF that was stopped has not converged, which says nothing of the algorithm.
        if name in progress.errors and not (stopped and reason is FailureReason.SCF):
            return reason, message
    if frames and _exploded(frames, start):
        return FailureReason.EXPLODED, "forces or displacements of an explosion"
    if frames and _converged(frames[-1], kind, fmax):
        return None
    energies = [frame.energy for frame in frames]
    if kind is CalculationKind.RELAX and watch.has_stalled(
        energies, steps=settings.stalled_steps, tolerance=settings.stalled_energy
    ):
        return None
    if len(frames) >= most_steps and kind is CalculationKind.RELAX:
        return FailureReason.STEPS, f"forces above {fmax} eV/A after {len(frames)} steps"
    if stopped or not progress.finished:
        if can_continue(progress):
            return FailureReason.WALLTIME, f"stopped after {len(frames)} ionic steps; continues"
        return (
            FailureReason.OTHER,
            f"{progress.executions} executions, the last {progress.idle} without a new ionic step; "
            "give it more time or cores",
        )
    return _other(progress)


def _converged(frame: Frame, kind: CalculationKind, fmax: float) -> bool:
    # VASP compares before it rounds its output.
    return kind is CalculationKind.STATIC or _largest(frame) <= fmax * 1.001 + 1e-4


def _exploded(frames: list[Frame], start: StartStructure) -> bool:
    last = frames[-1]
    return watch.has_exploded(start.structure, last.structure) or _largest(last) > EXPLODED_FORCE


def _finite(step: RawStep) -> bool:
    return all(np.isfinite(x).all() for x in (step.energy, step.forces) if x is not None)


def _largest(frame: Frame) -> float:
    """Largest force on an atom, eV/A; VASP always has forces."""
    assert frame.forces is not None
    return float(np.linalg.norm(frame.forces, axis=1).max())


def _other(progress: Progress) -> tuple[FailureReason, str]:
    last = progress.runs[-1] if progress.runs else None
    if last is not None and last.steps and not last.steps[-1].scf_converged:
        return FailureReason.SCF, "the SCF of the last ionic step did not converge"
    what = "; ".join(dict.fromkeys(progress.errors)) or "VASP ended without a reason"
    return FailureReason.OTHER, what[:500]
