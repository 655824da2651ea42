"""The whole campaign as one flow, run in this process on real tight binding."""

from collections import Counter

import pytest

from defect_mf_flows.campaign import load_campaign
from defect_mf_flows.core.charge import charge_of
from defect_mf_flows.flows.campaign import CampaignMaker
from defect_mf_flows.jobs.common import Stage
from defect_mf_flows.results import CampaignResults
from defect_mf_flows.schemas.calculation import Calculation, CalculationKind
from defect_mf_flows.schemas.dataset import Dataset
from defect_mf_flows.schemas.loop import LoopState, StopVerdict
from defect_mf_flows.schemas.model import Model
from defect_mf_flows.schemas.search import SearchSet, Verdict, VerificationSet
from defect_mf_flows.testing import zinc_blende


def test_the_campaign_ends_with_a_verdict_for_every_charge(finished):
    states = finished.results.ground_states
    assert [(g.defect, g.charge) for g in states] == [("v_Zn", 0), ("v_Zn", -1)]
    assert all(g.verdict in Verdict for g in states)
    assert finished.results.stop in StopVerdict
    assert finished.results.stop_reason


def same_hash(run):
    """Results tell the hash under which all documents of their campaign are stored."""
    rows = run.store.docs_store.query({}, properties=["metadata"])
    assert {row["metadata"]["campaign_hash"] for row in rows} == {run.results.campaign_hash}
    known = CampaignResults(run.store, campaign_hash=run.results.campaign_hash)
    assert known.count(Calculation) == run.api.count(Calculation) > 0


def test_the_results_are_found_under_the_hash_that_they_tell(finished):
    same_hash(finished)


def test_verified_energies_are_those_of_the_high_fidelity_relaxations(finished):
    relaxed = {
        c.charge: [] for c in finished.api.documents(Calculation, fidelity="gfn2", kind="relax")
    }
    for c in finished.api.documents(Calculation, fidelity="gfn2", kind="relax"):
        if c.failure is None:
            relaxed[c.charge].append(c.final_energy)
    for state in finished.results.ground_states:
        assert state.energy_hf == min(relaxed[state.charge])
        assert charge_of(state.structure) == state.charge


def test_every_start_is_relaxed_in_every_charge_state(finished):
    done = Counter(
        (c.charge, c.start)
        for c in finished.api.documents(Calculation, fidelity="gfn1", kind="relax")
    )
    starts = {"Unperturbed", "Bond_Distortion_-30.0%", "Bond_Distortion_0.0%", "Dimer"}
    assert done == Counter({(q, start): 1 for q in (0, -1) for start in starts})


def test_every_ionic_step_is_kept_with_its_charge_and_fidelity(finished):
    frames = list(finished.api.frames(fidelity="gfn1", kind="relax"))
    counted = finished.results.counts["frames"]["gfn1"]
    assert len(frames) == counted
    assert {(f.fidelity, f.charge) for f in frames} == {("gfn1", 0), ("gfn1", -1)}
    assert all(charge_of(f.structure) == f.charge == f.lineage.charge for f in frames)


def test_the_first_labels_are_the_picks_and_nothing_else(finished):
    state = next(finished.api.documents(LoopState))
    labels = list(finished.api.documents(Calculation, fidelity="gfn2", kind="static", load=True))
    on_defects = [c for c in labels if c.defect is not None]
    assert len(on_defects) == len(state.picks.frames) == finished.results.counts["picked"]
    assert len(on_defects) < finished.results.counts["pick_candidates"]


def test_labels_of_one_relaxation_stay_on_one_side_of_the_split(finished):
    dataset = next(finished.api.documents(Dataset, load=True))
    sides = {}
    for entry in dataset.entries:
        sides.setdefault(entry.relaxation, set()).add(entry.split)
    assert all(len(found) == 1 for found in sides.values())
    single_points = [e for e in dataset.entries if e.fidelity == "gfn2"]
    low = {e.relaxation for e in dataset.entries if e.fidelity == "gfn1"}
    assert {e.relaxation for e in single_points} & low


def test_levels_follow_from_the_energies_and_the_host_band_edge(finished):
    energies = {g.charge: g for g in finished.results.ground_states}
    (level,) = finished.results.transition_levels
    assert (level.from_charge, level.to_charge) == (0, -1)
    vbm = finished.results.band_edges.vbm
    by_hand = energies[-1].energy_hf - energies[0].energy_hf - vbm
    assert level.hf == pytest.approx(by_hand, abs=1e-6)
    ends = [energies[charge].energy_model for charge in (-1, 0)]
    if None in ends:  # every relaxation on the tiny model was dropped: no level is made up
        assert level.model is None
    else:
        assert level.model == pytest.approx(ends[0] - ends[1] - vbm, abs=1e-6)


def test_cost_counts_every_reference_call(finished):
    costs = {(c.stage, c.fidelity): c for c in finished.results.cost}
    low = list(finished.api.documents(Calculation, fidelity="gfn1", kind="relax"))
    assert costs[Stage.LOW.value, "gfn1"].calls == sum(c.n_calls for c in low)
    assert costs[Stage.LOW.value, "gfn1"].jobs == len(low)
    assert costs[Stage.SEARCH.value, None].calls > 0
    assert costs[Stage.TRAINING.value, None].seconds > 0


def test_metrics_cover_every_head_and_charge_that_has_frames(finished):
    dataset = next(finished.api.documents(Dataset))
    measured = {f"{m.head}|{m.charge:+d}|{m.split}": m.n_frames for m in finished.results.metrics}
    known = {key: n for key, n in dataset.counts.items() if key in measured}
    assert measured == known
    trained = {key for key in dataset.counts if key.endswith("train")}
    assert trained <= set(measured)


def test_the_same_seed_picks_the_same_frames_and_another_seed_does_not(
    finished, run_campaign_here, tmp_path
):
    again = run_campaign_here(tmp_path, {})
    first, second = (next(run.api.documents(Dataset)) for run in (finished, again))
    assert first.dataset_hash == second.dataset_hash
    for one, other in zip(finished.results.ground_states, again.results.ground_states, strict=True):
        assert one.energy_hf == pytest.approx(other.energy_hf, abs=1e-6)
        assert one.energy_model == pytest.approx(other.energy_model, abs=1e-3)


def test_every_job_carries_stage_and_campaign(finished):
    rows = list(finished.store.query({}, properties=["metadata", "name"]))
    assert rows
    for row in rows:
        assert row["metadata"]["stage"] in {stage.value for stage in Stage}
        assert row["metadata"]["campaign"] == "tiny"


def test_makers_survive_the_serialisation_that_fireworks_uses(tiny_campaign):
    from monty.json import MontyDecoder, jsanitize

    campaign, structure = load_campaign(tiny_campaign)
    flow = CampaignMaker.from_campaign(campaign).make(structure)
    for job in flow.jobs:
        back = MontyDecoder().process_decoded(jsanitize(job.as_dict()))
        assert back.maker == job.maker
    explore = flow.jobs[1].maker
    assert explore.relax.kind is CalculationKind.RELAX
    assert explore.relax.settings == campaign.fidelities["gfn1"]


def test_a_wrong_verdict_starts_another_round_with_the_labels_it_gained(
    run_campaign_here, tmp_path
):
    """No relaxation stays within a millionth of an Angstrom, so the first verdicts are wrong."""
    changes = {"loop.max_rounds": 2, "verification.max_local_rmsd": 1e-6}
    run = run_campaign_here(tmp_path, changes)
    first, _ = run.results.rounds  # the second may start at a minimum that it cannot leave
    assert set(first.verdicts.values()) == {Verdict.WRONG}
    assert run.results.stop in {StopVerdict.BUDGET, StopVerdict.STALLED}
    before, after = run.api.documents(Dataset)
    gained = {k: after.counts[k] - before.counts.get(k, 0) for k in after.counts}
    assert sum(n for key, n in gained.items() if key.startswith("gfn2")) > 0
    assert all(n == 0 for key, n in gained.items() if key.startswith("gfn1"))
    searches = list(run.api.documents(SearchSet))
    starts = [{p.start for s in found.searches for p in s.points} for found in searches]
    failed = {f.start for s in searches[1].searches for f in s.failures}
    assert any(label.startswith("Verified_") for label in starts[1] | failed)
    assert not any(label.startswith("Verified_") for label in starts[0])
    low = [c for v in run.api.documents(VerificationSet, load=True) for x in v.verifications
           for c in x.candidates if c.origin == "low"]  # fmt: skip
    assert {c.round for c in low} == {1}  # its relaxation is not computed again


def test_what_a_round_verified_the_next_does_not_relax_again(run_campaign_here, tmp_path):
    """Every model is off by more than a millionth of an eV, so no verdict holds."""
    changes = {
        "loop.max_rounds": 2,
        "verification.max_energy_error": 1e-6,
        "verification.minima": 4,
    }
    run = run_campaign_here(tmp_path, changes)
    verified = list(run.api.documents(VerificationSet, load=True))[-1]
    known = [c for v in verified.verifications for c in v.candidates if c.known_from]
    assert known
    calculations = {c.job_uuid: c for c in run.api.documents(Calculation)}
    for candidate in known:
        assert candidate.round == 2
        *single, relaxation = (calculations[uuid] for uuid in candidate.calculations)
        assert relaxation.kind is CalculationKind.RELAX
        assert relaxation.charge == charge_of(candidate.structure)
        assert candidate.energy_relaxed == relaxation.final_energy
        # Only the model's ground state is compared with high fidelity again.
        asked = [(CalculationKind.STATIC, 1, relaxation.charge)] if candidate.rank == 0 else []
        assert [(c.kind, c.n_calls, c.charge) for c in single] == asked
        assert (candidate.energy_single_point is not None) == bool(asked)
    for ground in run.results.ground_states:
        assert ground.energy_error is not None
        best = min(
            c.energy_relaxed
            for v in verified.verifications
            for c in v.candidates
            if (v.defect, v.charge) == (ground.defect, ground.charge)
            and c.energy_relaxed is not None
        )
        assert ground.energy_hf == best


@pytest.mark.slow
def test_another_charge_term_and_strategy_run_through_the_same_campaign(
    run_campaign_here, tmp_path
):
    """Search and verification know neither; the dataset hands on the host (here a small cell)."""
    zinc_blende().get_primitive_structure().to(filename=str(tmp_path / "primitive.cif"))
    changes = {
        "training.charge_term": "intensive",
        "training.strategy": "delta",
        "host": {
            "structure": "primitive.cif",
            "supercell": [[-1, 1, 1], [1, -1, 1], [1, 1, -1]],
        },
    }
    finished = run_campaign_here(tmp_path, changes)
    same_hash(finished)
    (model,) = finished.api.documents(Model)
    assert (model.settings["charge_term"], model.settings["strategy"]) == ("intensive", "delta")
    assert model.host is not None
    assert model.host.energies.keys() == {"gfn1", "gfn2"}
    assert len(model.host.structure) == 2
    larger = model.reference(head="gfn2", charge=-1, composition="S8 Zn7")
    small = model.reference(head="gfn2", charge=-1, composition="S4 Zn3")
    assert larger == pytest.approx(small + 4 * model.host.energies["gfn2"])
    assert [g.charge for g in finished.results.ground_states] == [0, -1]
