"""The package's own search in the benchmark: its campaign, what it paid, and what it shares."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pymatgen.core import Structure
from pymatgen.io.vasp import Poscar

from defect_mf_flows.benchmark.pool import FMAX, HIGH, LOW, METHODS, keep
from defect_mf_flows.benchmark.search_ways import (
    OURS,
    Pair,
    Searches,
    SearchSize,
    Trial,
    Way,
)
from defect_mf_flows.campaign import FidelitySettings, campaign_hash, load_campaign
from defect_mf_flows.core.refinement import REACHED
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.jobs.first_relaxations import START
from defect_mf_flows.local.campaign import open_store
from defect_mf_flows.results import CampaignResults, Records
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind
from defect_mf_flows.schemas.results import Results
from defect_mf_flows.schemas.structures import symbols_of

#: What candidates of verification are, in words.
KINDS = {
    "model": "minimum of the model",
    "low": "low-fidelity minimum",
    "label": "label",
    START: "rattled start",
}

#: Two geometries are the same start if no atom differs by more, Angstrom.
SAME_START = 1e-6


def run_own(size: SearchSize, folder: Path, *, workers: int) -> tuple[Results, list[Calculation]]:
    """Run the package's own campaign, or continue it.

    Parameters
    ----------
    size
        What to search.
    folder
        Of the campaign.
    workers
        Processes.

    Returns
    -------
    results
        Of the finished campaign.
    done
        Its reference calculations with their frames, in the order in which they finished, each
        with all its calls: those of an earlier campaign, too.
    """
    file = campaign_file(size, folder)
    command = [sys.executable, "-m", "defect_mf_flows.cli", "run", str(file)]
    command += ["--folder", str(folder), "--workers", str(workers)]
    ended = subprocess.run(command, check=False)
    if ended.returncode:
        raise ResultsError(
            f"the campaign {file} ended with status {ended.returncode}; mend what it says above "
            "and run the benchmark again, it goes on from there."
        )
    results = Results.model_validate(json.loads((folder / "results.json").read_text()))
    with open_store(folder) as store:
        records = CampaignResults(store, campaign_hash=campaign_hash(*load_campaign(file)))
        return results, [in_full(done) for done in records.documents(Calculation, load=True)]


def earlier_minima(folder: Path, size: SearchSize, host: Structure) -> dict[Pair, float]:
    """Lowest ends of high-fidelity relaxations in a folder, whatever settings its campaigns had.

    Parameters
    ----------
    folder
        Of the campaign, in which others may have run before.
    size
        What is searched.
    host
        The pristine supercell.

    Returns
    -------
    dict
        Defect and charge -> eV per cell; infinite where no relaxation ended.
    """
    lowest = dict.fromkeys(size.each(), math.inf)
    with open_store(folder) as store:
        every = Records(store).documents(
            Calculation, load=True, fidelity=HIGH, kind=CalculationKind.RELAX.value
        )
        for done in every:
            pair = (str(done.defect), done.charge)
            if pair in lowest:
                lowest[pair] = min(lowest[pair], Trial.of(done, host).energy)
    return lowest


def in_full(done: Calculation) -> Calculation:
    """Charge a calculation the calls that an earlier campaign of the same folder made for it.

    Parameters
    ----------
    done
        Of the campaign, which reuses what a run with other settings has computed.

    Returns
    -------
    Calculation
        As if it had been computed now, but for the seconds.
    """
    calls, guide = done.n_calls + done.calls_saved, done.guide
    if guide is not None:
        spent = {"calls": guide.calls + guide.calls_saved, "calls_saved": 0}
        guide = guide.model_copy(update=spent)
    changes = {"n_calls": calls, "calls_saved": 0, "reused_from": None, "guide": guide}
    return done.model_copy(update=changes)


def own_way(size: SearchSize, done: Iterable[Calculation], host: Structure) -> Way:
    """Account for the campaign, each defect and charge with what was computed for it.

    Parameters
    ----------
    size
        What was searched.
    done
        The campaign's reference calculations, in the order in which they finished.
    host
        The pristine supercell.

    Returns
    -------
    Way
        One trial per high-fidelity calculation, in that order: labels, which find no minimum,
        and verifications. Calls on the pristine host, which all need, are shared equally and
        come first.
    """
    done, pairs = list(done), list(size.each())
    shared = {
        fidelity: sum(c.n_calls for c in done if c.defect is None and c.fidelity == fidelity)
        / len(pairs)
        for fidelity in (LOW, HIGH)
    }
    trials = {pair: [Trial(math.inf, shared[HIGH])] for pair in pairs}
    low = dict.fromkeys(pairs, shared[LOW])
    for calculation in done:
        if calculation.defect is None:
            continue
        pair = (calculation.defect, calculation.charge)
        if calculation.fidelity == HIGH:
            trials[pair].append(Trial.of(calculation, host))
            low[pair] += calculation.guide.calls if calculation.guide else 0
        else:
            low[pair] += calculation.n_calls
    return Way(OURS, trials, low, ordered=True)


def first_to_reach(
    size: SearchSize, done: Iterable[Calculation], host: Structure, best: Mapping[Pair, float]
) -> Counter[str]:
    """Count what the campaign's relaxations that first reached each ground state began from.

    Parameters
    ----------
    size
        What was searched.
    done
        The campaign's reference calculations, in the order in which they finished.
    host
        The pristine supercell.
    best
        Lowest known minima, eV per cell.

    Returns
    -------
    Counter
        Kind of start -> defects and charges; none where the campaign reached nothing.
    """
    first: dict[Pair, str] = {}
    for calculation in done:
        pair = (str(calculation.defect), calculation.charge)
        if calculation.fidelity != HIGH or pair in first or pair not in best:
            continue
        if Trial.of(calculation, host).energy - best[pair] <= REACHED:
            first[pair] = _kind(calculation.start)
    return Counter(first[pair] for pair in size.each() if pair in first)


def _kind(start: str) -> str:
    """What a high-fidelity relaxation of the campaign began from, by its label."""
    found = re.match(rf"(?:round\d+_)?(model|low|label|{START})\d", start)
    return KINDS[found[1]] if found else start


def account(results: Results) -> dict[str, float]:
    """High-fidelity calls by what they were for, and the seconds of training and search."""
    found: dict[str, float] = {}
    for cost in results.cost:
        if cost.fidelity == HIGH:
            calls = cost.calls + cost.calls_saved
            found[cost.stage] = found.get(cost.stage, 0.0) + calls
        elif cost.fidelity is None:
            found[f"{cost.stage}, seconds"] = cost.seconds
    return found


def share(searches: Searches, engines: dict[str, Any], done: Iterable[Calculation]) -> int:
    """Let the staged search read the campaign's low-fidelity relaxations of the same starts.

    Both relax the same starts with the same method. A calculation is shared unchanged, so that
    both are charged its calls and seconds; whatever differs is computed.

    Parameters
    ----------
    searches
        Whose cache is written.
    engines
        Method, force threshold and limit on steps per fidelity, as the campaign's results
        hold them.
    done
        The campaign's calculations, with frames.

    Returns
    -------
    int
        Calculations shared.
    """
    known = {
        (c.defect, c.charge, c.start): c
        for c in done
        if c.fidelity == LOW and c.kind is CalculationKind.RELAX
    }
    settings, count = FidelitySettings.model_validate(engines[LOW]), 0
    for pair in searches.size.each():
        for start in searches.starts(pair):
            task, found = searches.task(LOW, start), known.get((*pair, start.label))
            if found is None or found.spin != start.spin or task.settings != settings:
                continue
            if found.frames and _same(found.frames[0].structure, start.structure):
                if not task.path(searches.labels).is_file():
                    keep(task, found, searches.labels)
                count += 1
    return count


def _same(one: Structure, other: Structure) -> bool:
    if symbols_of(one) != symbols_of(other):
        return False
    if not np.allclose(one.lattice.matrix, other.lattice.matrix, rtol=0, atol=SAME_START):
        return False
    moved = one.frac_coords - other.frac_coords
    moved -= np.round(moved)
    return bool(np.abs(moved @ one.lattice.matrix).max() <= SAME_START)


def campaign_file(size: SearchSize, folder: Path) -> Path:
    """Write the file and the host of the package's own campaign.

    Parameters
    ----------
    size
        What to search, and with which settings.
    folder
        Of the campaign; made if it is not there.

    Returns
    -------
    Path
        The campaign file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # All digits: starts that differ in the seventh one would not be shared.
    cell = Poscar(size.cell).get_str(significant_figures=12)
    (folder / size.host.structure).write_text(cell)

    def method(fidelity: str) -> dict[str, Any]:
        settings = {"method": METHODS[fidelity]}
        return {"engine": "xtb", "settings": settings, "fmax": FMAX, "steps": size.steps}

    content = {
        "name": f"search-{size.subject or size.name or 'benchmark'}",
        "seed": size.seed,
        "reuse": True,
        "disclaimer": "Tight binding at Gamma: a test of the method.",
        "host": size.host.model_dump(mode="json", exclude_unset=True),
        "defects": size.wanted.model_dump(mode="json", exclude_unset=True),
        "fidelities": {LOW: method(LOW), HIGH: method(HIGH)},
        "roles": {"low": LOW, "high": HIGH},
        "starts": size.starts.model_dump(mode="json", exclude_unset=True),
        **size.campaign,
    }
    path = folder / "search.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
