from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from pymatgen.core import Lattice, Structure

from defect_mf_flows.core.environment import environments
from defect_mf_flows.core.starts import nearest_neighbours
from defect_mf_flows.learning.descriptors import project
from defect_mf_flows.schemas.calculation import BandEdges, Failure, FailureReason
from defect_mf_flows.schemas.defect import Defect
from defect_mf_flows.schemas.levels import ChargeShare, LevelOrder, LevelSpread, LevelUncertainty
from defect_mf_flows.schemas.loop import Acquisition, RoundSummary, StopVerdict
from defect_mf_flows.schemas.model import (
    Calibration,
    DescriptorMap,
    EpochRecord,
    HeadMetrics,
    ParityPoint,
)
from defect_mf_flows.schemas.refinement import Refinement, SearchThreshold, TriedCandidate
from defect_mf_flows.schemas.results import (
    FoundMinimum,
    GroundState,
    PesPoint,
    Results,
    StageCost,
    TransitionLevel,
)
from defect_mf_flows.schemas.search import Deviation, Fate, FateKind, Threshold, Verdict

DISCLAIMER = "Numbers of a stand-in engine. They say nothing about a real material."
STARTS = ["Unperturbed", "Bond_Distortion_-30.0%", "Bond_Distortion_0.0%", "Dimer", "Low_-1_0"]
VERDICTS = [Verdict.CONFIRMED, Verdict.LOWER, Verdict.WRONG]


def unrelaxed_cell(repeat: tuple[int, int, int] = (2, 2, 1)) -> Structure:
    """Cubic ZnS cells less one Zn."""
    atoms = bulk("ZnS", "zincblende", a=5.41, cubic=True).repeat(repeat)
    structure = Structure(
        Lattice(atoms.cell),
        atoms.get_chemical_symbols(),
        atoms.positions,
        coords_are_cartesian=True,
    )
    structure.remove_sites([0])
    return structure


def vacancy_cell(repeat: tuple[int, int, int] = (2, 2, 1)) -> Structure:
    """Cubic ZnS cells less one Zn, two of its neighbours pulled together."""
    structure = unrelaxed_cell(repeat)
    near = sorted(structure.get_neighbors_in_shell([0, 0, 0], 0, 2.5), key=lambda n: n.index)
    for neighbour in near[:2]:
        other = near[1] if neighbour is near[0] else near[0]
        structure.translate_sites(
            [neighbour.index], 0.22 * (other.coords - neighbour.coords), frac_coords=False
        )
    return structure


def ground_state(defect: str, charge: int, verdict: Verdict, **changes: Any) -> GroundState:
    structure = vacancy_cell()
    matrix = structure.distance_matrix
    sulphur = [i for i, s in enumerate(structure) if s.specie.symbol == "S"]
    shortest = min(float(matrix[i, j]) for i in sulphur for j in sulphur if i < j)
    lower = verdict is Verdict.LOWER
    reasons = {
        Verdict.CONFIRMED: "stays in place and is the lowest low-fidelity minimum, or equals it",
        Verdict.LOWER: "0.426 eV below the lowest low-fidelity minimum (Dimer), which stays",
        Verdict.WRONG: "Unperturbed (low) lies 0.074 eV lower at high fidelity",
    }
    values: dict[str, Any] = {
        "defect": defect,
        "charge": charge,
        "verdict": verdict,
        "reason": reasons[verdict],
        "energy_model": -830.7176 + charge,
        "energy_hf": -830.9759 + charge,
        "energy_error": 0.0123,
        "rmsd": 0.0485,
        "local_rmsd": 0.0512,
        "max_displacement": 0.0861,
        "start": "Unperturbed" if verdict is Verdict.WRONG else "Bond_Distortion_-30.0%",
        "found_by": "low" if verdict is Verdict.WRONG else "model",
        "starts": ["Bond_Distortion_-30.0%"],
        "n_minima": 5,
        "low_start": "Dimer",
        "low_is_ground_state": not lower,
        "low_excess": 0.4256 if lower else 0.0,
        "low_deviation": Deviation(rmsd=0.23, local_rmsd=0.24, max_displacement=0.43),
        "shortest_bonds": {
            "verified": float(shortest),
            "low": 3.8250 if lower else float(shortest),
        },
        "structure": structure.as_dict(),
    }
    return GroundState(**{**values, **changes})


def model_part(charges: list[int], frames: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    metrics, parity = [], []
    for head, scale in (("gfn1", 0.03), ("gfn2", 0.05)):
        for charge in charges:
            for split, share in (("test", 0.2), ("train", 0.6), ("valid", 0.2)):
                n = max(1, int(share * frames * (1 if head == "gfn1" else 0.3)))
                metrics.append(
                    HeadMetrics(
                        head=head,
                        charge=charge,
                        split=split,
                        n_frames=n,
                        energy_rmse_cell=28.4 if head == "gfn2" else 14.2,
                        energy_mae_cell=21.3,
                        energy_rmse_atom=0.92 if head == "gfn2" else 0.46,
                        relative_energy_rmse_cell=12.5,
                        force_rmse=33.7,
                        force_mae=20.1,
                    )
                )
                for energy in random.exponential(1.0, n):
                    parity.append(
                        ParityPoint(
                            head=head,
                            charge=charge,
                            split=split,
                            energy=float(energy),
                            energy_model=float(energy + random.normal(0, scale)),
                            force_rmse=float(20 * random.random()),
                        )
                    )
    history = [
        EpochRecord(
            epoch=e,
            train_loss=10 * math.exp(-e / 9) + 0.1,
            valid={
                head: {
                    "loss": 1.0,
                    "energy_rmse": start * math.exp(-e / 9) + 0.5,
                    "force_rmse": 4 * start * math.exp(-e / 12) + 20,
                }
                for head, start in (("gfn1", 120.0), ("gfn2", 200.0))
            },
            learning_rate=0.01,
        )
        for e in range(30)
    ]
    return {"metrics": metrics, "parity": parity, "history": history}


def search_part(states: list[tuple[str, int]], starts: list[str]) -> dict[str, Any]:
    random = np.random.default_rng(1)
    rounds = [
        RoundSummary(
            round=n,
            model="m",
            dataset="d",
            searches="s",
            verifications="v",
            verdicts={f"{d}|{q:+d}": VERDICTS[(i + n) % 3] for i, (d, q) in enumerate(states)},
            ground_energies={f"{d}|{q:+d}": -830.9 for d, q in states},
            energy_errors={f"{d}|{q:+d}": 0.1 / n for d, q in states},
            new_labels=4,
        )
        for n in (1, 2)
    ]
    pes = [
        PesPoint(
            defect=d,
            charge=q,
            source=source,
            start=start,
            energy=float(round(2 * random.random()) * 0.31 * (i > 0)),
            rmsd=float(0.4 * random.random() * (i > 0)),
        )
        for d, q in states
        for source in ("low", "model")
        for i, start in enumerate(starts)
        if not (source == "low" and start.startswith("Low_"))
    ]
    return {"rounds": rounds, "pes": pes}


def levels(defects: list[str], charges: list[int]) -> list[TransitionLevel]:
    return [
        TransitionLevel(
            defect=d,
            from_charge=high,
            to_charge=low,
            model=0.412 + 0.71 * i,
            hf=0.400 + 0.71 * i,
            low=-0.158 + 0.9 * i,
            thermodynamic=i != 1,
        )
        for d in defects
        for i, (high, low) in enumerate(itertools.pairwise(charges))
    ]


def make(
    defects: tuple[str, ...] = ("v_Zn",),
    charges: tuple[int, ...] = (1, 0, -1),
    frames: int = 20,
    starts: list[str] = STARTS,
    **changes: Any,
) -> Results:
    states = [(d, q) for d in defects for q in charges]
    splits = {
        f"{f}|{q:+d}|{s}": n
        for f, n in (("gfn1", 32), ("gfn2", 9))
        for q in charges
        for s in ("test", "train", "valid")
    }
    failure = Failure(
        stage="low fidelity",
        reason=FailureReason.STEPS,
        message="forces above 0.3 eV/A after 12 steps",
        fidelity="gfn1",
        defect=defects[0],
        charge=-1,
        start="Dimer",
    )
    values: dict[str, Any] = {
        "campaign": "zns-demo",
        "campaign_hash": "a6459b4c2dba3be3",
        "disclaimer": DISCLAIMER,
        "host": {"formula": "ZnS", "n_atoms": 32, "cell": vacancy_cell().lattice.matrix.tolist()},
        "fidelities": {"low": "gfn1", "high": "gfn2"},
        "engines": {
            "gfn1": {"engine": "xtb", "settings": {"method": "GFN1-xTB"}, "fmax": 0.05},
            "gfn2": {"engine": "xtb", "settings": {"method": "GFN2-xTB"}, "fmax": 0.05},
        },
        "stop": StopVerdict.BUDGET,
        "stop_reason": "v_Zn|-1 still wrong after max_rounds = 2",
        "ground_states": [ground_state(d, q, VERDICTS[i % 3]) for i, (d, q) in enumerate(states)],
        "transition_levels": levels(list(defects), list(charges)),
        "correction": "none (uncorrected for the finite cell)",
        "band_edges": BandEdges(vbm=-9.85, cbm=-8.85),
        **model_part(list(charges), frames),
        **search_part(states, starts),
        "counts": {
            "frames": {"gfn1": 969, "gfn2": 137},
            "labels": {"gfn1": 832, "gfn2": 127},
            "labels_by_split": splits,
            "picked": 80,
            "pick_candidates": 832,
            "failures": {"steps_exhausted": 1},
        },
        "failures": [failure],
        "cost": [
            StageCost(stage="low fidelity", fidelity="gfn1", jobs=42, calls=969, seconds=925.3),
            StageCost(stage="low fidelity (host)", fidelity="gfn1", jobs=1, calls=1, seconds=0.8),
            StageCost(stage="low fidelity (host)", fidelity="gfn2", jobs=1, calls=1, seconds=1.4),
            StageCost(stage="high fidelity", fidelity="gfn2", jobs=80, calls=80, seconds=117.2),
            StageCost(stage="training", fidelity=None, jobs=2, calls=0, seconds=1402.5),
            StageCost(stage="search", fidelity=None, jobs=128, calls=9168, seconds=183.4),
            StageCost(stage="verification", fidelity="gfn2", jobs=12, calls=57, seconds=88.0),
        ],
        "seeds": {"campaign": 1, "training": 538381476},
        "versions": {"python": "3.11.7", "defect-mf-flows": "0.1.0"},
    }
    return Results(**{**values, **changes})


@pytest.fixture
def make_results() -> Callable[..., Results]:
    return make


@pytest.fixture
def make_ground_state() -> Callable[..., GroundState]:
    return ground_state


@pytest.fixture(scope="session")
def results() -> Results:
    return make()


def uncertain_part(defect: str = "v_Zn") -> dict[str, Any]:
    """What a committee adds to results."""
    at_site = Fate(kind=FateKind.AT_SITE, name=defect, distance=0.0)
    fates = [
        at_site,
        Fate(kind=FateKind.MIGRATED, name=defect, distance=3.83),
        Fate(kind=FateKind.REARRANGED, name="S_Zn + v_S", distance=2.4),
        Fate(kind=FateKind.DISSOCIATED, name="S_i + v_S + v_Zn", distance=6.2),
    ]
    minima = [
        FoundMinimum(
            defect=defect, charge=0, rank=rank, energy=0.03 * rank,
            spread=0.0 if rank == 0 else 0.05, share=(0.7, 0.28, 0.02, 0.0)[rank],
            contender=rank == 1, fate=fate, n_starts=4 - rank, start="Bond_Distortion_-30.0%",
            verified=(0.0, 0.0412, None, None)[rank],
        )
        for rank, fate in enumerate(fates)
    ]  # fmt: skip
    spreads = [
        LevelSpread(
            from_charge=high, to_charge=low, energy=energy, mean=energy + 0.001, sd=0.0234,
            interval=(energy - 0.05, energy + 0.05), stable=0.93,
        )
        for high, low, energy in ((1, 0, 0.412), (0, -1, 1.122))
    ]  # fmt: skip
    told = LevelUncertainty(
        defect=defect, source="model", members=3, scale=1.5, draws=10_000, levels=spreads,
        orders=[LevelOrder(lower=(1, 0), upper=(0, -1), probability=0.93)],
        charges=[ChargeShare(charge=q, ever=0.93, in_gap=0.5) for q in (1, 0, -1)],
    )  # fmt: skip
    asked = Acquisition(
        round=1, defect=defect, charge=0, kind="crossing", label="between0and1at0.5",
        energy=0.21, spread=0.08, calculation="uuid",
    )  # fmt: skip
    calibration = Calibration(
        head="gfn2", scale=1.4, n={"valid": 5}, rmse={"valid": 20.0},
        coverage={"valid": {"0.68": 0.6, "0.95": 1.0}}, absolute_scale=1.5,
    )  # fmt: skip
    return {
        "ranked_minima": minima,
        "thresholds": [
            SearchThreshold(
                defect=defect, charge=0,
                threshold=Threshold(
                    value=2e-4, chosen=True, below=1e-5, above=4e-3, n_pairs=12
                ),
            ),
            SearchThreshold(
                defect=defect, charge=-1, threshold=Threshold(value=3e-4, chosen=False)
            ),
        ],
        "refinement": Refinement(
            n_states=3, success=[1 / 3, 1.0], tolerance=0.01, steps=6.5, n_relaxed=4
        ),
        "tried": [
            TriedCandidate(
                defect=defect, charge=0, round=1, origin="low", rank=0, start="Unperturbed",
                energy_model=0.31, energy_single_point=0.42, energy_relaxed=0.0, calls=8,
                outcome="the ground state",
            ),
            TriedCandidate(
                defect=defect, charge=-1, round=2, origin="model", rank=1, start="Low_+0_1",
                energy_model=0.02, low_error=-0.456,
                outcome="not relaxed: the model is -0.456 eV off the low fidelity at the minimum "
                "it predicts",
            ),
        ],
        "uncertainty": [told],
        "acquired": [asked],
        "calibration": calibration,
        "settings": {
            "training": {
                "committee": 3, "strategy": "joint", "charge_term": "categorical",
            },
            "split": {"by": "relaxation"},
            "picks": {"sampler": "stratified"},
        },
    }  # fmt: skip


def detailed_part() -> dict[str, Any]:
    """What newer documents add: distances at the defect, and maps of descriptors."""
    cell, dimer = unrelaxed_cell(), vacancy_cell()
    defect = Defect(
        name="v_Zn", charges=[1, 0, -1], site=[0, 0, 0], supercell=cell, neighbour_distance=2.34
    )
    nudged = dimer.copy()
    nudged.translate_sites([nearest_neighbours(defect)[0]], [0.01, 0, 0], frac_coords=False)
    grounds = [
        ground_state(
            "v_Zn", charge, VERDICTS[i],
            environments=environments(
                defect, {"verified": dimer, "model": None if charge == 1 else nudged, "low": cell}
            ),
        )
        for i, charge in enumerate((1, 0, -1))
    ]  # fmt: skip
    random = np.random.default_rng(3)
    charges = [q for q in (1, 0, -1) for _ in range(10)]
    rows = random.normal(size=(30, 6))
    apart = rows + 8 * np.outer(charges, np.eye(6)[0])
    maps = [
        DescriptorMap(
            defect="v_Zn", charges=charges, splits=(["train"] * 8 + ["valid", "test"]) * 3,
            starts=["Bond_Distortion_-30.0%"] * 30, n_frames=44, held_charge=0,
            with_charge=project(apart, charges), without_charge=project(rows, charges),
        )
    ]  # fmt: skip
    return {"ground_states": grounds, "descriptors": maps}


@pytest.fixture(scope="session")
def detailed() -> Results:
    """Results with distances at the defect and maps of descriptors."""
    return make(**detailed_part())


@pytest.fixture
def make_cell() -> Callable[..., Structure]:
    return vacancy_cell


@pytest.fixture(scope="session")
def uncertain() -> Results:
    """Results of a campaign with a committee."""
    return make(**uncertain_part())
