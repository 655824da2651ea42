"""Results are gathered from a loop that ended, with what the last model says of itself."""

import numpy as np
import pytest

from defect_mf_flows.core.charge import with_charge
from defect_mf_flows.core.matching import deviation
from defect_mf_flows.core.starts import nearest_neighbours
from defect_mf_flows.errors import ResultsError
from defect_mf_flows.jobs.results import Gathering, no_ground_state, pes_points, unfinished_below
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind
from defect_mf_flows.schemas.dataset import Picks
from defect_mf_flows.schemas.loop import LoopState
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.search import (
    Candidate,
    Exploration,
    Minimum,
    Search,
    SearchPoint,
    Verdict,
    Verification,
)


def test_a_loop_without_a_stop_verdict_has_no_results(defect_set):
    """No verdict is made up for it."""
    picks = Picks(frames=[], n_candidates=0, strata={})
    state = LoopState(low=[], labels=[], origins={}, picks=picks)
    exploration = Exploration(calculations=[], hosts={}, searches=[])
    with pytest.raises(ResultsError, match="no stop verdict after 0"):
        Gathering(None, defect_set, exploration, state)


def test_the_best_epoch_is_that_of_the_last_model(finished):
    (model,) = finished.api.documents(Model)
    assert finished.results.best_epoch == model.best_epoch


def test_ranking_and_thresholds_of_the_last_search_are_results(finished):
    results = finished.results
    states = {(g.defect, g.charge) for g in results.ground_states}
    assert {(t.defect, t.charge) for t in results.thresholds} == states
    found = results.refinement
    assert found.n_states == len(states)
    assert found.success == sorted(found.success)
    verified = [m for m in results.ranked_minima if m.verified is not None]
    assert len(found.success) >= max(m.rank for m in verified) + 1
    best = {(m.defect, m.charge) for m in verified if m.verified <= found.tolerance}
    assert found.success[-1] == len(best) / len(states)
    ends = [
        c
        for c in finished.api.documents(Calculation, fidelity=results.fidelities["high"])
        if c.kind is CalculationKind.RELAX and c.converged
    ]
    assert 0 < found.n_relaxed <= len(ends)
    assert min(c.n_frames for c in ends) - 1 <= found.steps <= max(c.n_frames for c in ends) - 1


def test_a_charge_without_a_ground_state_says_why_its_relaxations_failed(make_start, compute):
    start = make_start(-1)
    failed = [compute(start, uuid=f"job {k}", max_iterations=1) for k in range(3)]
    candidate = Candidate(
        origin="model",
        round=1,
        rank=0,
        start="Unperturbed",
        energy_model=0.0,
        structure=start.structure,
        calculations=["job 0", "job 1"],
    )
    verification = Verification(
        defect="v_Zn",
        charge=-1,
        round=1,
        verdict=Verdict.WRONG,
        reason="",
        model_ground=0,
        ground_state=None,
        energy_error=None,
        candidates=[candidate],
    )
    failure = no_ground_state(verification, failed)
    assert (failure.defect, failure.charge) == ("v_Zn", -1)
    assert "not converged in 1 cycles (2 times)" in failure.message, "the third is another's"
    assert "left none" in no_ground_state(verification, []).message


def test_a_relaxation_out_of_steps_below_all_that_ended_leaves_the_ground_state_open(
    make_start, compute
):
    cut = compute(make_start(-1), kind=CalculationKind.RELAX, fmax=0.001, steps=2)
    assert cut.final_energy is not None
    above, below = cut.final_energy + 0.1, cut.final_energy - 0.1

    def search(energy: float, charge: int = -1) -> Search:
        minimum = Minimum(energy=energy, structure=cut.final_structure, starts=["x"])
        return Search(defect="v_Zn", charge=charge, source="low", minima=[minimum], points=[])

    assert unfinished_below(search(above), [cut]) == [cut.start]
    assert unfinished_below(search(below), [cut]) == []
    assert unfinished_below(search(above, charge=0), [cut]) == []
    ended = cut.model_copy(update={"failure": None})
    assert unfinished_below(search(above), [ended]) == []


def pulled_in(vacancy, neighbour: int):
    """One of the four equivalent neighbours moves 0.35 A towards the vacancy."""
    structure = with_charge(vacancy.supercell, -1)
    index = nearest_neighbours(vacancy)[neighbour]
    towards = np.array(vacancy.site) - structure[index].frac_coords
    towards = structure.lattice.get_cartesian_coords(towards - np.round(towards))
    step = 0.35 * towards / np.linalg.norm(towards)
    structure.translate_sites([index], step, frac_coords=False)
    return structure


def test_a_turned_copy_of_the_ground_state_has_no_distance_from_it(vacancy):
    truth, turned = pulled_in(vacancy, 0), pulled_in(vacancy, 1)
    assert deviation(turned, truth, vacancy.site).local_rmsd > 0.1
    candidate = Candidate(
        origin="model", round=1, rank=0, start="a", energy_model=-1.0, structure=truth,
        relaxed=truth,
    )  # fmt: skip
    verification = Verification(
        defect="v_Zn", charge=-1, round=1, verdict=Verdict.CONFIRMED, reason="", model_ground=0,
        ground_state=0, energy_error=0.0, candidates=[candidate],
    )  # fmt: skip
    symmetric = with_charge(vacancy.supercell, -1)
    search = Search(
        defect="v_Zn",
        charge=-1,
        source="high",
        minima=[
            Minimum(structure=turned, energy=-1.0, starts=["a"]),
            Minimum(structure=symmetric, energy=-0.5, starts=["b"]),
        ],
        points=[
            SearchPoint(start=start, energy=energy, converged=True, steps=3, minimum=minimum)
            for start, energy, minimum in (("a", -1.0, 0), ("b", -0.5, 1))
        ],
    )
    same, other = pes_points(verification, vacancy, search, "model")
    assert (same.charge, same.source, same.energy) == (-1, "model", 0.0)
    assert same.rmsd < 0.01
    assert other.energy == 0.5
    assert other.rmsd > 0.05
    lost = verification.model_copy(update={"ground_state": None})
    assert pes_points(lost, vacancy, search, "model") == []
