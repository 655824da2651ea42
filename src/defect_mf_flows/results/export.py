"""Files for other programs: extended XYZ, and doped's JSON."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import ase.io
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from defect_mf_flows.core.charge import frame_to_atoms
from defect_mf_flows.core.levels import State, thermodynamics
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.results.campaign import CampaignResults
from defect_mf_flows.results.records import Records
from defect_mf_flows.results.selection import ANY, Selection, listed
from defect_mf_flows.schemas.calculation import BandEdges, Calculation, CalculationKind
from defect_mf_flows.schemas.frame import Frame
from defect_mf_flows.schemas.results import Results


def export_extxyz(records: Records, path: Path, *, force: bool = False, **filters: Any) -> int:
    """Write frames as extended XYZ, one calculation in memory at a time.

    Parameters
    ----------
    records
        Where the frames are.
    path
        File to write; compressed if it ends in ``.gz``.
    force
        Whether an existing file may be replaced.
    **filters
        Fields of :class:`~defect_mf_flows.results.Selection`.

    Returns
    -------
    int
        Number of frames.

    Raises
    ------
    ResultsError
        If the file exists, or no frame fits.

    Notes
    -----
    Every image carries ``charge``, ``total_charge``, ``spin`` (where known), ``fidelity``, its
    lineage and ``content_hash``, and the labels twice: as ``REF_energy`` and ``REF_forces``,
    which this package reads back, and as the results of ASE's calculator.
    """
    count = 0
    with _new_file(path, force) as partial, _text(partial) as file:
        for frame in records.frames(**filters):
            ase.io.write(file, _labelled(frame), format="extxyz")
            count += 1
        if not count:
            raise ResultsError("no frame fits the selection; nothing was written.")
    return count


@contextmanager
def _text(path: Path) -> Iterator[TextIO]:
    """Open a text file for writing; the same frames give the same compressed bytes."""
    if path.suffix != ".gz":
        with path.open("w", encoding="utf-8") as plain:
            yield plain
        return
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8") as text,
    ):
        yield text


def _labelled(frame: Frame) -> Atoms:
    atoms = frame_to_atoms(frame)
    atoms.info["content_hash"] = frame.content_hash
    labels: dict[str, Any] = {"energy": frame.energy}
    if frame.forces is not None:
        labels["forces"] = frame.forces
    if frame.stress is not None:
        labels["stress"] = full_3x3_to_voigt_6_stress(frame.stress)
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms


def export_doped(
    campaign: CampaignResults, path: Path, *, force: bool = False, **filters: Any
) -> int:
    """Write the verified ground states as doped's ``DefectThermodynamics``, corrections included.

    Parameters
    ----------
    campaign
        A finished campaign.
    path
        File to write; ``.json`` or ``.json.gz``.
    force
        Whether an existing file may be replaced.
    **filters
        ``defect``, ``charge`` and ``fidelity``, which can only be the high one.

    Returns
    -------
    int
        Number of defect entries, one per charge state.

    Raises
    ------
    ResultsError
        If the file exists, no ground state fits, or the host's band edges are not known.
    """
    from monty.serialization import dumpfn

    extra = set(filters) - {"defect", "charge", "fidelity"}
    if extra:
        raise ResultsError(
            f"{', '.join(sorted(extra))}: a ground state is not selected by this; choose from "
            "defect, charge, fidelity."
        )
    selection = campaign.select(**filters)
    results, defects = campaign.results(), campaign.defects()
    edges = _edges(results, selection)
    chosen = [
        g
        for g in results.ground_states
        if (selection.defect is ANY or g.defect in listed(selection.defect))
        and (selection.charge is ANY or g.charge in listed(selection.charge))
    ]
    if not chosen:
        raise ResultsError("no verified ground state fits the selection; nothing was written.")
    corrections = {(c.defect, c.charge): c for c in results.corrections}
    made = thermodynamics(
        defects.defects,
        defects.host,
        states={
            (g.defect, g.charge): State(
                g.energy_hf,
                g.structure,
                corrections.get((g.defect, g.charge)),
                g.residual_force,
                g.lower_by,
            )
            for g in chosen
        },
        host_energy=_host_energy(campaign, results.fidelities["high"]),
        edges=edges,
        fidelity=results.fidelities["high"],
    )
    for entry in made.defect_entries.values():
        entry.calculation_metadata["correction"] = results.correction
    with _new_file(path, force) as partial:
        dumpfn(made, partial)
    return len(chosen)


def _edges(results: Results, selection: Selection) -> BandEdges:
    high = results.fidelities["high"]
    if selection.fidelity is not ANY and listed(selection.fidelity) != [high]:
        raise ResultsError(
            f"fidelity: only {high!r} verified ground states; leave it out, or export extxyz."
        )
    if results.band_edges is None:
        raise ResultsError(
            f"the band edges of the host are not known at {high!r}; set levels.vbm and "
            "levels.band_gap in the campaign file."
        )
    return results.band_edges


def _host_energy(campaign: CampaignResults, fidelity: str) -> float:
    """Pristine supercell, eV per cell."""
    for host in campaign.documents(
        Calculation, defect=None, fidelity=fidelity, kind=CalculationKind.STATIC
    ):
        if host.failure is None and host.final_energy is not None:
            return host.final_energy
    raise ResultsError(f"the store holds no energy of the pristine host at {fidelity!r}.")


@contextmanager
def _new_file(path: Path, force: bool) -> Iterator[Path]:
    """Yield a file that takes the final name once it is complete.

    Raises
    ------
    ResultsError
        If the final name is taken and must not be, or its folder is missing.
    """
    if path.exists() and not force:
        raise ResultsError(f"{path} exists; give another name, or --force to replace it.")
    if not path.parent.is_dir():
        raise ResultsError(f"{path.parent} is no folder; make it, or give another name.")
    # The ending stays: it says whether the content is compressed.
    partial = path.with_name(f".partial-{path.name}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
