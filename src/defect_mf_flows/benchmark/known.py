"""Ground states that are known, and the starts from which a model should find them."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pydantic import ValidationError
from pymatgen.core import Structure

from defect_mf_flows.benchmark.pool import (
    DEFECT,
    DISCLAIMER,
    LOW,
    METHODS,
    PoolSize,
    compute,
    defects_of,
    describe,
    relaxations,
)
from defect_mf_flows.benchmark.processes import executor
from defect_mf_flows.campaign import load_campaign
from defect_mf_flows.core.defects import generate_defects
from defect_mf_flows.core.starts import StartMaker
from defect_mf_flows.errors import DatasetError, ResultsError
from defect_mf_flows.schemas.defect import Defect, StartStructure
from defect_mf_flows.schemas.results import Results


@dataclass(frozen=True)
class Known:
    """One defect whose ground states are known.

    Attributes
    ----------
    defect
        In its supercell.
    ground
        Charge -> known ground state.
    starts
        Charge -> starts of the search.
    source
        Where the ground states come from, for the page.
    disclaimer
        What comparisons with them must not be taken for.
    own
        Charge -> RMSD and local RMSD (Angstrom) of the campaign's own model, if there is one.
    """

    defect: Defect
    ground: dict[int, Structure]
    starts: dict[int, list[StartStructure]]
    source: str
    disclaimer: str
    own: dict[int, tuple[float, float]] = field(default_factory=dict)


def from_pool(size: PoolSize, folder: Path, *, workers: int) -> list[Known]:
    """Ground states of the low fidelity's relaxations, computed if they are not cached.

    Parameters
    ----------
    size
        Which cell, charges and distortions.
    folder
        Cache of labels, shared with the other benchmarks.
    workers
        Single-threaded processes.

    Raises
    ------
    DatasetError
        If every relaxation of a charge failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    defects = defects_of(size)
    tasks = [task for _, task in relaxations("small", defects, size)]
    processes: ProcessPoolExecutor
    with executor(workers) as processes:
        done = list(processes.map(partial(compute, folder=folder), tasks))
    ground, starts = {}, {}
    for charge in size.charges:
        own = [(t, c) for t, c in zip(tasks, done, strict=True) if t.start.charge == charge]
        ends = [c.frames[-1] for _, c in own if c.failure is None and c.frames]
        if not ends:
            raise DatasetError(f"every relaxation of charge {charge:+d} failed; no ground state.")
        ground[charge] = min(ends, key=lambda frame: frame.energy).structure
        starts[charge] = [t.start for t, _ in own]
    method = METHODS[LOW]
    text = f"{describe(size)}. Known: the lowest end of {method} relaxations from the same starts"
    return [Known(defects.get(DEFECT), ground, starts, text, DISCLAIMER)]


def from_campaign(file: Path, folder: Path) -> list[Known]:
    """Verified ground states of a finished campaign.

    Parameters
    ----------
    file
        Campaign file.
    folder
        With its ``results.json``.

    Raises
    ------
    ResultsError
        If the folder holds no results.
    """
    campaign, host = load_campaign(file)
    try:
        results = Results.model_validate(json.loads((folder / "results.json").read_text()))
    except (OSError, ValueError, ValidationError) as error:
        raise ResultsError(
            f"{folder / 'results.json'} cannot be read ({str(error)[:120]}); give the folder of "
            "a finished campaign."
        ) from None
    defects = generate_defects(host, host=campaign.host, defects=campaign.defects)
    found = []
    for name in dict.fromkeys(state.defect for state in results.ground_states):
        states = [state for state in results.ground_states if state.defect == name]
        defect = defects.get(name)
        starts = {
            state.charge: StartMaker(
                defect,
                charge=state.charge,
                spin=campaign.defects.spin_of(name, state.charge),
                settings=campaign.starts,
                seed=campaign.seed,
            ).reference()
            for state in states
        }
        own = {
            state.charge: (state.rmsd, state.local_rmsd)
            for state in states
            if state.rmsd is not None and state.local_rmsd is not None
        }
        high = results.fidelities["high"]
        text = (
            f"{name} in {results.host['formula']}, {len(defect.supercell)} atoms, campaign "
            f"`{results.campaign}` ({results.campaign_hash[:12]}). Known: the ground states that "
            f"{high} verified"
        )
        ground = {state.charge: state.structure for state in states}
        found.append(Known(defect, ground, starts, text, results.disclaimer or "", own))
    return found
